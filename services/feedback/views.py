"""Bodies and responses of feedback's HTTP API.

``CareView`` is for the two, their coordinators and admins, and contains facts only. ``CheckinView`` is for the person
who answered.
"""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field

from chassis.web.http import RequestBody
from contracts.envelope import Instant
from contracts.feedback import Session
from contracts.profiles import Side
from contracts.text import SEVERAL_LINES
from services.feedback.domain.advice import advice_for
from services.feedback.domain.anonymous_statistics import (
    FIRST_MEETING,
    MET_EARLY,
    Cell,
    ChangeBand,
    parse_change_cell,
)
from services.feedback.domain.calls import contact_of_call
from services.feedback.domain.care_facts import (
    CareState,
    booking_deadline,
    care_state,
    current_facts,
    first_meeting_deadline,
    is_warming_up,
    mid_point,
)
from services.feedback.domain.checkins import is_open
from services.feedback.domain.followup import Checkin, Fact, PairingFollowup, public_facts
from services.feedback.domain.questions import Questions, Rating, translate


class MilestonesView(BaseModel):
    """The dates of a pairing: when each is due or was reached. None: not known or not reached."""

    first_meeting_booked_by: Instant | None
    first_meeting_held_by: Instant | None
    first_held_at: Instant | None
    mid_point: Instant | None
    mid_point_reached_at: Instant | None
    planned_end: Instant | None
    ended_at: Instant | None


class IdeasView(BaseModel):
    """The number of ideas, and the texts that both agreed to share."""

    count: int
    shared: list[str]


class CareView(BaseModel):
    """How a pairing goes, by facts only: dates, counts, and whether somebody should offer help."""

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
    next_session_at: Instant | None
    milestones: MilestonesView
    ideas: IdeasView

    @classmethod
    def of(cls, followup: PairingFollowup, now: datetime) -> Self:
        shared = public_facts(followup, now)
        held = followup.held_meetings()
        return cls(
            **{name: shared[name] for name in shared if name in cls.model_fields},
            members=followup.members,
            state=care_state(followup, now),
            facts=list(current_facts(followup, now)),
            sessions=[meeting.to_session() for meeting in followup.sessions],
            milestones=MilestonesView(
                first_meeting_booked_by=booking_deadline(followup) if followup.terms else None,
                first_meeting_held_by=first_meeting_deadline(followup) if followup.terms else None,
                first_held_at=held[0].starts_at if held else None,
                mid_point=mid_point(followup),
                mid_point_reached_at=followup.mid_point_at,
                planned_end=followup.planned_end,
                ended_at=followup.ended_at,
            ),
            ideas=IdeasView(
                count=len(followup.ideas),
                shared=[idea.text for idea in followup.ideas if idea.agreed and idea.text is not None],
            ),
        )


class QuestionView(BaseModel):
    id: str
    text: str


class QuestionsView(BaseModel):
    """The questions of a check-in, in one language."""

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
    """The caller's own check-in: the questions, their answers and the advice. Nobody else may see it.

    ``call_contact``: to whom the caller's open call belongs; None without a call, or when this person was erased.
    ``contact``: whom the programme names now; the caller may hand the call over to them.
    """

    pairing_id: str
    milestone: str
    due_at: Instant
    open: bool
    completed: bool
    version: str
    questions: list[QuestionView]
    answers: dict[str, int | None] | None
    call_me: bool
    call_contact: str | None
    contact: str | None
    advice: list[str]

    @classmethod
    def of(
        cls,
        followup: PairingFollowup,
        checkin: Checkin,
        questions: Questions,
        language: str,
        contact: str | None,
        now: datetime,
    ) -> Self:
        answer_set = followup.answers.get(checkin.checkin_id)
        items = questions.items_at(checkin.milestone, have_met=bool(followup.held_meetings()))
        return cls(
            pairing_id=followup.pairing_id,
            milestone=checkin.milestone,
            due_at=checkin.due_at,
            open=is_open(followup, checkin, now),
            completed=checkin.completed_at is not None,
            version=answer_set.version if answer_set else questions.version,
            questions=[QuestionView(id=item.id, text=item.text(language)) for item in items],
            answers=answer_set.answers if answer_set else None,
            call_me=checkin.side in followup.calls,
            call_contact=contact_of_call(followup, checkin.side, contact or "") or None,
            contact=contact,
            advice=advice_for(questions, answer_set.answers, language, contact, warming_up=is_warming_up(followup, now))
            if answer_set
            else [],
        )


class IdeaView(BaseModel):
    """An idea as the two see it. ``mine``: the caller recorded it, and the other side may agree to share its text."""

    idea_id: str
    text: str | None
    mine: bool
    agreed: bool
    at: Instant

    @classmethod
    def all_of(cls, followup: PairingFollowup, side: Side) -> list[Self]:
        return [
            cls(idea_id=idea.idea_id, text=idea.text, mine=idea.by == side, agreed=idea.agreed, at=idea.at)
            for idea in followup.ideas
        ]


class CallView(BaseModel):
    """A member would like to be called by the confidential contact. The reason is not asked."""

    member_id: str
    asked_at: Instant


class StatisticView(BaseModel):
    """A released statistic: of ``n`` check-ins or pairings, of ``asked`` possible ones.

    ``change``: how the answers moved, in bands; None while fewer than k people could say. A mean would tell more than
    a band: with equal answers, the answer of each.
    """

    name: str
    n: int
    asked: int
    response_rate: float
    released_at: Instant | None
    side: Side | None = None
    statement: str | None = None
    until: str | None = None
    change: ChangeBand | None = None
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
            own = {"side": side, "statement": text, "until": milestone, "change": cell.change_band}
        elif cell.name == MET_EARLY:
            own = {"share": _rounded(cell.mean)}
        elif cell.name == FIRST_MEETING:
            own = {"median_days": cell.quantile(0.5), "p90_days": cell.quantile(0.9)}
        rate = round(cell.n / cell.asked, 3) if cell.asked else 0.0
        common = {"name": cell.name, "n": cell.n, "asked": cell.asked, "released_at": cell.released_at}
        return cls.model_validate({**common, "response_rate": rate, **own})


class ReportView(BaseModel):
    """The report of a programme: counts of pairings (None below k), and released statistics of at least k people."""

    programme_id: str
    k: int
    funnel: dict[str, int | None]
    figures: list[StatisticView]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


class SessionBody(RequestBody):
    """A meeting with a date. ``held``: it has taken place already, whether or not it was scheduled here."""

    starts_at: Instant
    held: bool = False


class MoveBody(RequestBody):
    """The new date of a meeting."""

    starts_at: Instant


class PulseBody(RequestBody):
    """Whether they met, and whether it was worth the time. None means "cannot say"."""

    met: bool
    worth: Rating | None = None


class AnswersBody(RequestBody):
    """The answers by the number of the question. None or absent means "cannot say"."""

    answers: dict[Annotated[str, Field(max_length=8)], Rating | None] = Field(default_factory=dict, max_length=20)
    call_me: bool = False


class HandOverBody(RequestBody):
    """The consent to another reader. ``contact``: whom the programme names now, as the caller has read it."""

    contact: Annotated[str, Field(min_length=1, max_length=320)]


class IdeaBody(RequestBody):
    """The text of an idea. Without a text, only the number of ideas grows."""

    text: Annotated[str, Field(min_length=1, max_length=500), SEVERAL_LINES] | None = None
