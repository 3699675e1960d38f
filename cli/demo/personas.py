"""The simulated people: each joins through HTTP as themselves. What they want is in `wishes.json`."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.demo.http_client import DemoCaller, DemoServices
from cli.demo.preferences import HiddenTraits
from cli.sample.generate import FOLDER

_ENTERED_FIELDS = ("offers", "seeks", "experience_band", "languages", "availability", "meeting_mode")


@dataclass(frozen=True)
class Persona:
    """One of the sample company, as the demo plays them."""

    external_id: str
    member_id: str
    name: str
    wish: Mapping[str, Any]

    @property
    def traits(self) -> HiddenTraits:
        found = self.wish["hidden"]
        return HiddenTraits(
            tuple(found["taste"]),
            tuple(found["comes_across"]),
            frozenset(found["drawn_to"]),
            found["busy"],
            found["forgetful"],
        )


class Personas:
    """Everybody of the sample who was imported, by member id."""

    def __init__(self, web: DemoServices, members: Iterable[Mapping[str, Any]]) -> None:
        wishes = json.loads((FOLDER / "wishes.json").read_text(encoding="utf-8"))
        self._web = web
        self.by_member_id: dict[str, Persona] = {}
        for member in members:
            for known in member["external_ids"]:
                if known["id"] in wishes:
                    human = Persona(known["id"], member["member_id"], member["name"], wishes[known["id"]])
                    self.by_member_id[human.member_id] = human
        self._ids = {human.external_id: human.member_id for human in self.by_member_id.values()}

    def caller_of(self, human: Persona) -> DemoCaller:
        return self._web.member(human.member_id)

    def joining_personas(self) -> list[Persona]:
        return [human for human in self.by_member_id.values() if human.wish["joins"]]

    async def join(self, programme: str, notice: str, done: Callable[[], None]) -> None:
        """Everybody who wants to take part enters what they offer, seek and like, and enrols."""

        async def one(human: Persona) -> None:
            await self._join(human, programme, notice)
            done()

        async with asyncio.TaskGroup() as group:
            for human in self.joining_personas():
                group.create_task(one(human))

    async def _join(self, human: Persona, programme: str, notice: str) -> None:
        me, wish = self.caller_of(human), human.wish
        await me.put("profiles", "/members/me/entered", {name: wish[name] for name in _ENTERED_FIELDS})
        await me.put("profiles", "/members/me/statements", {"language": "en", "answers": wish["statements"]})
        if avoided := [self._ids[one] for one in wish["avoid"] if one in self._ids]:
            await me.put("profiles", "/members/me/avoid", {"members": avoided})
        place = {"side": wish["side"], "capacity": wish["capacity"], "notice": notice}
        await me.put("profiles", f"/members/me/enrolments/{programme}", place)
