"""Two worlds that differ in one private wish are the same to everybody but the member who has it.

A few people and a coordinator act by calls that hypothesis draws, on the real matcher, feedback and notifier (see
`in_memory_platform.py`). After each call, and when every open proposal has lapsed, everybody but the member with the
wish looks at everything that they may read. The answers, the open events and the mails of both worlds must be equal,
with all their times. The fits of the pairs lie so far apart that a round has one best result.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

import pytest
import uuid_utils
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from chassis.storage.aggregates import KeyReused
from chassis.web.authentication import Role
from chassis.web.http import PageRequest, Problem
from contracts.catalogue import TOPICS
from contracts.errors import CommandRejected, InvalidCommand, NotFound
from contracts.notifications import NOTIFICATIONS
from contracts.profiles import ContactChanged, Enrolment, Offer, ProfileChanged, Seek, Side, TakingPart
from contracts.programmes import Care, Draw, Labels, Matching, Meetings, ProgrammeSettings
from services.matcher.pairings.request_routes import AskBody
from services.matcher.pairings.routes import AnswerBody, PairBody
from services.matcher.programmes.routes import NewProgramme
from services.matcher.rolling.worker import RollingWorker
from services.matcher.rounds.review_routes import AdjustedPair, AdjustmentBody, ResolveBody
from services.matcher.rounds.routes import NewRound
from tests.lifecycle.in_memory_platform import InMemoryPlatform

BEGIN = datetime(2026, 1, 5, 7, tzinfo=UTC)
FIRST_CALL, BETWEEN_CALLS = BEGIN + timedelta(hours=6), timedelta(hours=5)
END = BEGIN + timedelta(days=30)  # every proposal that was made by a call has lapsed
PROGRAMME = "two-worlds"
OPEN = frozenset(topic.name for topic in TOPICS if not topic.readers)
SENIORS, JUNIORS = ("s1", "s2", "s3"), ("j1", "j2", "j3")
MEMBERS = (*SENIORS, *JUNIORS)
COORDINATOR = "carla"
TOPICS_OF = {  # what each person offers and seeks: every pair fits, and no two pairs equally well
    "s1": ({"negotiation": "teach", "leadership": "teach", "budgeting": "teach"}, {"generative-ai": 3}),
    "s2": ({"negotiation": "teach"}, {"generative-ai": 2, "prompt-writing": 1}),
    "s3": ({"negotiation": "use", "leadership": "explain"}, {"prompt-writing": 3, "generative-ai": 1}),
    "j1": ({"generative-ai": "teach"}, {"negotiation": 3}),
    "j2": ({"generative-ai": "use", "prompt-writing": "teach"}, {"leadership": 2, "negotiation": 2}),
    "j3": ({"generative-ai": "explain", "prompt-writing": "explain"}, {"budgeting": 1, "negotiation": 2}),
}
REFUSALS = (CommandRejected, InvalidCommand, NotFound, KeyReused, Problem)
ID = re.compile(r"00000000-0000-0000-0000-[0-9a-f]{12}|[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
SALTED = re.compile(r'"(inputs|senior|junior|settings)": "[0-9a-f]{64}"')

Mode = Literal["cohort", "rolling", "automatic"]


class StillChance(random.Random):
    """No record is late or comes twice, and the mail server accepts every mail."""

    def random(self) -> float:
        return 0.5


@dataclass(frozen=True)
class Call:
    """One call. ``nth``: of the objects that the caller can see (rounds, pairings, ...), the one to act on."""

    who: str
    act: str
    pair: tuple[str, str] = ("s1", "j1")
    nth: int = 0
    yes: bool = True


@dataclass(frozen=True)
class Wish:
    """``before``: the number of the call before which it is made; 0 means that it was there from the beginning."""

    of: str
    against: str
    before: int = 0


@dataclass
class ObservedWorld:
    """``seen``: what was observed, in order: a label, and the text."""

    company: InMemoryPlatform
    mode: Mode
    capacity: int
    wish: Wish | None
    wisher: str
    seen: list[tuple[str, str]] = field(default_factory=list)

    async def set_up(self) -> None:
        body = NewProgramme(settings=_settings(self.mode), programme_id=PROGRAMME)
        await self._call(COORDINATOR, "POST /programmes", "create", body=body)
        await self._call(COORDINATOR, "POST /programmes/{id}/open", "open", id=PROGRAMME)
        for id in MEMBERS:
            self._say(id, self.wish.against if self.wish and self.wish.of == id and self.wish.before == 0 else None)
        self.company.say(_contact(COORDINATOR, None))
        self.worker = RollingWorker(self.company.matcher)

    def make_wish(self) -> None:
        if self.wish is not None and self.wish.before > 0:
            self._say(self.wish.of, self.wish.against)

    def _say(self, id: str, avoided: str | None) -> None:
        self.company.say(_profile(id, self.capacity, avoided))
        self.company.say(_contact(id, avoided))

    async def work(self) -> None:
        """The worker of rolling matching does all that is to be done."""
        while await self.worker.step():
            pass

    async def make(self, call: Call, number: int) -> None:
        await ACTS[call.act](self, call, f"{number}")

    async def look(self, label: str) -> None:
        """Everybody but the member with the wish reads everything."""
        for who in (COORDINATOR, *MEMBERS):
            if who != self.wisher:
                await (self._look_as_coordinator(label) if who == COORDINATOR else self._look_as_member(who, label))

    async def _look_as_coordinator(self, label: str) -> None:
        see = self._reader(COORDINATOR, label)
        rounds = await see("GET /programmes/{id}/rounds", id=PROGRAMME)
        for n, round in enumerate(rounds):
            for of in ("", "/proposals", "/unmatched", "/summary", "/adjustments"):
                await see(f"GET /rounds/{{id}}{of}", n, id=round["round_id"])
            for m, other in enumerate(rounds):
                await see("GET /rounds/{id}/compare/{other}", (n, m), id=round["round_id"], other=other["round_id"])
        for of in ("free", "conflicts", "learning"):
            await see(f"GET /programmes/{{id}}/{of}", id=PROGRAMME, limit=50)
        for state in ("open", "released", "dismissed"):
            await see("GET /programmes/{id}/suggestions", state, id=PROGRAMME, state=state)
        await see("POST /programmes/{id}/suggestions", id=PROGRAMME, limit=20)
        for n, pairing in enumerate(await see("GET /pairings", programme_id=PROGRAMME)):
            await self._look_at_receipt(see, n, pairing)
        for id in MEMBERS:
            await see("GET /ledgers/{member_id}", id, member_id=id)

    async def _look_as_member(self, who: str, label: str) -> None:
        see = self._reader(who, label)
        await see("GET /programmes/{id}/shortlist", id=PROGRAMME, limit=10)
        await see("GET /programmes/{id}/why-not", id=PROGRAMME)
        await see("GET /ledgers/{member_id}", member_id=who)
        await see("GET /requests")
        for n, pairing in enumerate(await see("GET /pairings", mine=True)):
            await see("GET /pairings/{id}", n, id=pairing["pairing_id"])
            await self._look_at_receipt(see, n, pairing)
        inbox = await self._answer(who, "GET /inbox", "look", service="notifier", unread=False, paging=_all())
        items = [json.dumps({**item, "id": None}, sort_keys=True) for item in inbox["items"]]
        self.seen.append((f"{label}: {who} reads the inbox", "\n".join(sorted(items))))

    @staticmethod
    async def _look_at_receipt(see: Any, n: int, pairing: dict[str, Any]) -> None:
        await see("GET /pairings/{id}/receipt", n, id=pairing["pairing_id"])
        await see("GET /receipts/{id}/verification", n, id=pairing["receipt_id"])

    def _reader(self, who: str, label: str) -> Any:
        async def see(route: str, of: object = "", **arguments: Any) -> list[Any]:
            given = {"paging": _all(), "state": None, "mine": False, "programme_id": None, "round_id": None}
            answer = await self._answer(who, route, "look", **{**given, **arguments})
            self.seen.append((f"{label}: {who} {route} {of}", json.dumps(answer, sort_keys=True, indent=1)))
            return answer.get("items", []) if isinstance(answer, dict) else []

        return see

    async def _call(self, who: str, route: str, key: str, **arguments: Any) -> Any:
        answer = await self._answer(who, route, key, **arguments)
        self.seen.append((f"call {key}: {who} {route}", json.dumps(answer, sort_keys=True, indent=1)))
        return answer

    async def _answer(self, who: str, route: str, key: str, *, service: str = "matcher", **arguments: Any) -> Any:
        """The answer as JSON; that of a refusal has its code and its text."""
        roles: Sequence[Role] = ("member", "coordinator", "admin") if who == COORDINATOR else ("member",)
        try:
            answer = await self.company.call(service, route, who, roles, key=f"{key}/{route}", **arguments)
        except REFUSALS as refusal:
            return {"refused": type(refusal).__name__, "code": getattr(refusal, "code", None), "text": str(refusal)}
        return _as_json(answer)

    async def items(self, who: str, route: str, **arguments: Any) -> list[Any]:
        given = {"paging": _all(), "state": None, "mine": who != COORDINATOR, "round_id": None}
        answer = await self._answer(who, route, "find", **{**given, "programme_id": None, **arguments})
        return list(answer.get("items", []))

    def report(self) -> list[tuple[str, str]]:
        """All observations with the open events and the mails; ids that are drawn are numbered as they occur."""
        lines = [*self.seen]
        messages = []
        for said in self.company.log:
            if said.topic not in OPEN:
                continue
            data = json.loads(said.value) if said.value else None
            about = f"{said.at} {said.envelope.type} {said.envelope.time} {said.envelope.sequence}"
            if said.topic == NOTIFICATIONS.name:  # an aggregate each: those of one moment have no fixed order
                fields = {**(data or {}), "notification_id": None, "cause_id": None, "pairing_id": None}
                messages.append(("message", f"{about} {json.dumps(fields, sort_keys=True)}"))
            else:
                text = f"{about} {said.envelope.subject} {json.dumps(data, sort_keys=True)}"
                lines.append((f"event {said.envelope.type}", text))
        lines += sorted(messages)
        mails = [
            (f"mail to {mail.letter.to}", f"{mail.at} {mail.letter.subject} {ID.sub('id', mail.letter.text)}")
            for mail in self.company.post.arrived
            if not mail.letter.to.startswith(f"{self.wisher}@")
        ]
        lines += sorted(mails)
        numbers: dict[str, str] = {}
        renamed = lambda match: numbers.setdefault(match.group(), f"id-{len(numbers)}")  # noqa: E731
        return [(label, SALTED.sub("salted", ID.sub(renamed, text))) for label, text in lines]


def _all() -> PageRequest:
    return PageRequest(limit=200, after=None)


def _as_json(answer: Any) -> Any:
    if isinstance(answer, BaseModel):
        return answer.model_dump(mode="json")
    return [_as_json(item) for item in answer] if isinstance(answer, list) else answer


def _settings(mode: Mode) -> ProgrammeSettings:
    return ProgrammeSettings(
        labels={"en": Labels(name="Two Worlds")},
        organisations=("halden",),
        coordinators=(COORDINATOR,),
        confidential_contact="ombuds",
        matching=Matching(
            shortlist=True,
            mode="cohort" if mode == "cohort" else "rolling",
            release="automatic" if mode == "automatic" else "coordinator",
            draw=Draw(tolerance=0),
        ),
        meetings=Meetings(booked_by="senior"),
        care=Care(messages_per_week=20),  # a high limit: the order of two messages of one moment is random
    )


def _profile(id: str, capacity: int, avoided: str | None) -> ProfileChanged:
    offers, seeks = TOPICS_OF[id]
    side: Side = "senior" if id in SENIORS else "junior"
    part = Enrolment(programme_id=PROGRAMME, side=side, state="ready", capacity=capacity, waiting_since=BEGIN)
    return ProfileChanged(
        member_id=id,
        organisation_id="halden",
        department_id=f"department-of-{side}s",
        level=12 if side == "senior" else 5,
        offers=tuple(Offer.model_validate({"topic": topic, "level": level}) for topic, level in offers.items()),
        seeks=tuple(Seek(topic=topic, priority=priority) for topic, priority in seeks.items()),
        time_zone="Europe/Berlin",
        avoid=(avoided,) if avoided else (),
        enrolments=(part,),
    )


def _contact(id: str, avoided: str | None) -> ContactChanged:
    part = TakingPart(programme_id=PROGRAMME, state="ready", since=BEGIN)
    return ContactChanged.model_validate(
        {
            "member_id": id,
            "display_name": f"Name of {id}",
            "email": f"{id}@halden.example",
            "channels": ("email", "inbox"),
            "time_zone": "Europe/Berlin",
            "avoid": (avoided,) if avoided else (),
            "taking_part": [part] if id in MEMBERS else [],
        }
    )


async def _start_round(world: ObservedWorld, call: Call, key: str) -> None:
    trial: dict[str, Any] | None = None if call.yes else {"matching": {"shortlist": False}}
    body = NewRound(seed=call.nth, trial=trial)
    await world._call(call.who, "POST /programmes/{id}/rounds", key, id=PROGRAMME, body=body)


def _on_round(path: str, body: Callable[[Call], object] = lambda _: None) -> Any:
    async def act(world: ObservedWorld, call: Call, key: str) -> None:
        rounds = await world.items(COORDINATOR, "GET /programmes/{id}/rounds", id=PROGRAMME)
        if rounds:
            id = rounds[call.nth % len(rounds)]["round_id"]
            await world._call(call.who, f"POST /rounds/{{id}}/{path}", key, id=id, body=body(call))

    return act


async def _undo(world: ObservedWorld, call: Call, key: str) -> None:
    for round in await world.items(COORDINATOR, "GET /programmes/{id}/rounds", id=PROGRAMME):
        for change in await world._answer(COORDINATOR, "GET /rounds/{id}/adjustments", "find", id=round["round_id"]):
            route, id = "POST /rounds/{id}/adjustments/{adjustment}/undo", round["round_id"]
            await world._call(call.who, route, key, id=id, adjustment=change["adjustment_id"])
            return


async def _swap(world: ObservedWorld, call: Call, key: str) -> None:
    for round in await world.items(COORDINATOR, "GET /programmes/{id}/rounds", id=PROGRAMME):
        proposals = await world.items(COORDINATOR, "GET /rounds/{id}/proposals", id=round["round_id"])
        pairs = [
            AdjustedPair(senior=pair["senior"]["member_id"], junior=pair["junior"]["member_id"]) for pair in proposals
        ]
        if len(pairs) >= 2:
            first = call.nth % len(pairs)
            both = pairs[first], pairs[(first + 1) % len(pairs)]
            body = AdjustmentBody(kind="swap", swap=both)
            await world._call(call.who, "POST /rounds/{id}/adjustments", key, id=round["round_id"], body=body)
            return


async def _pair(world: ObservedWorld, call: Call, key: str) -> None:
    body = PairBody(senior=call.pair[0], junior=call.pair[1])
    await world._call(call.who, "POST /programmes/{id}/pairings", key, id=PROGRAMME, body=body)


async def _ask(world: ObservedWorld, call: Call, key: str) -> None:
    """The caller asks the one of the pair who is on the other side."""
    body = AskBody(partner=call.pair[1] if call.who in SENIORS else call.pair[0])
    await world._call(call.who, "POST /programmes/{id}/requests", key, id=PROGRAMME, body=body)


def _on_request(verb: str) -> Any:
    async def act(world: ObservedWorld, call: Call, key: str) -> None:
        if requests := await world.items(call.who, "GET /requests"):
            id = requests[call.nth % len(requests)]["request_id"]
            await world._call(call.who, f"POST /requests/{{id}}/{verb}", key, id=id)

    return act


def _on_pairing(verb: str, body: Callable[[Call], object] = lambda _: None) -> Any:
    async def act(world: ObservedWorld, call: Call, key: str) -> None:
        of = {"programme_id": PROGRAMME} if call.who == COORDINATOR else {}
        if pairings := await world.items(call.who, "GET /pairings", **of):
            id = pairings[call.nth % len(pairings)]["pairing_id"]
            await world._call(call.who, f"POST /pairings/{{id}}/{verb}", key, id=id, body=body(call))

    return act


def _on_suggestion(verb: str) -> Any:
    async def act(world: ObservedWorld, call: Call, key: str) -> None:
        waiting = await world.items(COORDINATOR, "GET /programmes/{id}/suggestions", id=PROGRAMME, state="open")
        if waiting:
            id = waiting[call.nth % len(waiting)]["suggestion_id"]
            await world._call(call.who, f"POST /suggestions/{{id}}/{verb}", key, id=id)

    return act


def _adjust(kind: Literal["lock", "forbid"]) -> Callable[[Call], AdjustmentBody]:
    return lambda call: AdjustmentBody(kind=kind, pair=AdjustedPair(senior=call.pair[0], junior=call.pair[1]))


ACTS: dict[str, Any] = {
    "start a round": _start_round,
    "publish": _on_round("publish"),
    "resolve": _on_round("resolve", lambda call: ResolveBody(whole=call.yes)),
    "discard": _on_round("discard"),
    "lock": _on_round("adjustments", _adjust("lock")),
    "forbid": _on_round("adjustments", _adjust("forbid")),
    "swap": _swap,
    "undo": _undo,
    "pair": _pair,
    "release": _on_suggestion("release"),
    "dismiss": _on_suggestion("dismiss"),
    "end": _on_pairing("end"),
    "ask": _ask,
    "withdraw": _on_request("withdraw"),
    "accept a request": _on_request("accept"),
    "decline a request": _on_request("decline"),
    "answer": _on_pairing("answer", lambda call: AnswerBody(answer="accepted" if call.yes else "declined")),
}
OF_COORDINATORS = (
    "start a round", "start a round", "publish", "publish", "resolve", "discard", "lock", "forbid", "swap", "undo",
    "pair", "release", "dismiss", "end",
)  # fmt: skip
OF_MEMBERS = ("ask", "ask", "withdraw", "accept a request", "decline a request", "answer", "answer", "end")
Sequences: TypeAlias = Sequence[Call]


@contextmanager
def numbered_ids() -> Iterator[None]:
    """New ids are numbers, so that they can be told from derived ones."""
    numbers = iter(range(1, 1 << 40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uuid_utils, "uuid7", lambda: UUID(int=next(numbers)))
        yield


def observe(wish: Wish | None, wisher: str, calls: Sequences, before: int, mode: Mode, capacity: int) -> Any:
    """Live through the calls; returns everything that was observed."""

    async def live() -> list[tuple[str, str]]:
        company = InMemoryPlatform(BEGIN, StillChance())
        world = ObservedWorld(company, mode, capacity, wish, wisher)
        company.do(BEGIN, world.set_up)
        for n, call in enumerate(calls, start=1):
            at = FIRST_CALL + n * BETWEEN_CALLS

            async def act(n: int = n, call: Call = call) -> None:
                if n == before:
                    world.make_wish()
                else:
                    await world.make(call, n)

            company.do(at, act)
            company.do(at + timedelta(minutes=30), world.work)
            company.do(at + timedelta(hours=1), lambda n=n: world.look(f"after call {n}"))  # type: ignore[misc]
        company.do(BEGIN + timedelta(hours=1), world.work)
        for days in (3, 16, 18):
            company.do(BEGIN + timedelta(days=days), world.work)
        company.do(END - timedelta(hours=1), lambda: world.look("at the end"))
        await company.live(END)
        return world.report()

    with numbered_ids():
        return asyncio.run(live())


def compare_worlds(wish: Wish, calls: Sequences, mode: Mode = "cohort", capacity: int = 1) -> None:
    """Fails at the first observation that differs between the worlds with the wish and without it."""
    slots: list[Call] = list(calls)
    if wish.before:
        slots.insert(wish.before - 1, Call(COORDINATOR, "publish"))  # the place of the wish
    with_wish, without = (observe(made, wish.of, slots, wish.before, mode, capacity) for made in (wish, None))
    for observed, expected in zip(with_wish, without, strict=False):
        assert observed == expected
    assert len(with_wish) == len(without)


def calls_of(wisher: str) -> st.SearchStrategy[Call]:
    pairs = st.tuples(st.sampled_from(SENIORS), st.sampled_from(JUNIORS))
    others = st.sampled_from([id for id in MEMBERS if id != wisher])
    by_coordinator = st.tuples(st.just(COORDINATOR), st.sampled_from(OF_COORDINATORS))
    by_member = st.tuples(others, st.sampled_from(OF_MEMBERS))
    made = st.one_of(by_coordinator, by_coordinator, by_member)
    return st.builds(
        lambda by, pair, nth, yes: Call(by[0], by[1], pair, nth, yes), made, pairs, st.integers(0, 2), st.booleans()
    )


@st.composite
def wishes_and_calls(draw: st.DrawFn) -> tuple[Wish, Sequences]:
    senior, junior = draw(st.sampled_from(SENIORS)), draw(st.sampled_from(JUNIORS))
    of, against = draw(st.sampled_from([(senior, junior), (junior, senior)]))
    calls = draw(st.lists(calls_of(of), min_size=1, max_size=4))
    return Wish(of, against, draw(st.integers(0, len(calls) + 1))), calls


ROUND, PUBLISH = Call(COORDINATOR, "start a round"), Call(COORDINATOR, "publish")


class TestTwoWorlds:
    @pytest.mark.parametrize("before", [0, 1, 2, 3])
    @pytest.mark.parametrize(
        "calls",
        [
            [ROUND, PUBLISH],
            [ROUND, Call(COORDINATOR, "lock"), Call(COORDINATOR, "resolve", yes=False), PUBLISH],
            [ROUND, Call(COORDINATOR, "resolve")],
            [ROUND, Call(COORDINATOR, "start a round", nth=1, yes=False)],
            [ROUND, Call(COORDINATOR, "swap"), Call(COORDINATOR, "resolve", yes=False), PUBLISH],
            [Call(COORDINATOR, "pair")],
            [Call(COORDINATOR, "pair"), Call("s1", "answer")],
            [Call("s1", "ask")],
            [Call("s1", "ask"), Call("s1", "withdraw")],
        ],
    )
    def test_named_attacks_tell_nothing(self, calls: Sequences, before: int) -> None:
        compare_worlds(Wish("j1", "s1", before), calls)

    @pytest.mark.parametrize("before", [0, 1])
    @pytest.mark.parametrize("mode", ["rolling", "automatic"])
    def test_suggestions_tell_nothing(self, mode: Mode, before: int) -> None:
        release = Call(COORDINATOR, "release")
        compare_worlds(Wish("j1", "s1", before), [release, release], mode)

    @settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
    @given(
        drawn=wishes_and_calls(), mode=st.sampled_from(["cohort", "rolling", "automatic"]), capacity=st.integers(1, 2)
    )
    def test_no_sequence_of_calls_tells_of_a_wish(
        self, drawn: tuple[Wish, Sequences], mode: Mode, capacity: int
    ) -> None:
        compare_worlds(*drawn, mode, capacity)


class TestProposalAgainstWish:
    @pytest.mark.parametrize("before", [0, 2])
    def test_only_the_member_with_the_wish_is_told(self, before: int) -> None:
        """The junior sees that they need not answer, and gets no reminder; the senior gets one, as ever."""
        pair = Call(COORDINATOR, "pair")
        wish = Wish("j1", "s1", before)

        async def live(made: Wish | None) -> tuple[list[Any], list[str]]:
            company = InMemoryPlatform(BEGIN, StillChance())
            world = ObservedWorld(company, "cohort", 1, made, "j1")
            shown: list[Any] = []

            async def look() -> None:
                for who in ("s1", "j1"):
                    shown.extend(item["you"]["rather_not"] for item in await world.items(who, "GET /pairings"))

            async def propose() -> None:
                await world.make(pair, 1)

            async def wish_later() -> None:
                world.make_wish()

            company.do(BEGIN, world.set_up)
            company.do(FIRST_CALL, propose)
            company.do(FIRST_CALL + BETWEEN_CALLS, wish_later)
            company.do(FIRST_CALL + 2 * BETWEEN_CALLS, look)
            await company.live(END)
            subjects = [f"{mail.letter.to} {mail.letter.subject}" for mail in company.post.arrived]
            return shown, [subject for subject in subjects if "answer" in subject.lower()]

        (shown, reminders), (plain, plain_reminders) = asyncio.run(live(wish)), asyncio.run(live(None))
        assert (shown, plain) == ([False, True], [False, False])
        assert len(plain_reminders) == 2
        assert [reminder for reminder in plain_reminders if not reminder.startswith("j1@")] == reminders
