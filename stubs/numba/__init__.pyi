from collections.abc import Callable
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])

def njit(
    *, nogil: bool = ..., cache: bool = ..., error_model: str = ..., fastmath: bool | set[str] = ...
) -> Callable[[_Function], _Function]: ...
