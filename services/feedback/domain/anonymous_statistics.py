"""Statistics over many people that reveal nothing about one person.

A *cell* is one statistic of one programme. Values enter it in batches, each from at least k different people. A cell
changes by whole batches only, and at fixed times: in the first moment of a week. Whether a batch enters depends on who
has answered, never on what they said: "cannot say" counts like every answer. So neither a comparison of two releases
nor the moment of one tells of a single person. What rests on answers is shown in bands. None of them comes from equal
answers alone, so a band is nobody's answer for certain. No two cells hold the same answers, and there are no totals
over cells. Nothing is ever taken out again: a merged value identifies nobody. k is the programme's ``min_group``, never
below ``MIN_K``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import fmean
from typing import Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.moment import Moment, next_week
from contracts.profiles import Side

MIN_K = 5  # people; a programme may ask for more
END_RANK = 10_000  # sorts the end of a pairing after every day

CHANGE_ITEMS: Mapping[str, bool] = {"1": True, "3": False, "4": False}
"""The items whose change is a statistic, and whether they are asked on day 0 (a test compares this with the questions):
confidence (1), and being heard (3, 4)."""

MET_EARLY = "met_by_day_30"
FIRST_MEETING = "days_to_first_meeting"


ChangeBand = Literal["much_better", "better", "about_the_same", "worse", "much_worse"]
_BANDS: Sequence[tuple[float, ChangeBand]] = (
    (0.75, "much_better"),
    (0.25, "better"),
    (-0.25, "about_the_same"),
    (-0.75, "worse"),
    (-4.0, "much_worse"),
)
"""From which mean change, on the scale of five answers, a band begins. Each covers many combinations of answers."""


class Cell(FrozenModel):
    """One statistic: how often each value occurred.

    ``taking``: the ids of the contributions in the batch that is being merged. ``counted``: the contributions merged so
    far, also those without a value. ``asked``: how many there could be. ``due``: when the next batch may enter.
    """

    programme_id: str
    name: str
    values: dict[int, int] = Field(default_factory=dict)
    counted: int = 0
    asked: int = 0
    batches: int = 0
    released_at: Instant | None = None
    taking: tuple[str, ...] = ()
    due: Instant | None = None
    lease: Instant | None = None

    @property
    def n(self) -> int:
        """The merged contributions. A cell of the former version counted only those with a value."""
        return max(self.counted, self._with_value)

    @property
    def _with_value(self) -> int:
        return sum(self.values.values())

    @property
    def mean(self) -> float | None:
        return fmean(self.values, weights=self.values.values()) if self.values else None

    def quantile(self, share: float) -> int | None:
        """The smallest value that at least ``share`` of all values do not exceed."""
        count = 0
        for value in sorted(self.values):
            count += self.values[value]
            if count >= share * self._with_value:
                return value
        return None

    @property
    def change_band(self) -> ChangeBand | None:
        """The band of the mean change. None while fewer than ``MIN_K`` contributions have a value."""
        mean = self.mean
        if mean is None or self._with_value < MIN_K:
            return None
        return next(band for begin, band in _BANDS if mean >= begin)


class Contribution(FrozenModel):
    """One value that waits for others; None if the person cannot say. ``members`` are the people it is about."""

    id: str
    members: tuple[str, ...]
    value: int | None


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


def schedule_release(cell: Cell | None, programme_id: str, name: str, now: datetime) -> Decision | None:
    """Plan the next release; None if one is planned already."""
    if cell is not None and cell.due is not None:
        return None
    before = cell or Cell(programme_id=programme_id, name=name)
    return before.model_copy(update={"due": next_week(now)}), []


def can_be_released(contributions: Sequence[Contribution], k: int) -> bool:
    """Whether the contributions come from at least k different people, whatever they said."""
    people = {member for contribution in contributions for member in contribution.members}
    return len(people) >= max(k, MIN_K)


def release_batch(
    cell: Cell | None,
    due: datetime,
    contributions: Sequence[Contribution],
    k: int,
    possible_values: int,
    moment: Moment,
) -> Decision | None:
    """Merge all waiting contributions into the cell if they come from enough people, and plan the next release.

    ``due``: the release that the caller saw. ``possible_values``: how many contributions there could be. Returns None
    when this release is over, or while the contributions of the last batch are not marked yet.
    """
    if cell is None or cell.due != due or cell.taking:
        return None
    planned = cell.model_copy(update={"due": next_week(moment.now)})
    if not can_be_released(contributions, k):
        return planned, []
    values = dict(cell.values)
    for contribution in contributions:
        if contribution.value is not None:
            values[contribution.value] = values.get(contribution.value, 0) + 1
    counted = cell.n + len(contributions)
    return planned.model_copy(
        update={
            "values": values,
            "counted": counted,
            "asked": max(possible_values, counted),
            "batches": cell.batches + 1,
            "released_at": due,
            "taking": tuple(contribution.id for contribution in contributions),
            "lease": moment.recorded_at,
        }
    ), []


def mark_batch_taken(cell: Cell | None, ids: Sequence[str]) -> Decision | None:
    """The contributions of the last batch are marked as taken, so the next batch may come."""
    if cell is None or cell.taking != tuple(ids):
        return None
    return cell.model_copy(update={"taking": (), "lease": None}), []
