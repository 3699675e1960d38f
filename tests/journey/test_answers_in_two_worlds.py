"""Two worlds on running services that differ only in the side of a refusal, or in the answers of one person.

All observable data must be equal: records of every open topic with their order and gaps, views of coordinator, admin
and partner, messages, mails and metrics.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contracts.catalogue import SERVICES, TOPICS
from tests.journey.conditions import wait_until
from tests.journey.people import JourneyPerson, Json, Members, Side, a_programme, admin, ok
from tests.journey.stack import Stack
from tests.journey.wire_capture import read

PROGRAMME = "two-worlds"
OPEN = [topic.name for topic in TOPICS if not topic.readers]
RESTRICTED = [topic.name for topic in TOPICS if topic.readers]
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)")
OF_MACHINES = re.compile("seconds|lag|outbox|due|retried|republished|created")
"""Metrics about the state of the machine."""


@dataclass
class PairWorld:
    """One of the two worlds. Their members have equal HR data and equal entries."""

    members: Members
    senior: str
    junior: str
    pairing: str = ""
    figures: list[Mapping[str, float]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/pairings/{self.pairing}"

    def lasts(self, act: Callable[[], object]) -> None:
        """Act, wait for all effects, and record the change of each metric."""
        before = figures(self.members.stack)
        act()
        rest(self.members.stack)
        after = figures(self.members.stack)
        changed = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
        self.figures.append(changed)


@pytest.fixture(scope="module")
def worlds(second_stack: Stack) -> tuple[PairWorld, PairWorld]:
    sides: tuple[Side, Side] = ("senior", "junior")
    people = [
        JourneyPerson(
            f"TW-{side}-{n}",
            side,
            f"Twin {side.title()}",
            department,
            email=f"tw.{side}.{n}@halden.example",
            capacity=3,
        )
        for side, department in zip(sides, ("finance", "sales"), strict=True)
        for n in (0, 1)
    ]
    # a high limit: the order of two messages of one moment is random
    members = a_programme(second_stack, PROGRAMME, people, care={"messages_per_week": 20})
    rest(second_stack)
    first, other = (PairWorld(members, members.ids[f"TW-senior-{n}"], members.ids[f"TW-junior-{n}"]) for n in (0, 1))
    return first, other


def rest(stack: Stack) -> None:
    """Wait until all messages of this moment are sent and all events are processed."""
    notes = stack.database("notifier")["notifications"]

    def said() -> bool:
        now = stack.clock.now().strftime("%Y-%m-%dT%H:%M:%S")
        return notes.find_one({"$or": [{"lease": {"$ne": None}}, {"due": {"$ne": None, "$lte": now}}]}) is None

    stack.settle()
    wait_until(said, "all due messages sent")
    stack.settle()


def alike(text: str) -> str:
    """Remove ids and times, which always differ."""
    return TIME.sub("TIME", ID.sub("ID", text))


def figures(stack: Stack) -> Mapping[str, float]:
    """The business metrics of every service."""
    values: dict[str, float] = {}
    for service in SERVICES:
        text = httpx.get(f"{stack.management_urls[service]}/metrics", trust_env=False).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith("viceversa_") and not OF_MACHINES.search(sample.name):
                    values[f"{service} {sample.name} {sorted(sample.labels.items())}"] = sample.value
    return values


def event_lines(world: PairWorld, topics: Sequence[str] = OPEN) -> list[str]:
    """Every record about the pairing, in the order of its topic, with the gaps before it.

    Messages have no fixed order, because each is its own aggregate.
    """
    said, lines, last = [], [], dict.fromkeys(topics, 0)
    mine = {world.pairing.encode(), world.senior.encode(), world.junior.encode()}
    for record in read(world.members.stack, *topics):
        if record.value is None or world.pairing.encode() not in record.value + (record.key or b""):
            continue
        type, sequence = (record.header("ce_type") or b"").decode(), int(record.header("ce_sequence") or b"0")
        if record.topic == "notifications.v1":
            assert record.key in mine
            side = "senior" if record.key == world.senior.encode() else "junior"
            lines.append(f"{side} {type} {alike(record.value.decode())}")
        else:
            gap = sequence - last[record.topic] if last[record.topic] else 0
            said.append(f"{record.topic} {gap} {type} {alike(record.value.decode())}")
            last[record.topic] = sequence
    return sorted(said, key=lambda line: line.partition(" ")[0]) + sorted(lines)


def seen(world: PairWorld, *, partner: Side | None) -> list[str]:
    """The views of a coordinator and an admin on the pairing, and all views of the answering member's partner."""
    stack, members = world.members.stack, world.members
    pages: list[httpx.Response | str] = []
    for api in (members.coordinator, lambda service: stack.api(service, admin(stack))):
        pages += [api("matcher").get(world.path), api("feedback").get(f"{world.path}/care")]
        pages += [api("feedback").get(f"{world.path}/checkins")]
        listed = api("matcher").get("/pairings", params={"programme_id": PROGRAMME, "limit": 200})
        cared = api("feedback").get(f"/programmes/{PROGRAMME}/care", params={"limit": 200})
        pages += [
            f"{content}"
            for page in (listed, cared)
            for content in ok(page)["items"]
            if content["pairing_id"] == world.pairing
        ]
    if partner is not None:
        id = world.senior if partner == "senior" else world.junior
        matcher, feedback = members.matcher(id), members.feedback(id)
        pages += [
            matcher.get(world.path),
            *(feedback.get(world.path + of) for of in ("/care", "/checkins", "/ideas")),
        ]
        pages += [feedback.get("/checkins")]
        inbox: list[Json] = ok(members.notifier(id).get("/inbox", params={"limit": 200}))["items"]
        pages += sorted(
            f"{content['purpose']} {content['by_email']} {content['subject']} {content['text']}" for content in inbox
        )
    return [
        alike(content if isinstance(content, str) else f"{content.status_code} {named(content)} {content.text}")
        for content in pages
    ]


