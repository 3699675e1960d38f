"""What may be said of many: figures that never tell of one.

A *cell* is one figure of one programme. Values come into it in batches, each of at least k different people, and a
released cell changes only by a whole batch: whoever compares two releases learns of no group smaller than k. No two
cells hold the same answers, there are no totals over cells, and nothing is ever taken out again: what was merged says
nothing of anybody. k is the programme's ``min_group``, never below 5.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import fmean

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.profiles import Side

MIN_K = 5  # the floor; a programme may ask for more
NEVER = 10_000  # sorts the end behind every day

CHANGE_ITEMS: Mapping[str, bool] = {"1": True, "3": False, "4": False}
"""The items whose change is told, each on its own, and whether they are asked on day 0 (a test compares the data):
confidence (1), and being heard (3, 4)."""

MET_EARLY = "met_by_day_30"
FIRST_MEETING = "days_to_first_meeting"


class Cell(FrozenModel):
    """One figure: how often each value came. ``taking`` are the contributions of the batch that is being merged."""

    programme_id: str
    name: str
    values: dict[int, int] = Field(default_factory=dict)
    asked: int = 0
    batches: int = 0
    released_at: Instant | None = None
    taking: tuple[str, ...] = ()
    due: Instant | None = None
    lease: Instant | None = None

    @property
    def n(self) -> int:
        return sum(self.values.values())

    @property
    def mean(self) -> float | None:
        return fmean(self.values, weights=self.values.values()) if self.values else None

    def quantile(self, share: float) -> int | None:
        """The smallest value that at least ``share`` of all do not exceed."""
        seen = 0
        for value in sorted(self.values):
            seen += self.values[value]
            if seen >= share * self.n:
                return value
        return None


class Contribution(FrozenModel):
    """One value that waits for others; ``members`` are the people it is about."""

    id: str
    members: tuple[str, ...]
    value: int


Decision = tuple[Cell, Sequence[OutgoingEvent]]


def change_cell_name(item: str, milestone: str, side: Side) -> str:
    """The name of the cell that holds the change of one item up to a milestone, of one side."""
    return f"{item}:{milestone}:{side}"


def parse_change_cell(cell: str) -> tuple[str, str, Side] | None:
    """Item, milestone and side of such a cell; None for the others."""
    item, _, rest = cell.partition(":")
    milestone, _, side = rest.partition(":")
    return (item, milestone, "senior" if side == "senior" else "junior") if rest else None


def milestone_rank(milestone: str) -> int:
    """Milestones in their order."""
    return NEVER if milestone == "end" else int(milestone.removeprefix("day_"))


def is_large_enough(waiting: Sequence[Contribution], k: int) -> bool:
    """Whether these are of at least k different people."""
    return len({member for one in waiting for member in one.members}) >= max(k, MIN_K)


def merge_batch(
    cell: Cell | None,
    programme_id: str,
    name: str,
    waiting: Sequence[Contribution],
    k: int,
    asked: int,
    batches: int,
    now: datetime,
    recorded_at: datetime,
) -> Decision | None:
    """The cell with all that waits, if it is of enough people; ``batches``: how many the caller saw merged before.

    None where it is of too few, or another batch came first.
    """
    before = cell or Cell(programme_id=programme_id, name=name)
    if before.batches != batches or before.taking or not is_large_enough(waiting, k):
        return None
    values = dict(before.values)
    for one in waiting:
        values[one.value] = values.get(one.value, 0) + 1
    return before.model_copy(
        update={
            "values": values,
            "asked": max(asked, sum(values.values())),
            "batches": batches + 1,
            "released_at": now,
            "taking": tuple(one.id for one in waiting),
            "lease": recorded_at,
        }
    ), []


def mark_batch_taken(cell: Cell | None, ids: Sequence[str]) -> Decision | None:
    """The contributions of the last batch are marked; the next one may come."""
    if cell is None or cell.taking != tuple(ids):
        return None
    return cell.model_copy(update={"taking": (), "lease": None}), []
