"""A notifier on a real store, with its own SMTP server and manual clocks. The test delivers the events."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest

from chassis.core.clocks import Clock
from chassis.core.settings import Settings
from chassis.messaging.subscriptions import ReceivedEvent
from chassis.service import Chassis, ServiceDefinition
from chassis.storage.projections import ProjectionRow
from chassis.web.authentication import Principal, Role
from chassis.web.http import create_app
from contracts.envelope import Envelope, EventData
from contracts.feedback import CheckinDue, Session, SessionScheduled
from contracts.moment import Moment
from contracts.pairings import PairingEvent, PairingProposed, Participant
from contracts.profiles import ContactChanged
from contracts.programmes import Labels, ProgrammeChanged, ProgrammeSettings
from contracts.requests import RequestEvent, RequestOpened
from deploy.local import stack
from services.notifier.__main__ import build
from services.notifier.domain.notification import Notification
from services.notifier.store import Notifier
from tests.notifier.smtp_server import ScriptedSmtpHandler, scripted_smtp_server

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday


class ManualClock(Clock):
    """Both clocks stand still until the test moves them by the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.business_time = NOON
        self.machine_time = datetime(2026, 7, 1, 8, tzinfo=UTC)

    def machine_now(self) -> datetime:
        return self.machine_time

    def now(self) -> datetime:
        return self.business_time

    def moment(self) -> Moment:
        return Moment(now=self.business_time, recorded_at=self.machine_time)

    def move(self, by: timedelta) -> None:
        self.business_time += by
        self.machine_time += by


@dataclass(frozen=True)
class _FixedPrincipalVerifier:
    """Accepts every token as a token of this principal."""

    fixed: Principal

    async def verify(self, _token: str) -> Principal:
        return self.fixed


