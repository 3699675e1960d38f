"""A running feedback service on real servers. The test publishes the events of the other services."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from chassis.core.connection import Connection
from chassis.core.settings import Settings
from chassis.messaging.kafka import Producer, read_topic
from chassis.service import Chassis, ServiceDefinition, _run
from contracts.envelope import EventData, Tombstone, Topic
from contracts.pairings import (
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingState,
    Participant,
)
from contracts.privacy import ERASURE_REQUESTS, ErasureRequested
from contracts.profiles import PROFILES, ProfileChanged
from deploy.local import stack
from services.feedback.__main__ import build
from services.feedback.store import Feedback
from tests.feedback.followups import programme
from tests.processes import Asking, app_of, client_of, say, until, until_ready


@dataclass
class FeedbackHarness(Asking):
    """One feedback service, and ways to send it events and requests."""

    servers: stack.Endpoints
    prefix: str
    chassis: Chassis
    parts: ServiceDefinition[Feedback]
    app: FastAPI
    client: httpx.AsyncClient
    producer: Producer
    beginning: datetime
    sequence: int = 0

    @property
    def feedback(self) -> Feedback:
        return self.parts.context

    async def do(self, token: str, method: str, path: str, body: object = None, *, key: str | None = None) -> Any:
        answer = await self.ask(token, method, path, body, key=key)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def code(self, token: str, method: str, path: str, body: object = None) -> tuple[int, str]:
        """The status and code of a rejected request."""
        answer = await self.ask(token, method, path, body)
        return answer.status_code, answer.json()["code"]

    async def say(self, event: EventData | Tombstone) -> None:
        self.sequence += 1
        kind = event.type if isinstance(event, Tombstone) else type(event)
        service = "profiles" if kind.TOPIC in (PROFILES, ERASURE_REQUESTS) else "matcher"
        await say(self.producer, self.prefix, event, service, self.sequence)

    async def events_on(self, topic: Topic) -> list[tuple[str, dict[str, Any] | None]]:
        """All events on a topic: type and data, in the order of partition and offset."""
        connection = Connection(self.servers.kafka)
        return [
            (
                str(record.header("ce_type")).removeprefix("mentoring.").removesuffix(".v1"),
                json.loads(record.value) if record.value else None,
            )
            async for record in read_topic(connection, self.prefix, topic.name)
        ]

    async def person(self, id: str, **changes: Any) -> None:
        profile = {"member_id": id, "organisation_id": "halden", "department_id": "it", "time_zone": "Europe/Berlin"}
        await self.say(ProfileChanged.model_validate(profile | changes))

        async def is_stored() -> bool:
            return await self.feedback.members.get(id) is not None

        await until(is_stored)

    async def pair(self, senior: str, junior: str) -> str:
        """Publish that a pairing of these two has formed, and return its id."""
        id = f"pair-{senior}-{junior}"
        await self._of_pair(PairingFormed, id, senior, junior, "formed")

        async def has_followup() -> bool:
            return await self.feedback.followups.get(id) is not None

        await until(has_followup)
        return id

    async def end(self, id: str, kind: str = "completed") -> None:
        _, senior, junior = id.split("-")
        now = self.now()
        await self._of_pair(PairingEnded, id, senior, junior, "ended", ended_at=now, end_kind=kind)

        async def has_ended() -> bool:
            stored = await self.feedback.followups.get(id)
            return stored is not None and stored.state.state == "ended"

        await until(has_ended)

    async def forget(self, id: str) -> None:
        """Publish what profiles and the matcher publish when a member is to be erased."""
        pairs = [stored.id async for stored in self.feedback.followups_of(id)]
        await self.say(ErasureRequested(member_id=id, requested_at=self.now()))
        await self.say(Tombstone(ProfileChanged, id))
        for pair in pairs:
            await self.say(Tombstone(PairingState, pair))

    def now(self) -> datetime:
        return self.chassis.clock.now()

    async def pass_time(self, days: float) -> None:
        """Advance business time, and wait until everything that became due is done."""
        clock = self.chassis.clock
        clock.set_speed(0.0, clock.now() + timedelta(days=days))
        await self.settled()

    async def settled(self) -> None:
        async def is_idle() -> bool:
            open_work = {"$or": [{"due": {"$lte": self.now()}}, {"lease": {"$ne": None}}]}
            followups, cells = self.feedback.followups, self.feedback.cells
            return not await followups.count(open_work) and not await cells.count(open_work)

        await until(is_idle)

    async def _of_pair(
        self, kind: type[PairingEvent], id: str, senior: str, junior: str, state: str, **changes: Any
    ) -> None:
        now = self.now()
        fields: dict[str, Any] = {
            "pairing_id": id,
            "state": state,
            "happened_at": now,
            "recorded_at": now,
            "programme_id": "p1",
            "programme_version": 1,
            "origin": "round",
            "participants": (
                Participant(member_id=senior, side="senior", organisation_id="halden", department_id="it"),
                Participant(member_id=junior, side="junior", organisation_id="halden", department_id="hr"),
            ),
            "proposed_at": self.beginning,
            "answer_by": self.beginning,
            "formed_at": self.beginning,
            "planned_end": (self.beginning + timedelta(days=183)).date(),
        }
        await self.say(kind.model_validate(fields | changes))
        await self.say(PairingState.model_validate(fields | changes))


@asynccontextmanager
async def running_feedback(servers: stack.Endpoints, prefix: str, folder: Path) -> AsyncIterator[FeedbackHarness]:
    settings = Settings(
        kafka=servers.kafka,
        mongo=SecretStr(servers.mongo),
        topic_prefix=prefix,
        clock=folder / "clock.jsonl",
        http_port=1,
    )
    chassis = Chassis("feedback", settings)
    chassis.clock.set_speed(0.0, datetime.now(UTC) + timedelta(days=1))
    parts = build(chassis)
    app = app_of(chassis, parts)
    client = client_of(app)
    producer = Producer(Connection(servers.kafka))
    await producer.start()
    service_task = asyncio.create_task(_run(chassis, parts))
    harness = FeedbackHarness(servers, prefix, chassis, parts, app, client, producer, chassis.clock.now())
    try:
        await until_ready(chassis)
        await harness.say(programme())

        async def is_stored() -> bool:
            return await harness.feedback.programmes.get("p1") is not None

        await until(is_stored)
        yield harness
    finally:
        service_task.cancel()
        await asyncio.gather(service_task, return_exceptions=True)
        await client.aclose()
        await producer.stop()
