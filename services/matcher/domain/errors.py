"""The one exception of this domain."""


class Refused(Exception):
    """A command that cannot be done now. ``code`` is stable and for programs, ``words`` are for the person."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class Contradiction(Refused):
    """What was asked for makes no sense, now or later."""


class Unknown(Refused):
    """There is no such thing, or it is not theirs to know of."""

    def __init__(self, what: str) -> None:
        super().__init__("not_found", f"There is no such {what}.")
