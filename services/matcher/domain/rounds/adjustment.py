"""Adjustments of a computed round by a coordinator: lock a pair, forbid a pair, or swap two pairs.

An adjustment that has become impossible has no effect and shows no reason.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from contracts.base import FrozenModel
from contracts.errors import CommandRejected

MAX_ADJUSTMENTS = 200  # in one round, since its document stores them

Pair = tuple[str, str]  # (senior, junior)


class Adjustment(FrozenModel):
    """``pairs``: the locked or forbidden pair, or the two pairs that a swap creates.

    ``state``: *new* until the round is solved with it, *undone* until it is solved without it. ``kept``: whether the
    result fulfils it. ``cost``: the loss of total fit; below 0 if the adjustment gained.
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
        """Whether its pairs are required (lock, swap) rather than forbidden."""
        return self.kind != "forbid"


class AdjustmentEffect(FrozenModel):
    """The effect of one adjustment on a solved round."""

    adjustment_id: str
    kept: bool
    cost: float


def append_adjustment(adjustments: Sequence[Adjustment], adjustment: Adjustment) -> tuple[Adjustment, ...]:
    """Raises ``CommandRejected`` if it contradicts another adjustment, or if there are too many."""
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
    """Without this adjustment; if the result contains it already, it is marked *undone* instead."""
    remaining = []
    for adjustment in adjustments:
        if adjustment.adjustment_id != adjustment_id:
            remaining.append(adjustment)
        elif adjustment.state != "new":
            remaining.append(adjustment.model_copy(update={"state": "undone"}))
    return tuple(remaining)


def apply_effects(adjustments: Sequence[Adjustment], effects: Iterable[AdjustmentEffect]) -> tuple[Adjustment, ...]:
    """The adjustments after a result: *undone* ones are dropped, the others carry their effect."""
    by_id = {effect.adjustment_id: effect for effect in effects}
    return tuple(
        adjustment.model_copy(update={"state": "in_force", "kept": effect.kept, "cost": effect.cost})
        for adjustment in adjustments
        if adjustment.state != "undone" and (effect := by_id.get(adjustment.adjustment_id)) is not None
    )
