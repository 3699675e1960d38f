"""Pairings as they live: a course, its clock, and everything that it said. Pure; no server."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from contracts.envelope import OutgoingEvent
from contracts.feedback import FeedbackEvent, OutcomeRecorded
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
from services.feedback.domain.followup import Course, Decision, follow
from services.feedback.domain.questions import load

QUESTIONS = load()
MACHINE = datetime(2026, 1, 1, tzinfo=UTC)
MONDAY = datetime(2026, 3, 2, 10, tzinfo=UTC)
BERLIN: dict[Side, str] = {"senior": "Europe/Berlin", "junior": "Europe/Berlin"}
SENIOR, JUNIOR = "s1", "j1"


def settings(**changes: Any) -> ProgrammeSettings:
    """Valid settings, with dotted changes: ``care__warm_up_days=10``."""
    made = ProgrammeSettings(
        labels={"en": Labels(name="Reverse mentoring")},
        organisations=("halden",),
        confidential_contact="people-team",
    ).model_dump()
    for path, value in changes.items():
        place = made
        *above, last = path.split("__")
        for step in above:
            place = place[step]
        place[last] = value
    return ProgrammeSettings.model_validate(made)


def programme(**changes: Any) -> ProgrammeChanged:
    return ProgrammeChanged(
        programme_id="p1",
        version=1,
        state="open",
        settings=settings(**changes),
        happened_at=MONDAY,
        recorded_at=MACHINE,
    )


def pairing(
    kind: type[PairingEvent] = PairingFormed,
    at: datetime = MONDAY,
    *,
    formed_at: datetime = MONDAY,
    state: str = "formed",
    **changes: Any,
) -> PairingEvent:
    """What the matcher says of the pairing of ``s1`` and ``j1``."""
    fields: dict[str, Any] = {
        "pairing_id": "pair",
        "state": state,
        "happened_at": at,
        "recorded_at": MACHINE,
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
class Life:
    """A course and its clock. Whatever is due happens at its own moment, as a sweep that is never late would do it."""

    formed_at: datetime = MONDAY
    zones: dict[Side, str] = field(default_factory=lambda: dict(BERLIN))
    about: ProgrammeChanged = field(default_factory=programme)
    said: list[OutgoingEvent] = field(default_factory=list)
    moments: list[tuple[datetime, str]] = field(default_factory=list)
    planned_end: date | None = None

    def __post_init__(self) -> None:
        self.now = self.formed_at
        self.sequence = 0
        self.known: Course | None = None
        self.planned_end = self.planned_end or (self.formed_at + timedelta(days=183)).date()
        self.hears(PairingFormed, "formed")

    @property
    def course(self) -> Course:
        assert self.known is not None
        return self.known

    def hears(self, kind: type[PairingEvent], state: str, **changes: Any) -> None:
        """The matcher says something now."""
        self.sequence += 1
        end = {"planned_end": self.planned_end}
        event = pairing(kind, self.now, formed_at=self.formed_at, state=state, **(end | changes))
        followed = follow(self.known, event, self.sequence, self.zones, self.now, MACHINE)
        self._take(followup_rules.known(followed, self.about))

    def pause(self) -> None:
        self.hears(PairingPaused, "paused")

    def resume(self) -> None:
        self.hears(PairingResumed, "formed")

    def end(self, kind: str = "completed") -> None:
        self.hears(PairingEnded, "ended", ended_at=self.now, end_kind=kind)

    def to(self, at: datetime) -> None:
        """Time passes."""
        while self.course.due is not None and self.course.due <= at:
            assert self.course.due > self.now, "what was due has happened"
            self.now = self.course.due
            self._take((self.course, []))
        self.now = at

    def on(self, days: float) -> None:
        self.to(self.now + timedelta(days=days))

    def do(self, decide: Callable[[Course, datetime, datetime], Decision | None]) -> None:
        self._take(decide(self.course, self.now, MACHINE))

    def schedule(self, in_days: float, id: str = "", side: Side = "senior") -> str:
        id = id or f"session-{len(self.course.sessions)}"
        at = self.now + timedelta(days=in_days)
        self.do(lambda course, now, machine: sessions.schedule(course, side, id, at, now, machine))
        return id

    def cancel(self, id: str) -> None:
        self.do(lambda course, now, machine: sessions.cancel(course, id, now, machine))

    def missed(self, id: str) -> None:
        self.do(lambda course, now, machine: sessions.report(course, id, "missed", now, machine))

    def met(self, id: str | None = None) -> None:
        """They met just now, with a date or without one."""
        if id is not None:
            self.do(lambda course, now, machine: sessions.report(course, id, "held", now, machine))
        else:
            fresh = f"session-{len(self.course.sessions)}"
            self.do(lambda course, now, machine: sessions.held(course, fresh, now, now, machine))

    def answer(self, side: Side, milestone: str, answers: dict[str, int | None], *, call_me: bool = False) -> None:
        self.do(
            lambda course, now, machine: checkins.answer(
                course, side, milestone, answers, QUESTIONS, now, machine, call_me=call_me
            )
        )

    def types(self) -> list[str]:
        return [short(event) for event in self.said]

    def public(self) -> list[FeedbackEvent]:
        """All but the outcome, which has a restricted topic of its own."""
        return [event for event in self.said if isinstance(event, FeedbackEvent)]

    def told(self, type: str) -> list[Any]:
        return [event for event in self.said if short(event) == type]

    def when(self, type: str) -> list[datetime]:
        return [at for at, name in self.moments if name == type]

    def _take(self, decision: Decision | None) -> None:
        settled = followup_rules.settled(decision, self.now, MACHINE)
        if settled is None:
            return
        self.known, events = settled
        for event in events:
            assert isinstance(event, FeedbackEvent | OutcomeRecorded)
            event.model_validate_json(event.model_dump_json())
            self.said.append(event)
            self.moments.append((self.now, short(event)))
        self.known = Course.model_validate(self.known.model_dump(mode="json"))


def short(event: OutgoingEvent) -> str:
    assert isinstance(event, FeedbackEvent | OutcomeRecorded)
    return event.TYPE.removeprefix("mentoring.").removesuffix(".v1")
