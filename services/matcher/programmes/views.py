"""The HTTP representation of programmes."""

from typing import Self

from pydantic import BaseModel

from contracts.envelope import Instant
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.programmes.programme import Programme, to_public_event


class ProgrammeView(BaseModel):
    """A programme with all its settings; ``version`` is that of the settings."""

    programme_id: str
    version: int
    state: str
    settings: ProgrammeSettings
    happened_at: Instant
    recorded_at: Instant

    @classmethod
    def of(cls, programme: Programme) -> Self:
        return cls.model_validate(to_public_event(programme).model_dump())