@dataclass
class NotifierHarness:
    """``deliver`` passes an event to the notifier as its consumer would: first the projection, then the handlers."""

    chassis: Chassis
    parts: ServiceDefinition[Notifier]
    notifier: Notifier
    clock: ManualClock
    server: ScriptedSmtpHandler
    delivered: int = 0

    async def deliver(self, event: EventData, *, envelope: Envelope | None = None) -> Envelope:
        self.delivered += 1
        envelope = envelope or Envelope(
            id=f"e{self.delivered}",
            type=event.TYPE,
            source="/viceversa/somebody",
            subject=event.subject(),
            time=self.clock.machine_now(),
            sequence=self.delivered,
            correlationid=event.correlation(),
        )
        projection = self.parts.handlers.find_projection(event.TYPE, self.notifier)
        if projection is not None:
            await projection.apply([ProjectionRow(event.subject(), envelope.sequence, event)])
        received = ReceivedEvent(envelope, event)
        for reaction in self.parts.handlers.find_reactions(received):
            await reaction(received, self.notifier)
        return envelope

    async def settle(self, rounds: int = 3) -> None:
        """Run every sweep several times, so that consequences of consequences happen too."""
        for _ in range(rounds):
            for sweep in self.parts.sweeps:
                await sweep.once(self.clock)

    def client(self, *roles: Role, member: str | None = None) -> httpx.AsyncClient:
        """A client of the HTTP API as this principal."""
        app = create_app(
            "notifier",
            self.chassis.settings,
            routers=self.parts.routers,
            context=self.parts.context,
            verifier=_FixedPrincipalVerifier(Principal(member or "x", member, frozenset(roles), frozenset())),  # type: ignore[arg-type]
        )
        headers = {"Authorization": "Bearer anything"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://notifier", headers=headers)

    async def pass_time(self, by: timedelta, step: timedelta = timedelta(hours=3)) -> None:
        end = self.clock.business_time + by
        while self.clock.business_time < end:
            self.clock.move(min(step, end - self.clock.business_time))
            await self.settle(2)

    async def notifications(self, purpose: str | None = None) -> list[Notification]:
        filter: dict[str, object] = {"purpose": purpose} if purpose else {}
        return [stored.state async for stored in self.notifier.notifications.find(filter)]

    async def published_events(self) -> list[dict[str, object]]:
        """All events in the outboxes. No relay runs here, so they stay there."""
        return [
            entry
            async for document in self.chassis.mongo.collection("notifications").find({})
            for entry in document["outbox"]
        ]

    async def add_members(self, *ids: str, **changes: object) -> None:
        for id in ids:
            await self.deliver(contact(id, **changes))


@contextmanager
def notifier_harness(servers: stack.Endpoints, prefix: str) -> Iterator[NotifierHarness]:
    """A notifier without a running relay: its events stay in the outboxes, where a test can read them."""
    clock = ManualClock()
    with scripted_smtp_server() as (server, port):
        chassis = Chassis("notifier", Settings(mongo=servers.mongo, topic_prefix=prefix))  # type: ignore[arg-type]
        chassis.clock = clock
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("VICEVERSA_NOTIFIER_SMTP_PORT", str(port))
            environment.setenv("VICEVERSA_NOTIFIER_SMTP_TIMEOUT", "1")
            parts = build(chassis)
        yield NotifierHarness(chassis, parts, parts.context, clock, server)
        chassis.mongo.close()


def contact(id: str, **changes: object) -> ContactChanged:
    return ContactChanged.model_validate(
        {
            "member_id": id,
            "display_name": f"Name of {id}",
            "email": f"{id}@example.com",
            "channels": ("email", "inbox"),
            "time_zone": "UTC",
            **changes,
        }
    )


def programme(**care: object) -> ProgrammeChanged:
    settings = ProgrammeSettings.model_validate(
        {
            "labels": {"en": Labels(name="Two Ways")},
            "organisations": ("o",),
            "coordinators": ("c1",),
            "confidential_contact": "ombuds",
            "care": care,
        }
    )
    return ProgrammeChanged(
        programme_id="g1", version=1, state="open", settings=settings, happened_at=NOON, recorded_at=NOON
    )


def pairing(kind: type[PairingEvent] = PairingProposed, id: str = "p1", **changes: object) -> PairingEvent:
    state = {"PairingResumed": "formed"}.get(kind.__name__, kind.__name__.removeprefix("Pairing").lower())
    return kind.model_validate(
        {
            "pairing_id": id,
            "state": state,
            "happened_at": NOON,
            "recorded_at": NOON,
            "programme_id": "g1",
            "programme_version": 1,
            "origin": "round",
            "participants": (
                Participant(member_id="m1", side="senior", organisation_id="o", department_id="d"),
                Participant(member_id="m2", side="junior", organisation_id="o", department_id="d"),
            ),
            "proposed_at": NOON,
            "answer_by": NOON + timedelta(days=14),
            "formed_at": NOON if state in ("formed", "ended") else None,
            "planned_end": date(2026, 9, 2) if state in ("formed", "ended") else None,
            **changes,
        }
    )


def request(kind: type[RequestEvent] = RequestOpened, **changes: object) -> RequestEvent:
    """``m1`` asks ``m2``."""
    state = kind.__name__.removeprefix("Request").lower().replace("opened", "open")
    return kind.model_validate(
        {
            "request_id": "q1",
            "programme_id": "g1",
            "state": state,
            "asker": "m1",
            "asked": "m2",
            "asker_side": "senior",
            "answer_by": NOON + timedelta(days=14),
            "happened_at": NOON,
            "recorded_at": NOON,
            **changes,
        }
    )


def feedback_fields(**changes: object) -> dict[str, object]:
    return {"pairing_id": "p1", "programme_id": "g1", "happened_at": NOON, "recorded_at": NOON, **changes}


def meeting(at: datetime) -> SessionScheduled:
    return SessionScheduled.model_validate(
        feedback_fields(next_session_at=at, session=Session(session_id="s1", state="scheduled", starts_at=at))
    )


def checkin(side: str = "junior") -> CheckinDue:
    return CheckinDue.model_validate(feedback_fields(checkin_id="k1", side=side, milestone="day_30", due_at=NOON))
