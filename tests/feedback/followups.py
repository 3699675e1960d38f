"""Simulated pairings: a follow-up, its clock, and the events that it published. Pure; no server."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from contracts.envelope import OutgoingEvent
from contracts.feedback import FeedbackEvent, OutcomeRecorded
from contracts.moment import Moment
from contracts.pairings import (
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingPaused,
    PairingResumed,
    Participant,
)
from contracts.profiles import Side
from contracts.programmes import Labels, ProgrammeChanged, ProgrammeSettings
from services.feedback.domain import checkins, followup_rules, sessions
from services.feedback.domain.followup import Decision, PairingFollowup, apply_pairing_event
from services.feedback.domain.questions import load_questions

QUESTIONS = load_questions()
RECORDED_AT = datetime(2026, 1, 1, tzinfo=UTC)
MONDAY = datetime(2026, 3, 2, 10, tzinfo=UTC)
BERLIN: dict[Side, str] = {"senior": "Europe/Berlin", "junior": "Europe/Berlin"}
SENIOR, JUNIOR = "s1", "j1"


def settings(**changes: Any) -> ProgrammeSettings:
    """Valid settings, with dotted changes: ``care__warm_up_days=10``."""
    values = ProgrammeSettings(
        labels={"en": Labels(name="Reverse mentoring")},
        organisations=("halden",),
        confidential_contact="people-team",
    ).model_dump()
    for path, value in changes.items():
        target = values
        *above, last = path.split("__")
        for step in above:
            target = target[step]
        target[last] = value
    return ProgrammeSettings.model_validate(values)


def programme(**changes: Any) -> ProgrammeChanged:
    return ProgrammeChanged(
        programme_id="p1",
        version=1,
        state="open",
        settings=settings(**changes),
        happened_at=MONDAY,
        recorded_at=RECORDED_AT,
    )


def pairing(
    kind: type[PairingEvent] = PairingFormed,
    at: datetime = MONDAY,
    *,
    formed_at: datetime = MONDAY,
    state: str = "formed",
    **changes: Any,
) -> PairingEvent:
    """An event of the matcher about the pairing of ``s1`` and ``j1``."""
    fields: dict[str, Any] = {
        "pairing_id": "pair",
        "state": state,
        "happened_at": at,
        "recorded_at": RECORDED_AT,
        "programme_id": "p1",
        "programme_version": 1,
        "origin": "round",
        "participants": (
            Participant(member_id=SENIOR, side="senior", organisation_id="halden", department_id="it"),
            Participant(member_id=JUNIOR, side="junior", organisation_id="halden", department_id="hr"),
        ),
        "proposed_at": formed_at - timedelta(days=3),
        "answer_by": formed_at + timedelta(days=7),
        "formed_at": formed_at,
        "planned_end": (formed_at + timedelta(days=183)).date(),
    }
    return kind.model_validate(fields | changes)


@dataclass
class SimulatedPairing:
    """A follow-up and its clock. Everything happens exactly when it is due, as with a sweep that is never late."""

    formed_at: datetime = MONDAY
    zones: dict[Side, str] = field(default_factory=lambda: dict(BERLIN))
    programme: ProgrammeChanged = field(default_factory=programme)
    events: list[OutgoingEvent] = field(default_factory=list)
    event_times: list[tuple[datetime, str]] = field(default_factory=list)
    planned_end: date | None = None

    def __post_init__(self) -> None:
        self.now = self.formed_at
        self.sequence = 0
        self.state: PairingFollowup | None = None
        self.planned_end = self.planned_end or (self.formed_at + timedelta(days=183)).date()
        self.receive(PairingFormed, "formed")

    @property
    def moment(self) -> Moment:
        return Moment(now=self.now, recorded_at=RECORDED_AT)

    @property
    def followup(self) -> PairingFollowup:
        assert self.state is not None
        return self.state

    def receive(self, kind: type[PairingEvent], state: str, **changes: Any) -> None:
        """Apply an event that the matcher publishes now."""
        self.sequence += 1
        end = {"planned_end": self.planned_end}
        event = pairing(kind, self.now, formed_at=self.formed_at, state=state, **(end | changes))
        followed = apply_pairing_event(self.state, event, self.sequence, self.zones, self.moment)
        self._take(followup_rules.with_terms(followed, self.programme))

    def pause(self) -> None:
        self.receive(PairingPaused, "paused")

    def resume(self) -> None:
        self.receive(PairingResumed, "formed")

    def end(self, kind: str = "completed") -> None:
        self.receive(PairingEnded, "ended", ended_at=self.now, end_kind=kind)

    def advance_to(self, at: datetime) -> None:
        """Advance the clock, and do all work that becomes due meanwhile."""
        while self.followup.due is not None and self.followup.due <= at:
            assert self.followup.due > self.now, "all due work is done"
            self.now = self.followup.due
            self._take((self.followup, []))
        self.now = at

    def advance_days(self, days: float) -> None:
        self.advance_to(self.now + timedelta(days=days))

    def apply(self, decide: Callable[[PairingFollowup, Moment], Decision | None]) -> None:
        self._take(decide(self.followup, self.moment))

    def schedule(self, in_days: float, id: str = "", side: Side = "senior") -> str:
        id = id or f"session-{len(self.followup.sessions)}"
        at = self.now + timedelta(days=in_days)
        self.apply(lambda followup, moment: sessions.schedule(followup, side, id, at, moment))
        return id

    def cancel(self, id: str) -> None:
        self.apply(lambda followup, moment: sessions.cancel(followup, id, moment))

    def miss(self, id: str, side: Side = "senior") -> None:
        self.apply(lambda followup, moment: sessions.report_outcome(followup, side, id, "missed", moment))

    def hold(self, id: str | None = None, side: Side = "senior") -> None:
        """Report a meeting that took place just now, with or without a date."""
        if id is not None:
            self.apply(lambda followup, moment: sessions.report_outcome(followup, side, id, "held", moment))
        else:
            fresh = f"session-{len(self.followup.sessions)}"
            self.apply(lambda followup, moment: sessions.record_held(followup, side, fresh, moment.now, moment))

    def answer(self, side: Side, milestone: str, answers: dict[str, int | None], *, call_me: bool = False) -> None:
        self.apply(
            lambda followup, moment: checkins.record_answers(
                followup, side, milestone, answers, QUESTIONS, moment, call_me=call_me
            )
        )

    def event_types(self) -> list[str]:
        return [short_type(event) for event in self.events]

    def feedback_events(self) -> list[FeedbackEvent]:
        """All events but the outcome, which has a restricted topic."""
        return [event for event in self.events if isinstance(event, FeedbackEvent)]

    def events_of(self, type: str) -> list[Any]:
        return [event for event in self.events if short_type(event) == type]

    def when(self, type: str) -> list[datetime]:
        return [at for at, name in self.event_times if name == type]

    def _take(self, decision: Decision | None) -> None:
        settled = followup_rules.follow_up(decision, self.moment)
        if settled is None:
            return
        self.state, events = settled
        for event in events:
            assert isinstance(event, FeedbackEvent | OutcomeRecorded)
            event.model_validate_json(event.model_dump_json())
            self.events.append(event)
            self.event_times.append((self.now, short_type(event)))
        self.state = PairingFollowup.model_validate(self.state.model_dump(mode="json"))


def short_type(event: OutgoingEvent) -> str:
    assert isinstance(event, FeedbackEvent | OutcomeRecorded)
    return event.TYPE.removeprefix("mentoring.").removesuffix(".v1")
