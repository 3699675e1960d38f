"""A round: computed in the background, reviewed by a coordinator, then published or discarded.

The document holds totals, a cursor and the adjustments. Proposals and unmatched people are documents of their own. A
worker claims the round by extending its lease (machine time). An overtaken run sees another ``run`` number and stops.
A computed round may be solved again: *whole*, from the current profiles, or *repaired* around the adjustments. A
*trial* is a round with other settings; it is compared and never published.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import CommandRejected, NotFound
from contracts.moment import Moment
from contracts.programmes import ProgrammeSettings, RoundComputed, RoundPublished
from contracts.unmatched import MemberUnmatched
from services.matcher.domain.rounds.adjustment import (
    Adjustment,
    AdjustmentEffect,
    append_adjustment,
    apply_effects,
    remove_adjustment,
)

ROUND_LEASE = timedelta(seconds=30)  # machine time without a heartbeat after which another worker takes over

RoundStage = Literal["waiting", "reading", "scoring", "solving", "repairing", "writing", "proposing", "done"]


class RoundProgress(FrozenModel):
    """The progress of the current work. ``stalled``: it has not moved for a while, as on an overloaded machine."""

    stage: RoundStage = "waiting"
    done: int = 0
    total: int = 0
    stalled: bool = False


class Round(FrozenModel):
    """One round with its totals.

    ``lottery``: a secret from which the draw among near-equals follows; the same for all rounds of a programme, and
    empty for a trial, which draws nothing.
    """

    round_id: str
    programme_id: str
    programme_version: int
    settings: ProgrammeSettings
    seed: int
    lottery: str = ""
    state: Literal["computing", "computed", "publishing", "published", "discarded", "failed"]
    trial: bool = False
    run: int = 0
    tries: int = 0  # runs since a result was last requested
    whole: bool = True  # whether the next result is computed from scratch
    progress: RoundProgress = RoundProgress()
    seniors: int = 0
    juniors: int = 0
    pairs: int = 0
    unmatched_seniors: int = 0
    unmatched_juniors: int = 0
    total_fit: float = 0
    lowest_fit: float | None = None
    optimum: float = 0
    bound: float | None = None
    why: str | None = None
    adjustments: tuple[Adjustment, ...] = ()
    named: tuple[str, ...] = ()  # members of the adjustments, so that an erasure finds them
    result: int = 0  # the run whose proposals are valid
    places: int = 0  # highest number of a proposal; some numbers may be unused by now
    cursor: str | None = None
    told_cursor: str | None = None  # the last member without a partner who was told
    proposed: int = 0
    withdrawn: int = 0
    started_at: Instant
    computed_at: Instant | None = None
    published_at: Instant | None = None
    happened_at: Instant
    recorded_at: Instant
    due: Instant | None = None
    lease: Instant | None = None


class RoundTotals(FrozenModel):
    """The totals of a computation."""

    seniors: int
    juniors: int
    pairs: int
    unmatched_seniors: int
    unmatched_juniors: int
    total_fit: float
    lowest_fit: float | None
    why: str | None
    places: int
    optimum: float = 0
    bound: float | None = None
    effects: tuple[AdjustmentEffect, ...] = ()


Decision = tuple[Round, Sequence[OutgoingEvent]]


def start_round(
    existing: Round | None,
    round_id: str,
    programme: tuple[str, int, str, ProgrammeSettings],
    seed: int,
    moment: Moment,
    *,
    lottery: str = "",
    trial: bool = False,
) -> Decision | None:
    """Request a round. ``programme``: id, version, state and the settings to use. None if it exists already."""
    if existing is not None:
        return None
    programme_id, version, state, settings = programme
    if state != "open":
        raise CommandRejected("programme_not_open", "Rounds run in open programmes only.")
    if settings.ends is not None and settings.ends < moment.now.date():
        raise CommandRejected("already_over", "This programme's last day has passed; nobody is paired any more.")
    round = Round(
        round_id=round_id,
        programme_id=programme_id,
        programme_version=version,
        settings=settings,
        seed=seed,
        lottery="" if trial else lottery,
        trial=trial,
        state="computing",
        started_at=moment.now,
        happened_at=moment.now,
        recorded_at=moment.recorded_at,
        lease=moment.recorded_at,
    )
    return round, []


def claim_run(round: Round, recorded_at: datetime) -> Decision | None:
    """Claim the work; None if another worker holds it, or if there is none."""
    if round.state not in ("computing", "publishing") or round.lease is None or round.lease > recorded_at:
        return None
    # A crash may leave a repair half done: the next try starts from scratch.
    changes = {"run": round.run + 1, "tries": round.tries + 1, "whole": round.whole or round.tries > 0}
    return round.model_copy(update={**changes, "lease": recorded_at + ROUND_LEASE}), []


def record_progress(round: Round, run: int, progress: RoundProgress, recorded_at: datetime) -> Decision | None:
    """Record progress and extend the lease. None: the run was overtaken, or the round was discarded."""
    if round.run != run or round.state not in ("computing", "publishing"):
        return None
    return round.model_copy(update={"progress": progress, "lease": recorded_at + ROUND_LEASE}), []


def extend_lease(round: Round, run: int, recorded_at: datetime) -> datetime | None:
    """The new lease of ``run`` in the middle of a step, which has no progress to report. None: it was overtaken."""
    if round.run != run or round.state not in ("computing", "publishing"):
        return None
    return recorded_at + ROUND_LEASE


def complete_computation(round: Round, run: int, totals: RoundTotals, moment: Moment) -> Decision | None:
    """The result is stored and awaits review. None: the run was overtaken."""
    if round.run != run or round.state != "computing":
        return None
    after = _change(
        round,
        moment,
        **totals.model_dump(exclude={"effects"}),
        **_adjustment_fields(apply_effects(round.adjustments, totals.effects)),
        state="computed",
        result=run if round.whole else round.result,
        computed_at=moment.now,
        lease=None,
        progress=RoundProgress(stage="done", done=totals.pairs, total=totals.pairs),
    )
    return after, [RoundComputed(**_public_fields(after))] if round.whole and not round.trial else []


def add_adjustment(round: Round, adjustment: Adjustment) -> Decision | None:
    """Add an adjustment; it takes effect when the round is solved again. Raises ``CommandRejected``."""
    _require_review(round)
    if any(existing.adjustment_id == adjustment.adjustment_id for existing in round.adjustments):
        return None
    return round.model_copy(update=_adjustment_fields(append_adjustment(round.adjustments, adjustment))), []


def undo_adjustment(round: Round, adjustment_id: str) -> Decision | None:
    """Undo an adjustment; its effect ends when the round is solved again. Raises ``NotFound``."""
    _require_review(round)
    if all(adjustment.adjustment_id != adjustment_id for adjustment in round.adjustments):
        raise NotFound("adjustment")
    return round.model_copy(update=_adjustment_fields(remove_adjustment(round.adjustments, adjustment_id))), []


def request_resolve(round: Round, moment: Moment, *, whole: bool) -> Decision | None:
    """Request another result with all adjustments. None if that is under way, or if nothing has changed."""
    if round.state == "computing" and round.result:
        return None
    _require_review(round)
    if not whole and all(adjustment.state == "in_force" for adjustment in round.adjustments):
        return None
    changes = {
        "state": "computing",
        "whole": whole,
        "tries": 0,
        "progress": RoundProgress(),
        "lease": moment.recorded_at,
    }
    return _change(round, moment, **changes), []


def cancel_computation(round: Round, moment: Moment) -> Decision | None:
    """Stop computing. The earlier result is valid again; a round without a result is discarded."""
    if round.state == "discarded":
        return None
    if round.state != "computing":
        raise CommandRejected("not_computing", "Nothing is being computed.")
    if not round.result:
        return discard_round(round, moment)
    if not round.whole:
        raise CommandRejected("nearly_done", "A repair takes a moment only; wait for it.")
    progress = RoundProgress(stage="done", done=round.pairs, total=round.pairs)
    return _change(round, moment, state="computed", lease=None, progress=progress), []


def erase_member(round: Round, member_id: str) -> Decision | None:
    """Drop every adjustment that names an erased member; None if there is none."""
    remaining = tuple(adjustment for adjustment in round.adjustments if member_id not in adjustment.members)
    return None if remaining == round.adjustments else (round.model_copy(update=_adjustment_fields(remaining)), [])


def fail_computation(round: Round, run: int, why: str, moment: Moment) -> Decision | None:
    """The round cannot be computed, and a retry would not help."""
    if round.run != run or round.state != "computing":
        return None
    state = "computed" if round.result else "failed"  # an earlier result stays valid
    return _change(round, moment, state=state, why=why, lease=None), []


def start_publication(round: Round, moment: Moment) -> Decision | None:
    """Start to send the proposals. None if that has begun. Raises ``CommandRejected``."""
    if round.state in ("publishing", "published"):
        return None
    if round.state != "computed":
        raise CommandRejected("round_not_ready", "Only a computed round can be published.")
    if round.trial:
        raise CommandRejected(
            "trial_round", "This is a trial under other settings; change the programme and run a round."
        )
    if any(adjustment.state != "in_force" for adjustment in round.adjustments):
        raise CommandRejected(
            "not_resolved", "It was changed by hand since it was solved: solve it again, or undo that."
        )
    progress = RoundProgress(stage="proposing", done=0, total=round.pairs)
    return _change(round, moment, state="publishing", lease=moment.recorded_at, progress=progress), []


def discard_round(round: Round, moment: Moment) -> Decision | None:
    """Discard the round, even while it is being computed. Raises ``CommandRejected`` once proposals went out."""
    if round.state == "discarded":
        return None
    if round.state not in ("computing", "computed", "failed"):
        raise CommandRejected("round_not_ready", "This round's proposals have gone out.")
    return _change(round, moment, state="discarded", lease=None), []


def record_published_batch(
    round: Round, run: int, cursor: str, proposed: int, withdrawn: int, recorded_at: datetime
) -> Decision | None:
    """A batch of proposals has been sent; ``proposed`` and ``withdrawn`` count this batch alone."""
    if round.run != run or round.state != "publishing" or (round.cursor is not None and cursor <= round.cursor):
        return None
    done = round.proposed + round.withdrawn + proposed + withdrawn
    changes = {
        "cursor": cursor,
        "proposed": round.proposed + proposed,
        "withdrawn": round.withdrawn + withdrawn,
        "progress": RoundProgress(stage="proposing", done=done, total=round.pairs),
        "lease": recorded_at + ROUND_LEASE,
    }
    return round.model_copy(update=changes), []


def tell_unmatched(round: Round, run: int, cursor: str, codes: Mapping[str, str], moment: Moment) -> Decision | None:
    """Tell a batch of members that they have no partner. ``codes``: why, by member. ``cursor``: the last member."""
    is_done = round.told_cursor is not None and cursor <= round.told_cursor
    if round.run != run or round.state != "publishing" or is_done:
        return None
    events = [
        MemberUnmatched(
            member_id=id,
            programme_id=round.programme_id,
            round_id=round.round_id,
            code=code,
            happened_at=moment.now,
            recorded_at=moment.recorded_at,
        )
        for id, code in codes.items()
    ]
    return round.model_copy(update={"told_cursor": cursor, "lease": moment.recorded_at + ROUND_LEASE}), events


def complete_publication(round: Round, run: int, moment: Moment) -> Decision | None:
    """All proposals have been sent."""
    if round.run != run or round.state != "publishing":
        return None
    progress = RoundProgress(stage="done", done=round.pairs, total=round.pairs)
    after = _change(round, moment, state="published", published_at=moment.now, lease=None, progress=progress)
    return after, [RoundPublished(**_public_fields(after))]


def _adjustment_fields(adjustments: tuple[Adjustment, ...]) -> dict[str, Any]:
    members = {member for adjustment in adjustments for member in adjustment.members}
    return {"adjustments": adjustments, "named": tuple(sorted(members))}


def result_id(round_id: str, run: int) -> str:
    """The id under which a result of a round is stored."""
    return f"{round_id}/{run}"


def number(rank: int) -> str:
    """A proposal's place in its result, as text that sorts like the number."""
    return f"{rank:06d}"


def _require_review(round: Round) -> None:
    if round.state != "computed":
        raise CommandRejected("round_not_ready", "Only a computed round that was not published yet can be changed.")


def _change(round: Round, moment: Moment, **changes: Any) -> Round:
    return round.model_copy(update={"happened_at": moment.now, "recorded_at": moment.recorded_at, **changes})


def _public_fields(round: Round) -> dict[str, Any]:
    names = (
        "round_id",
        "programme_id",
        "programme_version",
        "state",
        "seniors",
        "juniors",
        "pairs",
        "proposed",
        "withdrawn",
        "unmatched_seniors",
        "unmatched_juniors",
        "happened_at",
        "recorded_at",
    )
    return {name: getattr(round, name) for name in names}
