"""Names of members, as far as whoever asks may see them."""

from collections.abc import Iterable

from cli.api import Api
from cli.console import Failure
from cli.formatting import listed


class Names:
    """Each is asked for once."""

    def __init__(self, profiles: Api) -> None:
        self._profiles = profiles
        self._known: dict[str, str | None] = {}

    def known(self, member_id: str) -> str | None:
        """None for whoever may not be seen, or exists no longer."""
        if member_id not in self._known:
            try:
                self._known[member_id] = str(self._profiles.get(f"/members/{member_id}")["name"])
            except Failure:
                self._known[member_id] = None
        return self._known[member_id]

    def of(self, member_id: str) -> str:
        """The id where there is no name to be told."""
        return self.known(member_id) or member_id

    def both(self, members: Iterable[str]) -> str:
        return listed([self.of(member) for member in members])
