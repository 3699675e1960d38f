"""What every part of the domain stands on."""

from pydantic import BaseModel, ConfigDict

from contracts.envelope import Instant


class Value(BaseModel):
    """Immutable; an error about it never shows the value, which may be personal."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class State(Value):
    """Base of what is stored as an aggregate: ``due`` in business time, ``lease`` in machine time."""

    due: Instant | None = None
    lease: Instant | None = None
