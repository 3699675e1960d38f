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


def append_adjustment(known: Sequence[Adjustment], wanted: Adjustment) -> tuple[Adjustment, ...]:
    """Raises ``CommandRejected`` where it contradicts what stands, or there are too many."""
    if len(known) >= MAX_ADJUSTMENTS:
        raise CommandRejected(
            "too_many_adjustments", f"One round takes {MAX_ADJUSTMENTS} changes by hand; change the settings instead."
        )
    standing = {frozenset(pair): one for one in known if one.state != "undone" for pair in one.pairs}
    for pair in wanted.pairs:
        other = standing.get(frozenset(pair))
        if other is not None:
            said = "held together" if other.is_wanted else "kept apart"
            raise CommandRejected("adjusted_already", f"These two are {said} already; undo that first.")
    return (*known, wanted)


def remove_adjustment(known: Sequence[Adjustment], adjustment_id: str) -> tuple[Adjustment, ...]:
    """Without the one, or with it marked where the result still shows it."""
    kept = []
    for one in known:
        if one.adjustment_id != adjustment_id:
            kept.append(one)
        elif one.state != "new":
            kept.append(one.model_copy(update={"state": "undone"}))
    return tuple(kept)


def apply_effects(known: Sequence[Adjustment], effects: Iterable[AdjustmentEffect]) -> tuple[Adjustment, ...]:
    """What stands after a result: undone ones are gone, the others have had their effect."""
    by_id = {effect.adjustment_id: effect for effect in effects}
    return tuple(
        one.model_copy(update={"state": "in_force", "kept": effect.kept, "cost": effect.cost})
        for one in known
        if one.state != "undone" and (effect := by_id.get(one.adjustment_id)) is not None
    )
