"""Base classes of the domain of profiles."""

from contracts.base import FrozenModel
from contracts.envelope import Instant


class ProfilesState(FrozenModel):
    """Base of aggregates: ``due`` is the next deadline in business time, ``lease`` the next one in machine time."""

    due: Instant | None = None
    lease: Instant | None = None
