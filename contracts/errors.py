"""Errors that the domains of all services raise when they cannot carry out a command.

``chassis.web`` answers them with a problem document: ``CommandRejected`` with status 409, ``InvalidCommand`` with 422
and ``NotFound`` with 404.

    CommandRejected
    ├── InvalidCommand
    └── NotFound
"""


class CommandRejected(Exception):
    """The command cannot be carried out in the current state.

    ``code`` is stable and for programs. ``detail`` is for people and holds no personal data.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class InvalidCommand(CommandRejected):
    """The command is never valid, whatever the state."""


class NotFound(CommandRejected):
    """The target of the command does not exist, or the caller may not know that it exists.

    ``kind`` names the kind of thing, such as "pairing".
    """

    def __init__(self, kind: str, *, code: str = "not_found", detail: str | None = None) -> None:
        super().__init__(code, detail or f"There is no such {kind}.")
