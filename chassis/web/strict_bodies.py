"""Strict JSON bodies, for every route alike: no unknown field at any depth, and no value of another type.

The models of the contracts ignore unknown fields, since a newer writer may add some. A request is different: a field
that nobody knows is a mistake, and a mistake that is ignored reads like success. So ``true`` is no number, ``"7"`` is
no 7, ``0`` is no date, and a misspelt field is named together with the nearest known one.
"""

from collections.abc import Hashable
from difflib import get_close_matches
from functools import cache
from typing import Any, cast, get_args

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError


def check_strictly(annotation: Any, body: bytes) -> None:
    """Raises ``RequestValidationError`` when the JSON text does not match the type strictly."""
    try:
        _adapter(annotation).validate_json(body, strict=True, extra="forbid")
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise RequestValidationError([_locate(detail, annotation) for detail in details]) from None


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _locate(detail: Any, annotation: Any) -> dict[str, Any]:
    located = {**detail, "loc": ("body", *detail["loc"])}
    if detail["type"] == "extra_forbidden":
        similar = get_close_matches(str(detail["loc"][-1]).strip().casefold(), field_names(annotation), n=1)
        located["ctx"] = {"similar": similar[0]} if similar else {}
    return located


@cache
def field_names(annotation: Hashable) -> frozenset[str]:
    """The names of all fields of a body, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        names = {field.alias or name for name, field in annotation.model_fields.items()}
        inner = (field_names(cast("Hashable", field.annotation)) for field in annotation.model_fields.values())
        return frozenset(names).union(*inner)
    return frozenset[str]().union(*map(field_names, get_args(annotation)))
