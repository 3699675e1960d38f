"""Matcher, feedback and notifier, complete, with an in-memory store, log and clock.

No part of the services is replaced. Their parts come from their own `build`, events pass through the real relay, the
real consumer reads their bytes, and sweeps find due work. Time advances from one event to the next. Sweeps run every
ten minutes, at minutes without any deadline; a sweep without work is skipped. Each topic reaches each service with its
own delay, and sometimes late. Sometimes a batch arrives twice.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Any, cast

from fastapi import Response
from fastapi.routing import APIRoute

from chassis.core.clocks import Clock
from chassis.core.commands import Op
from chassis.core.settings import Settings
from chassis.messaging.consumer import Consumer
from chassis.messaging.dead_letters import DeadLetters
from chassis.messaging.kafka import Producer
from chassis.messaging.records import KafkaRecord
from chassis.messaging.relay import Relay
from chassis.observability.health import Health
from chassis.service import Chassis, ServiceDefinition
from chassis.storage.aggregates import Aggregates
from chassis.storage.mongo import Index, Mongo
from chassis.web.authentication import Role
from chassis.web.http import Command, Principal, Problem
from contracts.envelope import Envelope, EventData, Tombstone, source_of
from contracts.errors import CommandRejected
from contracts.pairings import PairingState
from contracts.profiles import ProfileChanged
from contracts.programmes import ProgrammeChanged
from contracts.taxonomy import load
from services.feedback.__main__ import build as build_feedback
from services.feedback.store import Feedback
from services.matcher.__main__ import build as build_matcher
from services.matcher.context import Matcher
from services.matcher.domain.rounds.round import Round, RoundProgress, RoundTotals
from services.matcher.solver_process.client import Heartbeat, Solver
from services.matcher.solver_process.compute import SolverCache, SolverCollections, compute_round
from services.notifier.__main__ import build as build_notifier
from services.notifier.mail import DeliveryInDoubt, MailDeferred, Mailer, MailRejected, OutgoingMail
from services.notifier.store import Notifier
from tests.chassis.memory_store import MemoryCollection, MemoryStore

SWEEP = timedelta(minutes=10)
OFFSET = timedelta(minutes=3)  # no deadline and no quiet hour falls on such a minute
LATEST = timedelta(minutes=25)  # the greatest delay of a topic
LATE, TWICE = 0.04, 0.01  # probabilities of a late record and of a repeated batch
REFUSALS = (CommandRejected, Problem)

Action = Callable[[], Awaitable[None]]


class Hands(Clock):
    """Both clocks are the same, as without a configured file of business time."""

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self.at = at

    def machine_now(self) -> datetime:
        return self.at

    def now(self) -> datetime:
        return self.at


@dataclass(frozen=True)
class LoggedEvent:
    """One record of the log, and when it was appended."""

    at: datetime
    topic: str
    envelope: Envelope
    value: bytes | None


@dataclass(frozen=True)
class Arrived:
    """A mail, and the time of its arrival at the mail server."""

    at: datetime
    letter: OutgoingMail


class Post:
    """The mail server; it usually accepts. ``doubtful``: mails without a final reply."""

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self._clock, self._chance = clock, chance
        self.attempts: list[Arrived] = []  # including failed attempts: each counts towards the weekly limit
        self.arrived: list[Arrived] = []
        self.troubles: Counter[str] = Counter()
        self.put_off: set[str] = set()
        self.doubtful: set[str] = set()

    async def send(self, letter: OutgoingMail) -> None:
        await asyncio.sleep(0)
        self.attempts.append(Arrived(self._clock.now(), letter))
        draw = self._chance.random()
        if draw < 0.01:
            self.troubles["later"] += 1
            self.put_off.add(letter.id)
            raise MailDeferred("answer 451")
        if draw < 0.013:
            self.troubles["refused"] += 1
            raise MailRejected("address_refused")
        if draw > 0.995:
            self.troubles["in doubt"] += 1
            self.doubtful.add(letter.id)
            if draw > 0.998:
                self.arrived.append(Arrived(self._clock.now(), letter))
            raise DeliveryInDoubt("SMTPServerDisconnected")
        self.arrived.append(Arrived(self._clock.now(), letter))


class SolvesHere(Solver):
    """The same computation, in this process instead of a separate one."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__("", "", "")
        self._store = store

    async def run(self, round: Round, now: datetime, alive: Heartbeat) -> RoundTotals | None:
        assert await alive(RoundProgress(stage="scoring"))
        return await compute_round(
            round, now, SolverCollections.of(self._store.collection), SolverCache(load()), lambda *_: None
        )


