"""Hypothesis strategies for the contracts' models, built from their JSON Schema's vocabulary."""

import functools
import types
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import BaseMetadata, GroupedMetadata
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

_TEXT = "abcXYZ059_-é \U0001f600"
_IDS = st.text("abcXYZ059_-é", min_size=1, max_size=12)
_LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.one_of(_IDS, st.text(_TEXT, min_size=1, max_size=12), st.sampled_from(["day_30", "end", "proposal"])),
    int: st.one_of(st.integers(0, 30), st.integers(0, 3000)),
    float: st.floats(-2, 100, allow_nan=False),
    bool: st.booleans(),
    date: st.dates(),
    datetime: st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    type(None): st.none(),
}
_LEAVES[AwareDatetime] = _LEAVES[datetime]


@functools.cache  # what is built is checked and made only when it is drawn from for the first time
def models(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Valid instances of ``model``; what its optional fields hold is drawn too, or left to the default."""
    needed = {name: field(info) for name, info in model.model_fields.items() if info.is_required()}
    others = {name: field(info) for name, info in model.model_fields.items() if not info.is_required()}
    return st.fixed_dictionaries(needed, optional=others).map(model.model_validate)


def field(info: FieldInfo) -> st.SearchStrategy[Any]:
    """Values of one field, its limits included."""
    whole: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    return _of(info.annotation, _limits(info.metadata)).filter(_fits(whole))


def _fits(kind: Any) -> Callable[[Any], Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def fits(value: Any) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return fits


def _limits(metadata: Any) -> Mapping[str, Any]:
    result: dict[str, Any] = {}
    for entry in metadata:
        if isinstance(entry, FieldInfo):
            result |= _limits(entry.metadata)
        elif isinstance(entry, GroupedMetadata):
            result |= _limits(list(entry))
        elif isinstance(entry, BaseMetadata):
            result |= {
                name: getattr(entry, name)
                for name in ("ge", "le", "gt", "lt", "min_length", "max_length")
                if hasattr(entry, name)
            }
    return result


def _of(kind: Any, limits: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inner = _of(arguments[0], {**_limits(arguments[1:]), **limits})
        return inner.filter(_fits(kind))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_of(argument, {}) for argument in arguments))
    if origin is tuple:
        least, most = limits.get("min_length", 0), limits.get("max_length", 3)
        return st.lists(_of(arguments[0], {}), min_size=least, max_size=max(least, min(most, 3)))
    if origin is dict:
        return st.dictionaries(
            _of(arguments[0], {}), _of(arguments[1], {}), min_size=limits.get("min_length", 0), max_size=2
        )
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return models(kind)
    if kind is int and limits:
        return st.integers(limits.get("ge", limits.get("gt", -1) + 1), limits.get("le", limits.get("lt", 3001) - 1))
    if kind is float and limits:
        return st.floats(limits.get("ge", limits.get("gt")), limits["le"], exclude_min="gt" in limits)
    return _LEAVES[kind]
