"""Settings of profiles only: who may send HR data, and when an import waits for a second person."""

import json
from collections.abc import Collection
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from chassis.core.settings import PREFIX, SettingsSection

Sources = dict[
    Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")], tuple[Annotated[str, Field(min_length=1)], ...]
]

_SOURCES = TypeAdapter(Sources)


class ProfilesSettings(SettingsSection):
    """``sources``: HR source -> subjects of the services that may send its data."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}PROFILES_")

    sources: Annotated[Sources, NoDecode] = Field(
        {},
        description="The services that may import HR data, as JSON: each HR source with the subjects (`sub`) of its "
        'services, e.g. {"workday": ["hr-job"]}. A service that is not named imports nothing; an admin may always.',
    )
    release_from: int = Field(
        20,
        ge=1,
        description="An import waits for a second person when it touches at least so many running pairings, and more "
        "than 5 % of them.",
    )

    @field_validator("sources", mode="before")
    @classmethod
    def _parse_json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return _SOURCES.validate_python(json.loads(value), strict=False)
        except (ValueError, ValidationError):
            raise ValueError('must be JSON such as {"workday": ["hr-job"]}') from None

    def sources_of(self, subject: str, roles: Collection[str]) -> tuple[str, ...] | None:
        """The HR sources whose data this caller may import; None: all of them."""
        if "admin" in roles:
            return None
        if "service" not in roles:
            return ()
        return tuple(sorted(source for source, subjects in self.sources.items() if subject in subjects))
