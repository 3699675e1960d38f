"""The receipt of a proposal: how the pair was chosen, and from what, so that it can be recomputed."""

from pydantic import BaseModel, ConfigDict

from contracts.people import Side


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class RunnerUp(_Value):
    """The best partner that a side could have had instead, found as if nobody had private wishes."""

    member_id: str
    score: float


class Chosen(_Value):
    """How a pair was chosen among others; what does not apply to its origin is left out.

    ``probability``: with which the draw among near-equals took it, under ``seed``. ``override_cost``: the fit that was
    given up because a person chose otherwise, on the scale of a score.
    """

    seed: int | None = None
    probability: float | None = None
    runner_up: dict[Side, RunnerUp] = {}
    override_cost: float | None = None
