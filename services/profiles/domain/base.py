"""Base classes of the domain of profiles."""

from pydantic import BaseModel, ConfigDict

from contracts.envelope import Instant


class ProfilesValue(BaseModel):
    """Base of immutable values. A validation error never shows the input, which may be personal."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class ProfilesState(ProfilesValue):
    """Base of aggregates: ``due`` is the next deadline in business time, ``lease`` the next one in machine time."""

    due: Instant | None = None
    lease: Instant | None = None
