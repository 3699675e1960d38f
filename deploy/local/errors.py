"""The one exception that leaves this package."""


class ServerError(Exception):
    """Something about the local servers went wrong; the message says what, and what to do about it."""
