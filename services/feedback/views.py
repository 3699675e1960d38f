"""What HTTP shows of a course, to whom it may be shown.

``CareView`` is for the two, their coordinators and admins: made from the facts alone. ``CheckinView`` is for the one
who answered.
"""

from datetime import datetime
from typing import Self

from pydantic import BaseModel

from contracts.envelope import Instant
from contracts.feedback import Session
from contracts.profiles import Side
from services.feedback.domain.advice import advice_for
from services.feedback.domain.anonymous_statistics import FIRST_MEETING, MET_EARLY, Cell, parse_change_cell
from services.feedback.domain.checkins import is_open
from services.feedback.domain.facts import (
    CareState,
    booking_deadline,
    care_state,
    current_facts,
    first_meeting_deadline,
    is_warming_up,
    mid_point,
)
from services.feedback.domain.followup import Checkin, Fact, PairingFollowup, event_fields
from services.feedback.domain.questions import Questions, translate


class MilestonesView(BaseModel):
    """The dates that every pairing has; when each was reached, or None."""

    first_meeting_booked_by: Instant | None
    first_meeting_held_by: Instant | None
    first_held_at: Instant | None
    mid_point: Instant | None
    mid_point_reached_at: Instant | None
    planned_end: Instant | None
    ended_at: Instant | None


class IdeasView(BaseModel):
    """How many there are, and the words of those that both agreed to tell."""

    count: int
    shared: list[str]


class CareView(BaseModel):
    """How a pairing goes, by facts alone: dates, counts, and whether somebody should offer help."""

    pairing_id: str
    programme_id: str
    members: dict[Side, str]
    state: CareState
    facts: list[Fact]
    sessions: list[Session]
    sessions_held: int
    sessions_scheduled: int
    sessions_cancelled: int
    sessions_missed: int
    checkins_completed: int
    next_session_at: Instant | None
    milestones: MilestonesView
    ideas: IdeasView

    @classmethod
    def of(cls, course: PairingFollowup, now: datetime) -> Self:
        shared = event_fields(course, now, now)
        held = course.held_meetings()
        return cls(
            **{name: shared[name] for name in shared if name in cls.model_fields},
            members=course.members,
            state=care_state(course, now),
            facts=list(current_facts(course, now)),
            sessions=[one.public() for one in course.sessions],
            milestones=MilestonesView(
                first_meeting_booked_by=booking_deadline(course) if course.terms else None,
                first_meeting_held_by=first_meeting_deadline(course) if course.terms else None,
                first_held_at=held[0].starts_at if held else None,
                mid_point=mid_point(course),
                mid_point_reached_at=course.mid_point_at,
                planned_end=course.planned_end,
                ended_at=course.ended_at,
            ),
            ideas=IdeasView(
                count=len(course.ideas),
                shared=[one.text for one in course.ideas if one.agreed and one.text is not None],
            ),
        )


class QuestionView(BaseModel):
    id: str
    text: str


class QuestionsView(BaseModel):
    """What is asked, in one language."""

    version: str
    language: str
    scale: dict[str, str]
    questions: list[QuestionView]
    on_day_0: list[str]
    call_me: str
    pulse: dict[str, str]

    @classmethod
    def of(cls, questions: Questions, language: str) -> Self:
        return cls(
            version=questions.version,
            language=language,
            scale=dict(questions.scale[language]),
            questions=[QuestionView(id=item.id, text=item.text(language)) for item in questions.items],
            on_day_0=[item.id for item in questions.items_at("day_0")],
            call_me=translate(questions.call_me, language),
            pulse={name: translate(text, language) for name, text in questions.pulse.items()},
        )


class CheckinView(BaseModel):
    """One's own check-in: the questions, one's own answers, and what is said to them. For nobody else."""

    pairing_id: str
    milestone: str
    due_at: Instant
    open: bool
    completed: bool
    version: str
    questions: list[QuestionView]
    answers: dict[str, int | None] | None
    call_me: bool
    advice: list[str]

    @classmethod
    def of(
        cls,
        course: PairingFollowup,
        checkin: Checkin,
        questions: Questions,
        language: str,
        contact: str | None,
        now: datetime,
    ) -> Self:
        given = course.answers.get(checkin.checkin_id)
        asked = questions.items_at(checkin.milestone)
        return cls(
            pairing_id=course.pairing_id,
            milestone=checkin.milestone,
            due_at=checkin.due_at,
            open=is_open(course, checkin, now),
            completed=checkin.completed_at is not None,
            version=given.version if given else questions.version,
            questions=[QuestionView(id=item.id, text=item.text(language)) for item in asked],
            answers=given.answers if given else None,
            call_me=checkin.side in course.calls,
            advice=advice_for(questions, given.answers, language, contact, warming_up=is_warming_up(course, now))
            if given
            else [],
        )


class IdeaView(BaseModel):
    """An idea as the two see it; ``mine``: it is yours, and the other one may agree that its words are told."""

    idea_id: str
    text: str | None
    mine: bool
    agreed: bool
    at: Instant

    @classmethod
    def all_of(cls, course: PairingFollowup, side: Side) -> list[Self]:
        return [
            cls(idea_id=one.idea_id, text=one.text, mine=one.by == side, agreed=one.agreed, at=one.at)
            for one in course.ideas
        ]


class CallView(BaseModel):
    """Somebody would like to be called; about what is theirs to say."""

    member_id: str
    asked_at: Instant


class StatisticView(BaseModel):
    """A released figure: ``n`` values of ``asked`` that there could be. More is better in ``mean_change``."""

    name: str
    n: int
    asked: int
    response_rate: float
    released_at: Instant | None
    side: Side | None = None
    statement: str | None = None
    until: str | None = None
    mean_change: float | None = None
    share: float | None = None
    median_days: int | None = None
    p90_days: int | None = None

    @classmethod
    def of(cls, cell: Cell, questions: Questions, language: str) -> Self:
        parts = parse_change_cell(cell.name)
        own: dict[str, object] = {}
        if parts is not None:
            item, milestone, side = parts
            text = questions.by_id[item].text(language)
            own = {"side": side, "statement": text, "until": milestone, "mean_change": _rounded(cell.mean)}
        elif cell.name == MET_EARLY:
            own = {"share": _rounded(cell.mean)}
        elif cell.name == FIRST_MEETING:
            own = {"median_days": cell.quantile(0.5), "p90_days": cell.quantile(0.9)}
        rate = round(cell.n / cell.asked, 3) if cell.asked else 0.0
        common = {"name": cell.name, "n": cell.n, "asked": cell.asked, "released_at": cell.released_at}
        return cls.model_validate({**common, "response_rate": rate, **own})


class ReportView(BaseModel):
    """What may be said of a programme: counts of pairings (None below k), and released figures of at least k people."""

    programme_id: str
    k: int
    funnel: dict[str, int | None]
    figures: list[StatisticView]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
