"""The time to a shortlist, and from a new or free member to their suggestion.

100,000 people arrive on Kafka like events of the profiles service. First everybody is free, and members request their
shortlist over HTTP, one after the other. Then nearly everybody gets a partner, and newcomers of a rolling programme are
published one by one, until each is suggested; the same for members whose pairing ended. At last a tenth of all profiles
is published again, like after a nightly file, while shortlists are requested.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.cohort import PROGRAMME, cohort, settings
from benchmarks.environment import producing, quantile
from benchmarks.stack import Estate
from chassis.core.clocks import Clock
from chassis.core.commands import Op
from chassis.core.connection import Connection
from chassis.core.ids import new_id
from chassis.messaging.kafka import Producer
from chassis.storage.aggregates import Aggregates, Change
from chassis.storage.mongo import Document, Mongo
from chassis.storage.store_profile import EMBEDDED
from contracts.envelope import Envelope, EventData, source_of
from contracts.profiles import ProfileChanged
from contracts.taxonomy import load
from deploy.local import process
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.fit.score import compute_fit
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing, PairingPlan, build_participant
from services.matcher.domain.pairings.seat_ledger import Seat, SeatLedger

GOAL_SHORTLIST = 100.0  # milliseconds, the 99th of a hundred
GOAL_SUGGESTION = 5.0  # seconds, the slowest
PEOPLE = 100_000
SHORTLISTS = 200
FREE_JUNIORS = 50
SURPLUS = 300  # seniors more than juniors, so that some are free for everybody who comes
TIMES = 20  # newcomers, and pairings that are ended
POLL = 0.02  # seconds
PATIENCE = 900.0  # limit of any wait, in seconds


class _Silent:
    """A publisher that publishes nothing, for the benchmark's own writes."""

    def push(self, aggregates: Aggregates[Any], documents: Sequence[Document]) -> None:  # noqa: ARG002
        assert not any(document["outbox"] for document in documents)

    async def wait_for_room(self) -> None:
        return None


