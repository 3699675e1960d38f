"""The base of all immutable models, in contracts and in the domains of the services."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """An immutable value.

    Fields that a newer writer adds are ignored. A validation error never repeats the input, which may be personal.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