def named(answer: httpx.Response) -> str:
    return str(sorted((name, value) for name, value in answer.headers.items() if name not in ("date", "traceresponse")))


def mails(world: PairWorld) -> list[int]:
    """The number of mails to each member of the pair."""
    taken = world.members.stack.mails().values()
    number = {world.members.ids[person.external_id]: person.email.encode() for person in world.members.people}
    return [sum(b"<" + number[id] + b">" in mail for mail in taken) for id in (world.senior, world.junior)]


def report(world: PairWorld) -> str:
    return str(ok(world.members.coordinator("feedback").get(f"/programmes/{PROGRAMME}/report")))


def put(world: PairWorld, senior: str, junior: str) -> str:
    pair = {"senior": senior, "junior": junior}
    answer = world.members.coordinator().post(f"/programmes/{PROGRAMME}/pairings", json=pair)
    return str(ok(answer)["pairing_id"])


def same(worlds: tuple[PairWorld, PairWorld], *, partner: Side | None) -> None:
    first, other = worlds
    assert event_lines(first) == event_lines(other)
    assert seen(first, partner=partner) == seen(other, partner=partner)
    assert mails(first) == mails(other)
    assert first.figures == other.figures


def begins(world: PairWorld, rating: int, at: str) -> None:
    junior = world.members.feedback(world.junior)
    answers = {"answers": {"1": rating, "2": rating}, "call_me": rating == 1}
    ok(junior.put(f"{world.path}/checkins/day_0", json=answers))
    held = ok(world.members.feedback(world.senior).post(f"{world.path}/sessions", json={"starts_at": at, "held": True}))
    session = held["sessions"][0]["session_id"]
    worth = rating if rating == 1 else None
    ok(junior.put(f"{world.path}/sessions/{session}/pulse", json={"met": True, "worth": worth}))


def closes(world: PairWorld, rating: int) -> None:
    """Both sides answer, because an outcome needs both. The senior's answers are equal in both worlds."""
    for id, given in ((world.senior, 3), (world.junior, rating)):
        answers = {"answers": dict.fromkeys("345678", given), "call_me": given == 1}
        ok(world.members.feedback(id).put(f"{world.path}/checkins/end", json=answers))


class TestTwoWorlds:
    def test_side_and_reason_of_a_refusal_show_nowhere(
        self,
        worlds: tuple[PairWorld, PairWorld],
    ) -> None:
        first, other = worlds
        for world, junior in ((first, other.junior), (other, first.junior)):
            world.pairing = put(world, world.senior, junior)
        rest(first.members.stack)
        refusals = ((first, first.senior, "no_time"), (other, first.junior, "prefer_somebody_else"))
        for world, who, reason in refusals:
            refuse = partial(world.members.answer, who, world.pairing, "declined", reason=reason)
            world.lasts(refuse)
        assert all(world.figures[0] for world in worlds)
        crossed = (
            PairWorld(first.members, first.senior, other.junior, first.pairing, first.figures),
            PairWorld(first.members, other.senior, first.junior, other.pairing, other.figures),
        )
        same(crossed, partner=None)
        assert event_lines(crossed[0], RESTRICTED) != event_lines(crossed[1], RESTRICTED), "the worlds do differ"

    def test_answers_show_nowhere(self, worlds: tuple[PairWorld, PairWorld]) -> None:
        """One junior gives low answers and the other high ones, from the first check-in to the last."""
        stack = worlds[0].members.stack
        for world in worlds:
            world.pairing = put(world, world.senior, world.junior)
        rest(stack)
        for world in worlds:
            for who in (world.senior, world.junior):
                world.members.answer(who, world.pairing, "accepted")
        rest(stack)
        at = stack.clock.now().isoformat()
        for world, rating in zip(worlds, (1, 5), strict=True):
            world.figures.clear()
            world.lasts(partial(begins, world, rating, at))
            ok(world.members.coordinator().post(f"{world.path}/end"))
            rest(stack)
            world.lasts(partial(closes, world, rating))
        assert all(world.figures[0] for world in worlds)
        same(worlds, partner="senior")
        own = [world.members.feedback(world.junior).get(f"{world.path}/checkins").text for world in worlds]
        assert alike(own[0]) != alike(own[1]), "the worlds do differ"
        assert event_lines(worlds[0], RESTRICTED) != event_lines(worlds[1], RESTRICTED), "the outcomes differ, too"
        first_report = report(worlds[0])
        assert "'figures': []" in first_report

    def test_a_changed_answer_shows_nowhere(
        self,
        worlds: tuple[PairWorld, PairWorld],
    ) -> None:
        world = worlds[0]
        before = event_lines(world, [*OPEN, *RESTRICTED]), seen(world, partner="senior"), mails(world), report(world)
        for rating in (5, 1, 3):
            answers = {"answers": dict.fromkeys("345678", rating), "call_me": rating == 5}
            ok(world.members.feedback(world.junior).put(f"{world.path}/checkins/end", json=answers))
        rest(world.members.stack)
        assert (
            event_lines(world, [*OPEN, *RESTRICTED]),
            seen(world, partner="senior"),
            mails(world),
            report(world),
        ) == before
