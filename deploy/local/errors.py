"""The one exception that leaves this package."""


class ServerError(Exception):
    """A local server failed. The message names the problem and gives advice."""
