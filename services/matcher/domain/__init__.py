"""The decisions of the matcher, free of storage, messaging, HTTP and numeric libraries."""
