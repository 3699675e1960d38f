"""The simulated people: each joins through HTTP as themselves. What they want is in `wishes.json`."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.demo.http_client import Caller, Web
from cli.demo.preferences import Hidden
from cli.sample.generate import FOLDER

_ENTERED = ("offers", "seeks", "experience_band", "languages", "availability", "meeting_mode")


@dataclass(frozen=True)
class Human:
    """One of the sample company, as the demo plays them."""

    external_id: str
    member_id: str
    name: str
    wish: Mapping[str, Any]

    @property
    def hidden(self) -> Hidden:
        found = self.wish["hidden"]
        return Hidden(
            tuple(found["taste"]),
            tuple(found["comes_across"]),
            frozenset(found["drawn_to"]),
            found["busy"],
            found["forgetful"],
        )


class Crowd:
    """Everybody of the sample who was imported, by member id."""

    def __init__(self, web: Web, members: Iterable[Mapping[str, Any]]) -> None:
        wishes = json.loads((FOLDER / "wishes.json").read_text(encoding="utf-8"))
        self._web = web
        self.people: dict[str, Human] = {}
        for member in members:
            for known in member["external_ids"]:
                if known["id"] in wishes:
                    human = Human(known["id"], member["member_id"], member["name"], wishes[known["id"]])
                    self.people[human.member_id] = human
        self._ids = {human.external_id: human.member_id for human in self.people.values()}

    def as_themselves(self, human: Human) -> Caller:
        return self._web.member(human.member_id)

    def joining(self) -> list[Human]:
        return [human for human in self.people.values() if human.wish["joins"]]

    async def join(self, programme: str, notice: str, done: Callable[[], None]) -> None:
        """Everybody who wants to take part enters what they offer, seek and like, and enrols."""

        async def one(human: Human) -> None:
            await self._join(human, programme, notice)
            done()

        async with asyncio.TaskGroup() as group:
            for human in self.joining():
                group.create_task(one(human))

    async def _join(self, human: Human, programme: str, notice: str) -> None:
        me, wish = self.as_themselves(human), human.wish
        await me.put("profiles", "/members/me/entered", {name: wish[name] for name in _ENTERED})
        await me.put("profiles", "/members/me/statements", {"language": "en", "answers": wish["statements"]})
        if avoided := [self._ids[one] for one in wish["avoid"] if one in self._ids]:
            await me.put("profiles", "/members/me/avoid", {"members": avoided})
        place = {"side": wish["side"], "capacity": wish["capacity"], "notice": notice}
        await me.put("profiles", f"/members/me/enrolments/{programme}", place)
