"""Keeps the promise to subscribers: a released type never changes, except that optional fields are added.

``contracts/released/<type>/<n>.json`` holds every shape of a type that was ever published, with sample records.
A shape is never overwritten. ``release`` adds the shapes of new types and of types that gained optional fields.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.catalogue import BY_TYPE, EVENTS
from contracts.envelope import Envelope, EventData
from contracts.examples import examples, headers_of
from contracts.export import schema_of, text_of

RELEASED = Path(__file__).parent / "released"
Schema = dict[str, Any]

_ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description", "examples", "deprecated"}
_TIGHTER_WHEN_HIGHER = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_TIGHTER_WHEN_LOWER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_COMPARED_IN_STEPS = {"properties", "required", "items", "additionalProperties", "anyOf", "enum", "const", "default"}


class Breaking(Exception):
    """A released type was changed; publish the new shape as a new type beside it."""


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """The changes from ``old`` to ``new`` that break a reader or a writer; one sentence each.

    Two directions are protected, since a topic holds records of both shapes and readers of both live side by side:

    - *New readers, old records* (replay, kept topics): a field newly required, a value taken out of an enumeration, a
      tighter limit, another type, another default (it would change the meaning of an old record).
    - *Old readers, new records* (other systems, updated later or never): a field removed or renamed, a field that was
      always there made optional, a value added to an enumeration, a looser limit, another type.

    Descriptions may change. Optional fields may be added: old readers ignore them, and old records lack them.
    """
    return list(_SchemaComparison(old, new).compare(old, new, "data", frozenset()))


class _SchemaComparison:
    """Compares two schemas step by step; each has its own ``$defs``."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old_root, self._new_root = old, new

    def compare(self, old: Schema, new: Schema, at: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
        step = (str(old.get("$ref")), str(new.get("$ref")))
        if "$ref" in old or "$ref" in new:
            if step in seen:
                return
            seen |= {step}
        old, new = _resolved(old, self._old_root), _resolved(new, self._new_root)
        yield from _values(old, new, at)
        yield from _limits(old, new, at)
        yield from self._fields(old, new, at, seen)
        yield from self._inner(old, new, at, seen)
        if not _is_same_default(old.get("default"), new.get("default")) or ("default" in old) != ("default" in new):
            yield f"{at}: the default changed, so records without it would change their meaning"

    def _fields(self, old: Schema, new: Schema, at: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        required_before, required_after = set(old.get("required", ())), set(new.get("required", ()))
        for name in before:
            if name not in after:
                yield f"{at}.{name}: removed or renamed"
                continue
            if name in required_before - required_after:
                yield f"{at}.{name}: was always there, and is optional now"
            yield from self.compare(before[name], after[name], f"{at}.{name}", seen)
        for name in sorted(required_after - required_before):
            yield f"{at}.{name}: newly required, and older records lack it"

    def _inner(self, old: Schema, new: Schema, at: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
        for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
            before, after = old.get(keyword), new.get(keyword)
            if isinstance(before, dict) and isinstance(after, dict):
                yield from self.compare(before, after, at + mark, seen)
            elif before != after:
                yield f"{at}{mark}: {keyword} changed from {before} to {after}"
        alternatives_before, alternatives_after = old.get("anyOf", []), new.get("anyOf", [])
        if len(alternatives_before) != len(alternatives_after):
            yield f"{at}: the alternatives (such as null) changed"
            return
        for before, after in zip(alternatives_before, alternatives_after, strict=True):
            yield from self.compare(before, after, at, seen)


def _resolved(schema: Schema, root: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].rsplit("/", 1)[-1]
    rest = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
    return {**_resolved(root["$defs"][name], root), **rest}


def _allowed(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _values(old: Schema, new: Schema, at: str) -> Iterator[str]:
    before, after = _allowed(old), _allowed(new)
    if before is None and after is None:
        return
    if before is None or after is None:
        yield f"{at}: a list of allowed values came or went"
        return
    for value in before:
        if value not in after:
            yield f"{at}: the value {value!r} was removed, and older records have it"
    for value in after:
        if value not in before:
            yield f"{at}: the value {value!r} was added, and older readers refuse it"


def _limits(old: Schema, new: Schema, at: str) -> Iterator[str]:
    keywords = sorted((set(old) | set(new)) - _ANNOTATIONS - _COMPARED_IN_STEPS)
    for keyword in keywords:
        before, after = old.get(keyword), new.get(keyword)
        if before != after:
            yield f"{at}: {keyword} {_verb(keyword, before, after)} from {before} to {after}"


def _verb(keyword: str, before: Any, after: Any) -> str:
    if keyword not in _TIGHTER_WHEN_HIGHER | _TIGHTER_WHEN_LOWER:
        return "changed"
    if before is None or after is None:
        return "tightened" if before is None else "loosened"
    return "tightened" if (after > before) == (keyword in _TIGHTER_WHEN_HIGHER) else "loosened"


def _is_same_default(before: Any, after: Any) -> bool:
    """Whether the defaults are equal; the default of an object may gain fields, as the object may."""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(name in after and _is_same_default(value, after[name]) for name, value in before.items())
    return type(before) is type(after) and bool(before == after)


def check(folder: Path = RELEASED) -> list[str]:
    """The conflicts between the models and the released shapes; one sentence each.

    Every type must be released, and the models must accept every released shape and every released record.
    """
    problems: list[str] = []
    problems.extend(f"{event.TYPE}: not released" for event in EVENTS if not list((folder / event.TYPE).glob("*.json")))
    for path in shapes(folder):
        name = path.parent.name
        event = BY_TYPE.get(name)
        if event is None:
            problems.append(f"{name}: was released, and is no longer in the catalogue")
            continue
        shape = json.loads(path.read_text(encoding="utf-8"))
        problems.extend(f"{name}: {change}" for change in breaking_changes(shape["schema"], schema_of(event)))
        problems.extend(f"{name}: {path.name}: {error}" for error in _unreadable_records(event, shape["records"]))
    return problems


def shapes(folder: Path = RELEASED) -> list[Path]:
    """The files of all released shapes, by type and number."""
    return sorted(folder.glob("*/*.json"), key=lambda path: (path.parent.name, int(path.stem)))


def _unreadable_records(event: type[EventData], records: list[dict[str, Any]]) -> Iterator[str]:
    for record in records:
        try:
            envelope = Envelope.from_headers([(name, text.encode()) for name, text in record["headers"].items()])
            event.model_validate_json(json.dumps(record["data"]))
        except ValueError as error:
            yield f"a released record is no longer read: {error}"
            continue
        if envelope.type != event.TYPE:
            yield f"a released record is of another type, {envelope.type}"


def release(folder: Path = RELEASED) -> list[Path]:
    """Write the shape of each type that is new, or that gained optional fields; returns the new files.

    Raises ``Breaking``, and writes nothing, if a released type was changed in another way. No file is ever replaced.
    """
    if broken := [line for line in check(folder) if not line.endswith(": not released")]:
        raise Breaking("; ".join(broken))
    written: list[Path] = []
    for event in EVENTS:
        released = [path for path in shapes(folder) if path.parent.name == event.TYPE]
        schema = schema_of(event)
        if any(_same(json.loads(path.read_text(encoding="utf-8"))["schema"], schema) for path in released):
            continue
        numbers = [int(path.stem) for path in released]
        path = folder / event.TYPE / f"{max(numbers, default=0) + 1}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text_of({"schema": schema, "records": [_record(event)]}))
        written.append(path)
    return written


def _same(old: Schema, new: Schema) -> bool:
    """Whether neither schema adds a field to the other; descriptions do not count."""
    return not breaking_changes(old, new) and not breaking_changes(new, old)


def _record(event: type[EventData]) -> dict[str, Any]:
    example = examples()[event]
    return {"headers": headers_of(example), "data": example.model_dump(mode="json")}


if __name__ == "__main__":
    for added in release():
        print(added)
