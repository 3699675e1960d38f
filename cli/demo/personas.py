"""The simulated people. Each joins over HTTP with their own token. Their wishes are in `wishes.json`."""

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
    """One simulated person of the sample company."""

    external_id: str
    member_id: str
    name: str
    wish: Mapping[str, Any]

    @property
    def traits(self) -> HiddenTraits:
        hidden = self.wish["hidden"]
        return HiddenTraits(
            tuple(hidden["taste"]),
            tuple(hidden["comes_across"]),
            frozenset(hidden["drawn_to"]),
            hidden["busy"],
            hidden["forgetful"],
        )


class Personas:
    """All imported people of the sample, by member id."""

    def __init__(self, web: DemoServices, members: Iterable[Mapping[str, Any]]) -> None:
        wishes = json.loads((FOLDER / "wishes.json").read_text(encoding="utf-8"))
        self._web = web
        self.by_member_id: dict[str, Persona] = {}
        for member in members:
            for external_id in member["external_ids"]:
                if external_id["id"] in wishes:
                    persona = Persona(external_id["id"], member["member_id"], member["name"], wishes[external_id["id"]])
                    self.by_member_id[persona.member_id] = persona
        self._ids = {persona.external_id: persona.member_id for persona in self.by_member_id.values()}

    def caller_of(self, persona: Persona) -> DemoCaller:
        return self._web.member(persona.member_id)

    def joining_personas(self) -> list[Persona]:
        return [persona for persona in self.by_member_id.values() if persona.wish["joins"]]

    async def join(self, programme: str, notice: str, done: Callable[[], None]) -> None:
        """Let everybody who wants to take part enter their data and enrol. ``done`` is called after each person."""

        async def join_one(persona: Persona) -> None:
            await self._join(persona, programme, notice)
            done()

        async with asyncio.TaskGroup() as group:
            for persona in self.joining_personas():
                group.create_task(join_one(persona))

    async def _join(self, persona: Persona, programme: str, notice: str) -> None:
        me, wish = self.caller_of(persona), persona.wish
        await me.put("profiles", "/members/me/entered", {name: wish[name] for name in _ENTERED_FIELDS})
        await me.put("profiles", "/members/me/statements", {"language": "en", "answers": wish["statements"]})
        if avoided := [self._ids[external_id] for external_id in wish["avoid"] if external_id in self._ids]:
            await me.put("profiles", "/members/me/avoid", {"members": avoided})
        participation = {"side": wish["side"], "capacity": wish["capacity"], "notice": notice}
        await me.put("profiles", f"/members/me/enrolments/{programme}", participation)