async def measure(estate: Estate, scale: float = 1.0) -> dict[str, Any]:
    count = max(1_000, int(PEOPLE * scale))
    people = [_open(item) for item in cohort(count + SURPLUS)]  # seniors first
    there, newcomers = people[:count], people[count : count + TIMES]
    mongo = Mongo(f"{estate.addresses.mongo}/?w=majority&journal=true", estate.database("matcher"))
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60, base_url=estate.url("matcher")) as client,
        producing(Connection(estate.addresses.kafka)) as producer,
    ):
        stage = _Stage(estate, client, producer, mongo)
        before = stage.memory()
        await stage.programme("cohort")
        events = await stage.say_all(there)
        memory = stage.memory() - before
        juniors = [item for item in there if _side(item) == "junior"]
        shortlists = await stage.shortlists([item.member_id for item in juniors[:SHORTLISTS]])
        couples = await stage.pair_up(there)
        await stage.programme("rolling")
        await stage.until_suggested(FREE_JUNIORS)
        came = [await stage.newcomer(item) for item in newcomers]
        freed = [await stage.ended(*couple) for couple in couples[:TIMES]]
        storm = asyncio.create_task(stage.say_all(there[: len(there) // 10]))
        stormy = await stage.shortlists([item.member_id for item in juniors[-SHORTLISTS - TIMES : -TIMES]])
        await storm
    mongo.close()
    slowest = max(*came, *freed)
    return {
        "name": "live",
        "people": count,
        "heard_in_seconds": round(events, 1),
        "memory_mb": round(memory),
        "shortlist_ms": _ms(shortlists),
        "shortlist_ms_in_a_storm": _ms(stormy),
        "seconds_to_a_suggestion": {"newcomer": _s(came), "freed": _s(freed)},
        "goals": {"shortlist_ms_p99": GOAL_SHORTLIST, "seconds_to_a_suggestion": GOAL_SUGGESTION},
        "met": quantile(shortlists, 0.99) * 1000 <= GOAL_SHORTLIST and slowest <= GOAL_SUGGESTION,
    }


class _Stage:
    """The running matcher, with the events and requests around it."""

    def __init__(self, estate: Estate, client: httpx.AsyncClient, producer: Producer, mongo: Mongo) -> None:
        self._estate = estate
        self._client = client
        self._producer = producer
        self._mongo = mongo
        self._sequence = 0
        self._admin = {"Authorization": f"Bearer {estate.token(None, 'admin')}"}

    def memory(self) -> float:
        """Of the matcher's process, in MB, now."""
        alive = process.alive("matcher", self._estate.data)
        assert alive is not None, "it runs"
        status = Path(f"/proc/{alive.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    async def programme(self, mode: str) -> None:
        rules = settings().model_dump(mode="json")
        rules["matching"] |= {"mode": mode, "shortlist": True}
        if mode == "cohort":
            body = {"programme_id": PROGRAMME, "settings": rules}
            await self._done("POST", "/programmes", body)
            await self._done("POST", f"/programmes/{PROGRAMME}/open", {})
        else:
            await self._done("PUT", f"/programmes/{PROGRAMME}/settings", rules)

    async def say_all(self, people: Sequence[ProfileChanged]) -> float:
        """Publish these profiles; seconds until all are in the matcher's database."""
        started = time.monotonic()
        before = self._sequence
        await asyncio.gather(*[await self._say(item, "profiles") for item in people])
        members = self._mongo.collection("members")

        async def events() -> bool:
            return await members.count_documents({"sequence": {"$gt": before}}) == len(people)

        await _until(events, pause=0.5)
        return time.monotonic() - started

    async def shortlists(self, members: Sequence[str]) -> list[float]:
        """Seconds that each member waits for their shortlist."""
        tokens = [{"Authorization": f"Bearer {self._estate.token(id, 'member')}"} for id in members]
        path = f"/programmes/{PROGRAMME}/shortlist"

        async def answers() -> bool:
            return (await self._client.get(path, headers=tokens[0])).status_code != 503

        await _until(answers)
        took = []
        for headers in tokens:
            started = time.perf_counter()
            answer = await self._client.get(path, headers=headers)
            took.append(time.perf_counter() - started)
            assert answer.status_code in (200, 409), answer.text
        return took

    async def pair_up(self, people: Sequence[ProfileChanged]) -> list[tuple[str, str, str]]:
        """Give nearly everybody a partner; the pairings with their senior and junior."""
        seniors = [item for item in people if _side(item) == "senior"]
        juniors = [item for item in people if _side(item) == "junior"][FREE_JUNIORS:]
        formed = [_formed(senior, junior) for senior, junior in zip(seniors, juniors, strict=False)]  # seniors are left
        clock = Clock()
        retained: Aggregates[Pairing] = Aggregates(
            self._mongo.collection("pairings"), Pairing, "matcher", _Silent(), clock, profile=EMBEDDED
        )
        ledgers: Aggregates[SeatLedger] = Aggregates(
            self._mongo.collection("ledgers"), SeatLedger, "matcher", _Silent(), clock, profile=EMBEDDED
        )
        await retained.update_many([_as_it_is(item.id, item) for item in formed])
        await ledgers.update_many([_as_it_is(ledger.member_id, ledger) for item in formed for ledger in _ledgers(item)])
        await asyncio.gather(*[await self._say(pairings.to_public_event(item), "matcher") for item in formed])
        return [(item.id, item.plan.senior.member_id, item.plan.junior.member_id) for item in formed]

    async def until_suggested(self, number: int) -> None:
        """Wait until every free member has been checked."""
        suggestions = self._mongo.collection("suggestions")

        async def all_of_them() -> bool:
            return await suggestions.count_documents({"state": "open"}) >= number * 0.8

        await _until(all_of_them)

    async def newcomer(self, profile: ProfileChanged) -> float:
        """Seconds from their profile to a suggestion."""
        started = time.monotonic()
        await (await self._say(profile, "profiles"))
        await _until(lambda: self._suggested(profile.member_id))
        return time.monotonic() - started

    async def ended(self, pairing_id: str, senior: str, junior: str) -> float:
        """Seconds from the end of a pairing to a suggestion for the one of whose side there are fewer."""
        del senior
        started = time.monotonic()
        await self._done("POST", f"/pairings/{pairing_id}/end", {})
        await _until(lambda: self._suggested(junior))
        return time.monotonic() - started

    async def _suggested(self, junior: str) -> bool:
        return await self._mongo.collection("suggestions").find_one({"junior": junior, "state": "open"}) is not None

    async def _done(self, method: str, path: str, body: object) -> None:
        (await self._client.request(method, path, json=body, headers=self._admin)).raise_for_status()

    async def _say(self, event: Any, service: str) -> "asyncio.Future[Any]":
        self._sequence += 1
        kind: type[EventData] = type(event)
        envelope = Envelope(
            id=new_id(),
            type=kind.TYPE,
            source=source_of(service),
            subject=event.key(),
            time=datetime.now(UTC),
            sequence=self._sequence,
            correlationid=event.key(),
        )
        topic = kind.TOPIC.full_name(self._estate.addresses.prefix)
        value = event.model_dump_json().encode()
        return await self._producer.send(topic, key=event.key().encode(), value=value, headers=envelope.headers())


def _open(profile: ProfileChanged) -> ProfileChanged:
    """Of the one organisation and without private wishes, so that no newcomer is left over by chance."""
    return profile.model_copy(update={"organisation_id": "acme", "avoid": ()})


def _side(profile: ProfileChanged) -> str:
    return profile.enrolments[0].side


def _formed(senior: ProfileChanged, junior: ProfileChanged) -> Pairing:
    rules, taxonomy, now = settings(), load(), datetime.now(UTC)
    both = Member(senior, senior.enrolments[0]), Member(junior, junior.enrolments[0])
    plan = PairingPlan(
        pairing_id=new_id(),
        programme_id=PROGRAMME,
        programme_version=1,
        origin="round",
        senior=build_participant(senior, "senior"),
        junior=build_participant(junior, "junior"),
        fit=compute_fit(*both, rules, taxonomy, now.date()),
        answer_within_working_days=10,
        duration_months=6,
    )
    return Pairing(
        plan=plan,
        state="formed",
        attempt=1,
        happened_at=now,
        recorded_at=now,
        proposed_at=now,
        answer_by=now,
        formed_at=now,
    )


def _ledgers(pairing: Pairing) -> list[SeatLedger]:
    both = pairing.plan.senior.member_id, pairing.plan.junior.member_id
    return [
        SeatLedger(
            member_id=me,
            capacity=1,
            held={pairing.id: Seat(attempt=1, partner=other, programme_id=PROGRAMME)},
        )
        for me, other in (both, both[::-1])
    ]


def _as_it_is(id: str, state: Any) -> Change[Any]:
    return Change(id, Op.once(), lambda _: (state, []), fresh=True)


async def _until(there: Callable[[], Awaitable[bool]], pause: float = POLL) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await there():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(pause)


def _ms(seconds: Sequence[float]) -> dict[str, float]:
    return {"p50": round(quantile(seconds, 0.5) * 1000, 1), "p99": round(quantile(seconds, 0.99) * 1000, 1)}


def _s(seconds: Sequence[float]) -> dict[str, float]:
    return {"p50": round(quantile(seconds, 0.5), 2), "max": round(max(seconds), 2)}
