"""A round: computed in the background, reviewed by a coordinator, then published or discarded.

The document holds totals and a cursor; proposals and people left over are documents of their own. Whoever works on it
claims it by moving its lease (machine time) on; a run that was overtaken finds another ``run`` number and stops.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from contracts.envelope import Instant, Said
from contracts.programmes import ProgrammeSettings, RoundComputed, RoundPublished
from services.matcher.domain.refused import Refused

LEASE = timedelta(seconds=30)  # without a sign of life for so long, somebody else takes the work up

Stage = Literal["waiting", "reading", "scoring", "solving", "writing", "proposing", "done"]


class Progress(BaseModel):
    """How far the current work is."""

    model_config = ConfigDict(frozen=True)

    stage: Stage = "waiting"
    done: int = 0
    total: int = 0


class Round(BaseModel):
    """Totals of one round."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    round_id: str
    programme_id: str
    programme_version: int
    settings: ProgrammeSettings
    seed: int
    state: Literal["computing", "computed", "publishing", "published", "discarded", "failed"]
    run: int = 0
    progress: Progress = Progress()
    seniors: int = 0
    juniors: int = 0
    pairs: int = 0
    unmatched_seniors: int = 0
    unmatched_juniors: int = 0
    total_fit: float = 0
    lowest_fit: float | None = None
    why: str | None = None
    result: int = 0  # the run whose proposals count
    cursor: str | None = None
    proposed: int = 0
    withdrawn: int = 0
    started_at: Instant
    computed_at: Instant | None = None
    published_at: Instant | None = None
    happened_at: Instant
    recorded_at: Instant
    due: Instant | None = None
    lease: Instant | None = None


class Totals(BaseModel):
    """What came out of the computation."""

    model_config = ConfigDict(frozen=True)

    seniors: int
    juniors: int
    pairs: int
    unmatched_seniors: int
    unmatched_juniors: int
    total_fit: float
    lowest_fit: float | None
    why: str | None


Decision = tuple[Round, Sequence[Said]]


def start(
    existing: Round | None,
    round_id: str,
    programme: tuple[str, int, str, ProgrammeSettings],
    seed: int,
    now: datetime,
    recorded_at: datetime,
) -> Decision | None:
    """Ask for a round; ``programme`` is its id, version, state and settings."""
    if existing is not None:
        return None
    programme_id, version, state, settings = programme
    if state != "open":
        raise Refused("programme_not_open", "Rounds run in open programmes only.")
    made = Round(
        round_id=round_id,
        programme_id=programme_id,
        programme_version=version,
        settings=settings,
        seed=seed,
        state="computing",
        started_at=now,
        happened_at=now,
        recorded_at=recorded_at,
        lease=recorded_at,
    )
    return made, []


def claim(round: Round, recorded_at: datetime) -> Decision | None:
    """Take up the work; None where somebody is at it, or there is none."""
    if round.state not in ("computing", "publishing") or round.lease is None or round.lease > recorded_at:
        return None
    return round.model_copy(update={"run": round.run + 1, "lease": recorded_at + LEASE}), []


def advance(round: Round, run: int, progress: Progress, recorded_at: datetime) -> Decision | None:
    """A sign of life of ``run``. None: it was overtaken, or the round was discarded."""
    if round.run != run or round.state not in ("computing", "publishing"):
        return None
    return round.model_copy(update={"progress": progress, "lease": recorded_at + LEASE}), []


def computed(round: Round, run: int, totals: Totals, now: datetime, recorded_at: datetime) -> Decision | None:
    """The result is stored and waits for a coordinator. None: ``run`` was overtaken."""
    if round.run != run or round.state != "computing":
        return None
    after = _at(
        round,
        now,
        recorded_at,
        **totals.model_dump(),
        state="computed",
        result=run,
        computed_at=now,
        lease=None,
        progress=Progress(stage="done", done=totals.pairs, total=totals.pairs),
    )
    return after, [RoundComputed(**_fields(after))]


def failed(round: Round, run: int, why: str, now: datetime, recorded_at: datetime) -> Decision | None:
    """It cannot be computed, and trying again would not help."""
    if round.run != run or round.state != "computing":
        return None
    return _at(round, now, recorded_at, state="failed", why=why, lease=None), []


def publish(round: Round, now: datetime, recorded_at: datetime) -> Decision | None:
    """Release it: from now on its proposals go out. None where that has begun."""
    if round.state in ("publishing", "published"):
        return None
    if round.state != "computed":
        raise Refused("round_not_ready", "Only a computed round can be published.")
    progress = Progress(stage="proposing", done=0, total=round.pairs)
    return _at(round, now, recorded_at, state="publishing", lease=recorded_at, progress=progress), []


def discard(round: Round, now: datetime, recorded_at: datetime) -> Decision | None:
    """Throw it away; also one that is still being computed."""
    if round.state == "discarded":
        return None
    if round.state not in ("computing", "computed", "failed"):
        raise Refused("round_not_ready", "This round's proposals have gone out.")
    return _at(round, now, recorded_at, state="discarded", lease=None), []


def published_up_to(
    round: Round, run: int, cursor: str, proposed: int, withdrawn: int, recorded_at: datetime
) -> Decision | None:
    """A stretch of proposals has gone out: ``proposed`` and ``withdrawn`` are the numbers of this stretch."""
    if round.run != run or round.state != "publishing" or (round.cursor is not None and cursor <= round.cursor):
        return None
    done = round.proposed + round.withdrawn + proposed + withdrawn
    changes = {
        "cursor": cursor,
        "proposed": round.proposed + proposed,
        "withdrawn": round.withdrawn + withdrawn,
        "progress": Progress(stage="proposing", done=done, total=round.pairs),
        "lease": recorded_at + LEASE,
    }
    return round.model_copy(update=changes), []


def published(round: Round, run: int, now: datetime, recorded_at: datetime) -> Decision | None:
    """All have gone out."""
    if round.run != run or round.state != "publishing":
        return None
    progress = Progress(stage="done", done=round.pairs, total=round.pairs)
    after = _at(round, now, recorded_at, state="published", published_at=now, lease=None, progress=progress)
    return after, [RoundPublished(**_fields(after))]


def _at(round: Round, now: datetime, recorded_at: datetime, **changes: Any) -> Round:
    return round.model_copy(update={"happened_at": now, "recorded_at": recorded_at, **changes})


def _fields(round: Round) -> dict[str, Any]:
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
