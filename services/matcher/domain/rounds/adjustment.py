"""What a coordinator wants otherwise in a computed round: two held together, two kept apart, two pairs swapped.

An adjustment that cannot be has no effect, and nothing tells why: it may be somebody's own wish.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from contracts.base import FrozenModel
from contracts.errors import CommandRejected

MAX_ADJUSTMENTS = 200  # adjustments of one round; they stand in its document

Pair = tuple[str, str]  # (senior, junior)


class Adjustment(FrozenModel):
    """``pairs``: the one that is held or kept apart, or the two that a swap makes.

    ``state``: *new* until the round is solved with it, *undone* until it is solved without. ``kept``: whether it came
    about. ``cost``: what the round's total fit has lost by it; below 0 where it has gained.
    """

    adjustment_id: str
    kind: Literal["lock", "forbid", "swap"]
    pairs: tuple[Pair, ...]
    state: Literal["new", "in_force", "undone"] = "new"
    kept: bool | None = None
    cost: float | None = None

    @property
    def members(self) -> frozenset[str]:
        return frozenset(member for pair in self.pairs for member in pair)

    @property
    def is_wanted(self) -> bool:
        """Whether its pairs are to be, rather than not."""
        return self.kind != "forbid"


class AdjustmentEffect(FrozenModel):
    """What became of one adjustment when the round was solved."""

    adjustment_id: str
    kept: bool
    cost: float


def append_adjustment(adjustments: Sequence[Adjustment], adjustment: Adjustment) -> tuple[Adjustment, ...]:
    """Raises ``CommandRejected`` where it contradicts what stands, or there are too many."""
    if len(adjustments) >= MAX_ADJUSTMENTS:
        raise CommandRejected(
            "too_many_adjustments", f"One round takes {MAX_ADJUSTMENTS} changes by hand; change the settings instead."
        )
    standing = {
        frozenset(pair): existing for existing in adjustments if existing.state != "undone" for pair in existing.pairs
    }
    for pair in adjustment.pairs:
        conflicting = standing.get(frozenset(pair))
        if conflicting is not None:
            effect = "held together" if conflicting.is_wanted else "kept apart"
            raise CommandRejected("adjusted_already", f"These two are {effect} already; undo that first.")
    return (*adjustments, adjustment)


def remove_adjustment(adjustments: Sequence[Adjustment], adjustment_id: str) -> tuple[Adjustment, ...]:
    """Without the one, or with it marked where the result still shows it."""
    remaining = []
    for adjustment in adjustments:
        if adjustment.adjustment_id != adjustment_id:
            remaining.append(adjustment)
        elif adjustment.state != "new":
            remaining.append(adjustment.model_copy(update={"state": "undone"}))
    return tuple(remaining)


def apply_effects(adjustments: Sequence[Adjustment], effects: Iterable[AdjustmentEffect]) -> tuple[Adjustment, ...]:
    """What stands after a result: undone ones are gone, the others have had their effect."""
    by_id = {effect.adjustment_id: effect for effect in effects}
    return tuple(
        adjustment.model_copy(update={"state": "in_force", "kept": effect.kept, "cost": effect.cost})
        for adjustment in adjustments
        if adjustment.state != "undone" and (effect := by_id.get(adjustment.adjustment_id)) is not None
    )
