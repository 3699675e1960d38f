"""The simulated people: each joins and answers through HTTP as themselves. What they want is in `wishes.json`."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from cli.demo.preferences import Hidden, answer
from cli.demo.web import Refusal, Web
from cli.sample.generate import FOLDER

_SEED = 5
_ENTERED = ("offers", "seeks", "experience_band", "languages", "availability", "meeting_mode")
_TOO_LATE = frozenset({"not_proposed", "already_answered", "wrong_state", "not_found"})
"""The partner was faster to decline, or the question is closed: an ordinary thing."""


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
        me, wish = self._web.member(human.member_id), human.wish
        await me.put("profiles", "/members/me/entered", {name: wish[name] for name in _ENTERED})
        await me.put("profiles", "/members/me/statements", {"language": "en", "answers": wish["statements"]})
        if avoided := [self._ids[one] for one in wish["avoid"] if one in self._ids]:
            await me.put("profiles", "/members/me/avoid", {"members": avoided})
        place = {"side": wish["side"], "capacity": wish["capacity"], "notice": notice}
        await me.put("profiles", f"/members/me/enrolments/{programme}", place)

    async def answer(self, members: Iterable[str], done: Callable[[], None]) -> Counter[str]:
        """Each of these looks at what was proposed to them and answers, or forgets. How many did what."""
        did: Counter[str] = Counter()

        async def one(human: Human) -> None:
            did.update(await self._answer(human))
            done()

        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(one(self.people[member]))
        return did

    async def _answer(self, human: Human) -> list[str]:
        me, did = self._web.member(human.member_id), []
        async for pairing in me.pages("matcher", "/pairings", state="proposed"):
            if pairing.get("you", {}).get("answer"):
                continue
            partner = next(one["member_id"] for one in pairing["participants"] if one["member_id"] != human.member_id)
            topics = {focus["topic_id"] for focus in pairing["focus"]}
            chance = Random(f"{_SEED} {human.external_id} {self.people[partner].external_id}")
            choice, reason = answer(human.hidden, self.people[partner].hidden, topics, chance)
            if choice == "forget":
                did.append("forgotten")
                continue
            said = {"answer": "accepted"} if choice == "accept" else {"answer": "declined", "reason": reason}
            try:
                await me.post("matcher", f"/pairings/{pairing['pairing_id']}/answer", said)
            except Refusal as refusal:
                if refusal.reason not in _TOO_LATE:
                    raise
                did.append("too late")
            else:
                did.append(said["answer"] or "")
        return did
