"""The text border of HTTP: paths, queries, headers and JSON bodies, for every route alike (see ``contracts.text``).

Paths, queries and headers are checked before routing, bodies before their model. So no route needs a check of its own,
and none can forget it. Numbers are checked too: JSON has no NaN, and the store holds whole numbers of 64 bits.
"""

import math
from functools import cache
from typing import get_args
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel
from starlette.types import Scope

from chassis.core.error_redaction import redacted_location
from chassis.web.problems import Problem
from chassis.web.strict_bodies import check_strictly
from contracts.text import (
    FAULT_MESSAGES,
    MAX_NAME_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Fault,
    SeveralLines,
    find_fault,
    walk_leaves,
)

MAX_HEADER_CHARACTERS = 16 * 1024  # a token is the longest
MAX_QUERY_FIELDS = 100
MAX_INTEGER = 2**63 - 1


def find_unsafe_request(scope: Scope) -> Problem | None:
    """The refusal of a request whose path, query or headers hold unsafe text; None when they may pass."""
    for segment in scope["path"].split("/"):
        if (fault := find_fault(segment, max_characters=MAX_NAME_CHARACTERS)) is not None:
            return _refusal(("path",), fault)
    try:
        query = scope["query_string"].decode("latin-1")
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        return Problem(422, f"The query has more than {MAX_QUERY_FIELDS} fields.", code="invalid")
    for name, value in fields:
        fault = find_fault(name, max_characters=MAX_NAME_CHARACTERS) or find_fault(value)
        if fault is not None:
            return _refusal(("query", name), fault)
    for header, raw in scope["headers"]:
        fault = find_fault(raw.decode("utf-8", "replace"), max_characters=MAX_HEADER_CHARACTERS)
        if fault not in (None, "line_break"):  # a tab is legal white space in a header; line breaks cannot be in one
            return _refusal(("header", header.decode("latin-1")), fault)
    return None


async def check_body(request: Request) -> None:
    """A dependency of every route. Refuses with 422 a JSON body with unsafe values, unknown fields or wrong types."""
    field = getattr(request.scope.get("route"), "body_field", None)
    if field is None or not await request.body():
        return
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        return  # not JSON, which the route itself refuses
    check_json(body, fields_of_several_lines(field.field_info.annotation))
    check_strictly(field.field_info.annotation, await request.body())


def check_json(body: object, fields_in_lines: frozenset[str] = frozenset()) -> None:
    """Raises a ``Problem`` for the first unsafe text or number. ``fields_in_lines`` may hold line breaks."""
    for path, leaf, is_name in walk_leaves(body):
        if isinstance(leaf, str):
            fault = find_fault(
                leaf,
                several_lines=not is_name and not fields_in_lines.isdisjoint(path),
                max_characters=MAX_NAME_CHARACTERS if is_name else MAX_TEXT_CHARACTERS,
            )
            if fault is not None:
                raise _refusal(("body", *path), fault)
        elif isinstance(leaf, float) and not math.isfinite(leaf):
            raise _invalid_number(("body", *path), "must be finite")
        elif isinstance(leaf, int) and abs(leaf) > MAX_INTEGER:
            raise _invalid_number(("body", *path), f"must be from -{MAX_INTEGER} to {MAX_INTEGER}")


@cache
def fields_of_several_lines(annotation: object) -> frozenset[str]:
    """The names of the fields of a body, at any depth, whose texts may hold line breaks."""
    return _find_marked_fields(annotation)


def _find_marked_fields(annotation: object) -> frozenset[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        names = set[str]()
        for name, field in annotation.model_fields.items():
            if _is_marked(field.annotation, tuple(field.metadata)):
                names.add(field.alias or name)
            names |= _find_marked_fields(field.annotation)
        return frozenset(names)
    return frozenset[str]().union(*map(_find_marked_fields, get_args(annotation)))


def _is_marked(annotation: object, metadata: tuple[object, ...]) -> bool:
    if any(isinstance(mark, SeveralLines) for mark in metadata):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return False  # its own fields are judged one by one
    return any(_is_marked(part, ()) for part in get_args(annotation)) or isinstance(annotation, SeveralLines)


def _refusal(location: tuple[str | int, ...], fault: Fault) -> Problem:
    error = {"location": redacted_location(location), "message": FAULT_MESSAGES[fault]}
    return Problem(422, "Some text of the request must not come in.", code="unsafe_text", errors=[error])


def _invalid_number(location: tuple[str | int, ...], message: str) -> Problem:
    error = {"location": redacted_location(location), "message": message}
    return Problem(422, "Some fields of the request are not valid.", code="invalid", errors=[error])
