"""The names of members, as far as the caller may see them."""

from collections.abc import Iterable

from cli.api import ServiceClient
from cli.console import Failure
from cli.formatting import join_words


class MemberNames:
    """Looks up each name once."""

    def __init__(self, profiles: ServiceClient) -> None:
        self._profiles = profiles
        self._names: dict[str, str | None] = {}

    def find(self, member_id: str) -> str | None:
        """The name; None when the caller may not see the member, or the member no longer exists."""
        if member_id not in self._names:
            try:
                self._names[member_id] = str(self._profiles.get(f"/members/{member_id}")["name"])
            except Failure:
                self._names[member_id] = None
        return self._names[member_id]

    def name_or_id(self, member_id: str) -> str:
        """The name, or the id when there is no visible name."""
        return self.find(member_id) or member_id

    def join(self, members: Iterable[str]) -> str:
        return join_words([self.name_or_id(member) for member in members])
