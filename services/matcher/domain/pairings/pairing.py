"""The life cycle of a pairing.

    reserving -> proposed -> formed -> chartered -> ended      paused <-> resumed, renewed: while formed or chartered
        |            |
    abandoned     lapsed

``reserving`` and ``abandoned`` are never published. A refusal, an expiry, and one side leaving before both accepted all
lead to ``lapsed``. Each decision returns the new state, its event and the current state for ``pairing-states``. None
means that there is nothing to do.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.days import MONDAY_TO_FRIDAY, WorkingDays, end_of_day, end_of_working_day, local_day, start_of_day
from contracts.envelope import Instant, OutgoingEvent, Tombstone
from contracts.errors import CommandRejected
from contracts.moment import Moment
from contracts.pairings import (
    AnswerGiven,
    DeclineReason,
    Focus,
    Origin,
    PairingChartered,
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingLapsed,
    PairingPaused,
    PairingProposed,
    PairingRenewed,
    PairingResumed,
    PairingState,
    PairingStateName,
    Participant,
)
from contracts.profiles import ProfileChanged, Side
from services.matcher.domain.fit.calendar import add_months
from services.matcher.domain.fit.hard_rules import Rule
from services.matcher.domain.fit.score import Fit
from services.matcher.domain.pairings import conflict as conflicts
from services.matcher.domain.pairings.conflict import ConflictPolicy, StructuralConflict
from services.matcher.domain.receipts.receipt import Receipt, Selection

RESERVATION_LEASE = timedelta(seconds=30)  # machine time after which an unfinished reservation is given up
ERASED = "erased"  # replaces the id of an erased member in a stub
LIVE_STATES = frozenset({"proposed", "formed", "chartered", "paused"})
RUNNING_STATES = frozenset({"formed", "chartered", "paused"})
UNPUBLISHED_STATES = ("reserving", "abandoned")  # states that no event has published

InternalStateName = PairingStateName | Literal["reserving", "abandoned"]


class ProposalAnswer(FrozenModel):
    """The answer of one side to the proposal. Nobody else ever sees it."""

    answer: Literal["accepted", "declined"]
    reason: DeclineReason | None = None
    at: Instant


class PairingCharter(FrozenModel):
    """The agreement of the two."""

    goals: tuple[str, ...]
    meeting_rhythm: str = ""
    confidential: bool = True


class PairingPlan(FrozenModel):
    """Everything that is fixed before the seats are taken.

    ``zones``: where the days of the two end. ``ends``: the programme's last day. Documents
    of former versions have neither, and Monday to Friday as ``working_days``.
    ``chosen`` goes into the receipt and is not stored here, since it names other people, who may ask for erasure.
    """

    pairing_id: str
    programme_id: str
    programme_version: int
    origin: Origin
    senior: Participant
    junior: Participant
    focus: tuple[Focus, ...] = ()
    reasons: dict[Side, tuple[str, ...]] = Field(default_factory=dict)
    fit: Fit | None = None
    answer_within_working_days: int
    duration_months: int
    zones: dict[Side, str] = Field(default_factory=dict)
    working_days: WorkingDays = MONDAY_TO_FRIDAY
    ends: date | None = None
    round_id: str | None = None
    request_id: str | None = None
    predecessor_id: str | None = None
    chosen: Selection | None = Field(None, exclude=True)


class Pairing(FrozenModel):
    """A pairing, including the data that only its two sides may see."""

    plan: PairingPlan
    state: InternalStateName
    attempt: int
    receipt_id: str | None = None
    previous_state: PairingStateName | None = None
    happened_at: Instant
    recorded_at: Instant
    proposed_at: Instant | None = None
    answer_by: Instant | None = None
    answers: dict[Side, ProposalAnswer] = Field(default_factory=dict)
    formed_at: Instant | None = None
    charter: PairingCharter | None = None
    signed: tuple[Side, ...] = ()
    charter_at: Instant | None = None
    met: bool = False
    paused_at: Instant | None = None  # start of the latest pause
    before_pause: Literal["formed", "chartered"] | None = None
    pause_until: Instant | None = None
    planned_end: date | None = None
    wish_to_renew: dict[Side, int] = Field(default_factory=dict)
    renewals: int = 0
    ended_at: Instant | None = None
    end_kind: Literal["completed", "ended_early", "not_started"] | None = None
    conflict: StructuralConflict | None = None
    gone: bool = False
    due: Instant | None = None
    lease: Instant | None = None

    @property
    def id(self) -> str:
        return self.plan.pairing_id

    @property
    def is_live(self) -> bool:
        """Whether it holds its seats."""
        return self.state in LIVE_STATES

    def side_of(self, member_id: str | None) -> Side | None:
        if member_id is None or member_id == ERASED:
            return None
        if self.plan.senior.member_id == member_id:
            return "senior"
        return "junior" if self.plan.junior.member_id == member_id else None


Decision = tuple[Pairing, Sequence[OutgoingEvent]]


def build_participant(profile: ProfileChanged, side: Side) -> Participant:
    """The member as participant, as events name them."""
    return Participant(
        member_id=profile.member_id,
        side=side,
        organisation_id=profile.organisation_id,
        department_id=profile.department_id,
    )


def zones_of(senior: ProfileChanged, junior: ProfileChanged) -> dict[Side, str]:
    """The time zones of the two; UTC for a member who named none."""
    return {"senior": senior.time_zone or "UTC", "junior": junior.time_zone or "UTC"}


def to_public_event(pairing: Pairing) -> OutgoingEvent:
    """The current state for ``pairing-states``; a tombstone after an erasure."""
    if pairing.gone:
        return Tombstone(PairingState, pairing.id)
    return PairingState(**to_public_fields(pairing))


def to_public_fields(pairing: Pairing) -> dict[str, Any]:
    """The fields that all pairing events share."""
    plan = pairing.plan
    return {
        "pairing_id": plan.pairing_id,
        "state": pairing.state,
        "previous_state": pairing.previous_state,
        "happened_at": pairing.happened_at,
        "recorded_at": pairing.recorded_at,
        "programme_id": plan.programme_id,
        "programme_version": plan.programme_version,
        "round_id": plan.round_id,
        "origin": plan.origin,
        "participants": (plan.senior, plan.junior),
        "focus": plan.focus,
        "cross_organisation": plan.senior.organisation_id != plan.junior.organisation_id,
        "proposed_at": pairing.proposed_at,
        "answer_by": pairing.answer_by,
        "formed_at": pairing.formed_at,
        "charter_at": pairing.charter_at,
        "planned_end": pairing.planned_end,
        "ended_at": pairing.ended_at,
        "end_kind": pairing.end_kind,
        "renewals": pairing.renewals,
        "predecessor_id": plan.predecessor_id,
        "receipt_id": pairing.receipt_id,
    }


def begin_reservation(pairing: Pairing | None, plan: PairingPlan, moment: Moment) -> Decision | None:
    """Start a reservation, or another attempt after an abandoned one. None if one is under way or complete."""
    if pairing is not None and (pairing.state != "abandoned" or pairing.gone):
        return None
    after = Pairing(
        plan=plan,
        state="reserving",
        attempt=pairing.attempt + 1 if pairing else 1,
        happened_at=moment.now,
        recorded_at=moment.recorded_at,
        lease=moment.recorded_at + RESERVATION_LEASE,
    )
    return after, []


def abandon_reservation(pairing: Pairing | None, attempt: int, recorded_at: datetime) -> Decision | None:
    """Give up a reservation. None if this attempt is no longer reserving."""
    if pairing is None or pairing.state != "reserving" or pairing.attempt != attempt:
        return None
    return pairing.model_copy(update={"state": "abandoned", "recorded_at": recorded_at, "lease": None}), []


def propose_pairing(
    pairing: Pairing | None, receipt: Receipt, moment: Moment, *, agreed: bool = False
) -> Decision | None:
    """Ask both, once both seats are held. If both have ``agreed`` (request and acceptance), form the pairing at once.

    Fit, reasons and topics come from the receipt of this attempt. None if the attempt is no longer reserving, or if the
    organisation has changed meanwhile.
    """
    if pairing is None or pairing.state != "reserving" or pairing.attempt != receipt.attempt or pairing.conflict:
        return None
    plan = pairing.plan
    if plan.ends is not None and _today(pairing, moment) > plan.ends:
        return None
    zones = _zones(pairing)
    answer_by = end_of_working_day(moment.now, plan.answer_within_working_days, zones, plan.working_days)
    if plan.ends is not None:
        answer_by = min(answer_by, end_of_day(plan.ends, zones))
    receipt_fields = {"fit": receipt.fit, "reasons": receipt.reasons, "focus": receipt.focus}
    proposed, events = _change_state(
        pairing.model_copy(
            update={"plan": pairing.plan.model_copy(update=receipt_fields), "receipt_id": receipt.receipt_id}
        ),
        PairingProposed,
        moment,
        state="proposed",
        proposed_at=moment.now,
        answer_by=answer_by,
        lease=None,
    )
    if not agreed:
        return proposed, events
    events_of_both: list[OutgoingEvent] = list(events)
    after = proposed
    for side in ("senior", "junior"):
        decision = record_answer(after, side, "accepted", None, moment)
        assert decision is not None, "a fresh proposal has no answer yet"
        after = decision[0]
        events_of_both += decision[1]
    return after, events_of_both


def record_answer(
    pairing: Pairing,
    side: Side,
    response: Literal["accepted", "declined"],
    reason: DeclineReason | None,
    moment: Moment,
) -> Decision | None:
    """Record the answer of one side. Two acceptances form the pairing, a refusal lets it lapse.

    An acceptance may become a refusal until both have accepted. Raises ``CommandRejected``.
    """
    before = pairing.answers.get(side)
    if before is not None and before.answer == response:
        return None
    if pairing.state != "proposed":
        raise CommandRejected("not_proposed", "This suggestion is no longer open.")
    if pairing.answer_by is not None and moment.now > pairing.answer_by:
        raise CommandRejected("too_late", "The time to answer is over.")
    answers = {**pairing.answers, side: ProposalAnswer(answer=response, reason=reason, at=moment.now)}
    answer_event = AnswerGiven(
        pairing_id=pairing.id,
        programme_id=pairing.plan.programme_id,
        side=side,
        answer=response,
        reason=reason,
        happened_at=moment.now,
        recorded_at=moment.recorded_at,
    )
    answered = pairing.model_copy(update={"answers": answers})
    if response == "declined":
        after, events = _lapse(answered, moment)
        return after, [answer_event, *events]
    if len(answers) < 2:
        return answered, [answer_event]
    formed, events = _change_state(
        answered,
        PairingFormed,
        moment,
        state="formed",
        formed_at=moment.now,
        planned_end=_cut(pairing, add_months(_today(pairing, moment), pairing.plan.duration_months)),
    )
    return formed, [answer_event, *events]


def sign_charter(pairing: Pairing, side: Side, charter: PairingCharter | None, moment: Moment) -> Decision | None:
    """Agree to ``charter``, or to the current draft. A new text is a new draft, to which the other side must agree.

    Raises ``CommandRejected``.
    """
    if pairing.state not in ("formed", "chartered"):
        raise CommandRejected("wrong_state", "Only a running pairing has a charter.")
    text = charter or pairing.charter
    if text is None:
        raise CommandRejected("no_charter", "There is no draft to agree to yet.")
    if not text.confidential:
        raise CommandRejected("not_confidential", "What is said stays between the two; both have to agree to that.")
    is_unchanged = text == pairing.charter
    signed: tuple[Side, ...] = tuple(sorted({*(pairing.signed if is_unchanged else ()), side}))
    if is_unchanged and signed == pairing.signed:
        return None
    after = pairing.model_copy(update={"charter": text, "signed": signed})
    if len(signed) < 2 or pairing.state == "chartered":
        return after, []
    return _change_state(after, PairingChartered, moment, state="chartered", charter_at=moment.now)


def pause_pairing(pairing: Pairing, until: date | None, moment: Moment) -> Decision | None:
    """Pause the pairing; its seats stay held. With ``until`` it resumes by itself once that day begins for both."""
    if pairing.state == "paused":
        return None
    if pairing.state not in ("formed", "chartered"):
        raise CommandRejected("wrong_state", "Only a running pairing can be paused.")
    resumes_at = max(start_of_day(until, zone) for zone in _zones(pairing)) if until is not None else None
    if resumes_at is not None and resumes_at <= moment.now:
        raise CommandRejected("in_the_past", "A pause ends on a later day.")
    return _change_state(
        pairing,
        PairingPaused,
        moment,
        state="paused",
        paused_at=moment.now,
        before_pause=pairing.state,
        pause_until=resumes_at,
    )


def resume_pairing(pairing: Pairing, moment: Moment) -> Decision | None:
    """Resume the pairing. The planned end moves by the days of the pause."""
    if pairing.state in ("formed", "chartered"):
        return None
    if pairing.state != "paused":
        raise CommandRejected("wrong_state", "Only a paused pairing can go on.")
    days = (moment.now - pairing.paused_at).days if pairing.paused_at else 0
    end = _cut(pairing, pairing.planned_end + timedelta(days=days)) if pairing.planned_end else None
    return _change_state(
        pairing,
        PairingResumed,
        moment,
        state=pairing.before_pause,
        before_pause=None,
        pause_until=None,
        planned_end=end,
    )


def request_renewal(pairing: Pairing, side: Side, months: int, moment: Moment) -> Decision | None:
    """Record the wish of one side for more months. Once both wish it, the planned end moves by the shorter wish."""
    if pairing.state not in RUNNING_STATES or pairing.planned_end is None:
        raise CommandRejected("wrong_state", "Only a running pairing can be renewed.")
    if pairing.wish_to_renew.get(side) == months:
        return None
    wishes = {**pairing.wish_to_renew, side: months}
    if len(wishes) < 2:
        return pairing.model_copy(update={"wish_to_renew": wishes}), []
    return _change_state(
        pairing,
        PairingRenewed,
        moment,
        wish_to_renew={},
        renewals=pairing.renewals + 1,
        planned_end=_cut(pairing, add_months(pairing.planned_end, min(wishes.values()))),
    )


def end_pairing(pairing: Pairing, moment: Moment) -> Decision | None:
    """End the pairing, without recording who ended it or why; a proposal lapses. None if it is over."""
    if pairing.state == "proposed":
        return _lapse(pairing, moment)
    if pairing.state == "reserving":
        return abandon_reservation(pairing, pairing.attempt, moment.recorded_at)
    if pairing.state not in RUNNING_STATES:
        return None
    is_over = pairing.planned_end is not None and _today(pairing, moment) >= pairing.planned_end
    kind = "completed" if is_over else "ended_early" if pairing.met else "not_started"
    return _change_state(
        pairing, PairingEnded, moment, state="ended", ended_at=moment.now, end_kind=kind, conflict=None
    )


def update_conflict(
    pairing: Pairing, broken: tuple[Rule, ...], course: ConflictPolicy, now: datetime
) -> Decision | None:
    """Record the structural rules that the two break today; none clears the conflict.

    A reservation with a conflict is not proposed. No event is published. None if nothing changes, or if the pairing is
    over.
    """
    if not pairing.is_live and pairing.state != "reserving":
        return None
    conflict = conflicts.update_conflict(pairing.conflict, broken, course, now)
    if conflict == pairing.conflict:
        return None
    return _set_conflict(pairing, conflict), []


def decide_conflict(pairing: Pairing, decision: Literal["keep", "end"], moment: Moment) -> Decision | None:
    """A person decides whether the two continue despite a conflict; the end is an ordinary one.

    Raises ``CommandRejected`` if there is no conflict.
    """
    if pairing.conflict is None:
        raise CommandRejected("no_conflict", "These two break no rule about the organisation.")
    if decision == "end":
        return end_pairing(pairing, moment)
    return None if pairing.conflict.kept else (_set_conflict(pairing, conflicts.keep_pairing(pairing.conflict)), [])


def record_first_meeting(pairing: Pairing) -> Decision | None:
    """Record that they have met. It distinguishes an early end from a pairing that never started."""
    if pairing.met or pairing.gone:
        return None
    return pairing.model_copy(update={"met": True}), []


def apply_deadline(pairing: Pairing, moment: Moment) -> Decision | None:
    """Apply a deadline: an unanswered proposal lapses, a pause ends, the planned end is reached.

    A conflict whose ``ends_at`` has passed ends the pairing, unless a person has decided to keep it.
    """
    if pairing.due is None or pairing.due > moment.now:
        return None
    if pairing.conflict is not None and pairing.conflict.ends_at is not None and pairing.conflict.ends_at <= moment.now:
        return end_pairing(pairing, moment)
    if pairing.state == "proposed":
        return _lapse(pairing, moment)
    if pairing.state == "paused":
        return resume_pairing(pairing, moment)
    if pairing.state in RUNNING_STATES:
        return end_pairing(pairing, moment)
    return pairing.model_copy(update={"due": None}), []


def erase_member(pairing: Pairing, member_id: str, moment: Moment) -> Decision | None:
    """Erase one of its members: end the pairing, and leave a stub without partner and content.

    The end is still published on ``pairings`` with both ids: that topic names them already, and other services free
    their records by it. ``pairing-states`` gets a tombstone. None if the member is erased already.
    """
    side = pairing.side_of(member_id)
    if side is None:
        return None
    events: list[OutgoingEvent] = []
    after = pairing
    if pairing.is_live or pairing.state == "reserving":
        decision = end_pairing(pairing, moment)
        assert decision is not None, "what is live can be ended"
        after, end_events = decision
        events = [event for event in end_events if not isinstance(event, PairingState)]
    if after.state != "abandoned":
        events.append(Tombstone(PairingState, pairing.id))
    erased_participant = Participant(member_id=ERASED, side=side, organisation_id=ERASED, department_id=ERASED)
    plan = after.plan.model_copy(
        update={side: erased_participant, "reasons": {}, "focus": (), "fit": None, "zones": {}}
    )
    cleared_fields: dict[str, Any] = {
        "receipt_id": None,
        "conflict": None,
        "answers": {},
        "charter": None,
        "signed": (),
        "wish_to_renew": {},
    }
    return after.model_copy(update={**cleared_fields, "plan": plan, "gone": True, "due": None, "lease": None}), events


def _lapse(pairing: Pairing, moment: Moment) -> Decision:
    return _change_state(pairing, PairingLapsed, moment, state="lapsed", conflict=None)


def _set_conflict(pairing: Pairing, conflict: StructuralConflict | None) -> Pairing:
    after = pairing.model_copy(update={"conflict": conflict})
    return after.model_copy(update={"due": _next_deadline(after)})


def _change_state(pairing: Pairing, event: type[PairingEvent], moment: Moment, **changes: Any) -> Decision:
    """The pairing after ``changes``, with the event and the current state. ``due`` is computed anew."""
    previous_state = pairing.state if pairing.state not in ("reserving", "abandoned") else None
    after = pairing.model_copy(
        update={
            "previous_state": previous_state,
            "happened_at": moment.now,
            "recorded_at": moment.recorded_at,
            **changes,
        }
    )
    after = after.model_copy(update={"due": _next_deadline(after)})
    return after, [event(**to_public_fields(after)), PairingState(**to_public_fields(after))]


def _next_deadline(pairing: Pairing) -> datetime | None:
    """The business time of the next deadline."""
    ends_at = pairing.conflict.ends_at if pairing.conflict and pairing.is_live else None
    return min((at for at in (_next_regular_deadline(pairing), ends_at) if at is not None), default=None)


def _next_regular_deadline(pairing: Pairing) -> datetime | None:
    if pairing.state == "proposed":
        return pairing.answer_by
    if pairing.state in ("formed", "chartered") and pairing.planned_end is not None:
        return end_of_day(pairing.planned_end, _zones(pairing))
    return pairing.pause_until if pairing.state == "paused" else None


def _zones(pairing: Pairing) -> tuple[str, ...]:
    """Where the days of the two end; UTC for former documents and for members without a zone."""
    return tuple(pairing.plan.zones.values()) or ("UTC",)


def _today(pairing: Pairing, moment: Moment) -> date:
    """The day on which both are: the earlier one while it is tomorrow for one of them."""
    return min(local_day(moment.now, zone) for zone in _zones(pairing))


def _cut(pairing: Pairing, end: date) -> date:
    """No pairing goes on after the programme's last day."""
    return end if pairing.plan.ends is None else min(end, pairing.plan.ends)