class _Wire:
    """The broker, from the view of one service's relay."""

    def __init__(self, company: "InMemoryPlatform") -> None:
        self._company = company

    async def send(
        self, topic: str, *, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[None]":
        self._company.append(topic, key, value, tuple(headers))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def renew(self) -> None:
        raise AssertionError("this broker refuses no record")


class _InMemory(Chassis):
    def __init__(self, service: str, settings: Settings, clock: Clock, wire: _Wire) -> None:
        self.service = service
        self.settings = settings
        self.clock = clock
        self.health = Health(clock.machine_now)
        self.store = MemoryStore()
        self.mongo = cast("Mongo", self.store)
        self.producer = cast("Producer", wire)
        self.relay = Relay(wire, service, settings.topic_prefix, clock)
        self._aggregates: dict[str, Aggregates[Any]] = {}
        self._projections: list[str] = []
        self._indexes: dict[str, Sequence[Index]] = {}


class _NoLetters:
    """No permanent failure may occur in this company."""

    async def send(self, record: KafkaRecord, code: str, detail: str) -> None:
        raise AssertionError(f"a dead letter: {record.topic} {code} {detail}")


@dataclass
class Service:
    """One of the three services, with the records on their way to it."""

    chassis: _InMemory
    parts: ServiceDefinition[Any]
    consumer: Consumer[Any]
    routes: Mapping[str, Callable[..., Awaitable[Any]]]
    coming: list[tuple[datetime, int, KafkaRecord]] = field(default_factory=list)
    reaches: dict[str, datetime] = field(default_factory=dict)  # by topic: the arrival time of its latest record
    heard: dict[str, datetime] = field(default_factory=dict)  # by event id

    def __post_init__(self) -> None:
        self.topics = {topic.name for topic in self.parts.handlers.topics()}

    def earliest(self) -> datetime | None:
        """The times at which a sweep would find due work."""
        times = (_documents(sweep.aggregates).earliest(sweep.on) for sweep in self.parts.sweeps)
        return min((at for at in times if at is not None), default=None)


class InMemoryPlatform:
    """``do`` schedules an action; ``live`` runs until the end.

    ``listeners`` receive every record when it is appended.
    """

    def __init__(self, begin: datetime, chance: random.Random) -> None:
        self.clock = Hands(begin)
        self.chance = chance
        self.post = Post(self.clock, chance)
        self.log: list[LoggedEvent] = []
        self.listeners: list[Callable[[LoggedEvent], None]] = []
        self.refusals: Counter[str] = Counter()
        self._settings = Settings()
        self._actions: list[tuple[datetime, int, Action]] = []
        self._numbers = count()
        self._said: Counter[str] = Counter()
        self._swept = first_sweep(begin) - SWEEP
        self.services = {
            name: self._service(name, build)
            for name, build in (("matcher", build_matcher), ("feedback", build_feedback), ("notifier", build_notifier))
        }
        self.matcher: Matcher = self.services["matcher"].parts.context
        self.matcher.solver = SolvesHere(self.services["matcher"].chassis.store)
        self.matcher.partners.sources = ()
        self.listeners.append(self._follow)
        self.feedback: Feedback = self.services["feedback"].parts.context
        self.notifier: Notifier = self.services["notifier"].parts.context
        object.__setattr__(self.notifier, "mailer", cast("Mailer", self.post))

    def _service(self, name: str, build: Callable[[Chassis], ServiceDefinition[Any]]) -> Service:
        chassis = _InMemory(name, self._settings, self.clock, _Wire(self))
        parts = build(chassis)
        consumer = Consumer(
            name,
            parts.handlers,
            parts.context,
            cast("DeadLetters", _NoLetters()),
            chassis.health,
            connection=self._settings.connection(),
            prefix=self._settings.topic_prefix,
            group=name,
            instance=f"{name}-0",
        )
        routes = {
            f"{method} {route.path}": route.endpoint
            for router in parts.routers
            for route in router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }
        return Service(chassis, parts, consumer, routes)

    async def ask(
        self, service: str, route: str, who: str, roles: Sequence[Role] = ("member",), **arguments: Any
    ) -> Any:
        """``call`` under a key of its own; returns None if the service refuses."""
        try:
            return await self.call(service, route, who, roles, key=f"{next(self._numbers)}", **arguments)
        except REFUSALS as refusal:
            self.refusals[f"{route}: {getattr(refusal, 'code', type(refusal).__name__)}"] += 1
            return None

    async def call(
        self, service: str, route: str, who: str, roles: Sequence[Role], *, key: str, **arguments: Any
    ) -> Any:
        """Call the route and return its response. Raises what the service refuses with.

        ``who``: the member; ``key``: of the operation; other arguments are those of the route.
        """
        principal = Principal(who, who, frozenset(roles), frozenset())
        command = Command(Op(f"{who}/{route}/{key}", kind="command"), None, principal)
        endpoint = self.services[service].routes[route]
        context = self.services[service].parts.context  # endpoints name the parameter after their service
        given = {"asked": command, "command": command, "principal": principal, service: context, **arguments}
        wanted = endpoint.__code__.co_varnames[: endpoint.__code__.co_argcount]
        if "response" in wanted:
            given["response"] = Response()
        return await endpoint(**{name: value for name, value in given.items() if name in wanted})

    def say(self, event: EventData | Tombstone) -> None:
        """Publish an event of profiles, the only service that is missing here."""
        kind = event.type if isinstance(event, Tombstone) else type(event)
        subject = event.key if isinstance(event, Tombstone) else event.subject()
        self._said[subject] += 1
        envelope = Envelope(
            id=f"profiles-{next(self._numbers)}",
            type=kind.TYPE,
            source=source_of("profiles"),
            subject=subject,
            time=self.clock.machine_now(),
            sequence=self._said[subject],
            correlationid=subject,
        )
        value = None if isinstance(event, Tombstone) else event.model_dump_json().encode()
        self.append(kind.TOPIC.full_name(self._settings.topic_prefix), subject.encode(), value, envelope.headers())

    def append(self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        name = topic.removeprefix(self._settings.topic_prefix)
        record = KafkaRecord(name, 0, len(self.log), key, value, tuple(headers))
        said = LoggedEvent(self.clock.at, name, Envelope.from_headers(headers), value)
        self.log.append(said)
        for service in self.services.values():
            if name not in service.topics:
                continue
            late = self.chance.random() < LATE
            after = LATEST * self.chance.random() if late else timedelta(0)
            at = max(self.clock.at + after, service.reaches.get(name, self.clock.at))
            service.reaches[name] = at
            heappush(service.coming, (at, next(self._numbers), record))
        for listen in self.listeners:
            listen(said)

    def _follow(self, said: LoggedEvent) -> None:
        """The topic replicas of the matcher read every record at once."""
        partners, kind = self.matcher.partners, said.envelope.type
        if kind == ProfileChanged.TYPE and said.value is None:
            partners.drop(said.envelope.subject, said.envelope.sequence)
        elif kind == ProfileChanged.TYPE:
            partners.put(ProfileChanged.model_validate_json(said.value or b""), said.envelope.sequence)
        elif kind == ProgrammeChanged.TYPE:
            partners.put_programme(ProgrammeChanged.model_validate_json(said.value or b""))
        elif kind == PairingState.TYPE and said.value is None:
            partners.drop_pairing(said.envelope.subject)
        elif kind == PairingState.TYPE:
            partners.put_pairing(PairingState.model_validate_json(said.value or b""))

    def do(self, at: datetime, action: Action) -> None:
        heappush(self._actions, (max(at, self.clock.at), next(self._numbers), action))

    async def live(self, end: datetime) -> None:
        async with asyncio.TaskGroup() as tasks:
            relays = [tasks.create_task(service.chassis.relay.run()) for service in self.services.values()]
            await self._settle()
            while (at := min([end, *self._coming(), *(sweep := self._next_sweep())])) < end:
                assert at >= self.clock.at
                self.clock.at = at
                await self._settle()
                if at in sweep:
                    await self._sweep()
                while self._actions and self._actions[0][0] <= at:
                    await heappop(self._actions)[2]()
                    await self._settle()
            for relay in relays:
                relay.cancel()
        self.clock.at = end

    def _coming(self) -> list[datetime]:
        """The time of the next act or delivery."""
        times = [service.coming[0][0] for service in self.services.values() if service.coming]
        return [*times, self._actions[0][0]] if self._actions else times

    def _next_sweep(self) -> list[datetime]:
        """The time of the first sweep with work; empty if no sweep would find any."""
        times = [at for service in self.services.values() if (at := service.earliest()) is not None]
        return [max(first_sweep(max(min(times), self.clock.at)), self._swept + SWEEP)] if times else []

    async def _sweep(self) -> None:
        self._swept = self.clock.at
        for service in self.services.values():
            for sweep in service.parts.sweeps:
                earliest = _documents(sweep.aggregates).earliest(sweep.on)
                if earliest is not None and earliest <= self.clock.at:
                    await sweep.once(self.clock)
        await self._settle()

    async def _settle(self) -> None:
        """Wait until all events are published and all arrived events are processed."""
        while True:
            await self.matcher.tasks.idle()
            for service in self.services.values():
                await service.chassis.relay.wait_until_idle()
            deliveries = [await self._deliver(service) for service in self.services.values()]
            if not any(deliveries):
                return

    async def _deliver(self, service: Service) -> bool:
        batch = []
        while service.coming and service.coming[0][0] <= self.clock.at:
            batch.append(heappop(service.coming)[2])
        if not batch:
            return False
        for _ in range(2 if self.chance.random() < TWICE else 1):
            await service.consumer.process(batch)
        for record in batch:
            service.heard.setdefault(record.header("ce_id") or "", self.clock.at)
        return True


def first_sweep(at: datetime) -> datetime:
    """The first sweep at this time or later."""
    origin = datetime(2026, 1, 1, tzinfo=UTC) + OFFSET
    return origin + -((origin - at) // SWEEP) * SWEEP


def _documents(aggregates: Aggregates[Any]) -> MemoryCollection:
    return cast("MemoryCollection", aggregates.collection)
