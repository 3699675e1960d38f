"""Statistics over many people that reveal nothing about one person.

A *cell* is one statistic of one programme. Values enter it in batches, each from at least k different people who do not
all say the same. A released cell changes by whole batches only. So a comparison of two releases shows no group smaller
than k, and nobody's answer for certain. No two cells hold the same answers, and there are no totals over cells. Nothing
is ever taken out again: a merged value identifies nobody. k is the programme's ``min_group``, never below ``MIN_K``.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.moment import Moment
from contracts.profiles import Side

MIN_K = 5  # people; a programme may ask for more
END_RANK = 10_000  # sorts the end of a pairing after every day

CHANGE_ITEMS: Mapping[str, bool] = {"1": True, "3": False, "4": False}
"""The items whose change is a statistic, and whether they are asked on day 0 (a test compares this with the questions):
confidence (1), and being heard (3, 4)."""

MET_EARLY = "met_by_day_30"
FIRST_MEETING = "days_to_first_meeting"


class Cell(FrozenModel):
    """One statistic: how often each value occurred.

    ``taking``: the ids of the contributions in the batch that is being merged. ``asked``: how many values there could
    be.
    """

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
        """The smallest value that at least ``share`` of all values do not exceed."""
        count = 0
        for value in sorted(self.values):
            count += self.values[value]
            if count >= share * self.n:
                return value
        return None


class Contribution(FrozenModel):
    """One value that waits for others. ``members`` are the people it is about."""

    id: str
    members: tuple[str, ...]
    value: int


Decision = tuple[Cell, Sequence[OutgoingEvent]]


def change_cell_name(item: str, milestone: str, side: Side) -> str:
    """The name of the cell for the change of one item up to a milestone, for one side."""
    return f"{item}:{milestone}:{side}"


def parse_change_cell(cell: str) -> tuple[str, str, Side] | None:
    """Item, milestone and side of such a cell; None for other cells."""
    item, _, rest = cell.partition(":")
    milestone, _, side = rest.partition(":")
    return (item, milestone, "senior" if side == "senior" else "junior") if rest else None


def milestone_rank(milestone: str) -> int:
    """A number that sorts milestones by time."""
    return END_RANK if milestone == "end" else int(milestone.removeprefix("day_"))


def can_be_released(name: str, contributions: Sequence[Contribution], k: int) -> bool:
    """Whether the contributions come from at least k different people, and do not all say the same.

    Equal answers would tell the answer of each of these people. The other cells hold facts, which are public.
    """
    people = {member for contribution in contributions for member in contribution.members}
    values = {contribution.value for contribution in contributions}
    return len(people) >= max(k, MIN_K) and (len(values) > 1 or parse_change_cell(name) is None)


def merge_batch(
    cell: Cell | None,
    programme_id: str,
    name: str,
    contributions: Sequence[Contribution],
    k: int,
    possible_values: int,
    batches: int,
    moment: Moment,
) -> Decision | None:
    """Merge all waiting contributions into the cell if they come from enough people.

    ``batches`` is the number of merged batches that the caller saw. ``possible_values`` is how many values there could
    be. Returns None when there are too few people, or all answers are equal. It returns None too when another batch
    came first, or when the contributions of the last batch are not marked yet.
    """
    before = cell or Cell(programme_id=programme_id, name=name)
    if before.batches != batches or before.taking or not can_be_released(name, contributions, k):
        return None
    values = dict(before.values)
    for contribution in contributions:
        values[contribution.value] = values.get(contribution.value, 0) + 1
    return before.model_copy(
        update={
            "values": values,
            "asked": max(possible_values, sum(values.values())),
            "batches": batches + 1,
            "released_at": moment.now,
            "taking": tuple(contribution.id for contribution in contributions),
            "lease": moment.recorded_at,
        }
    ), []


def mark_batch_taken(cell: Cell | None, ids: Sequence[str]) -> Decision | None:
    """The contributions of the last batch are marked as taken, so the next batch may come."""
    if cell is None or cell.taking != tuple(ids):
        return None
    return cell.model_copy(update={"taking": (), "lease": None}), []
