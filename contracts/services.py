"""The services. Their number may grow; nothing in an event depends on it."""

SERVICES = ("profiles", "matcher", "notifier", "feedback")
