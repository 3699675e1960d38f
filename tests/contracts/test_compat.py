"""A change that breaks a reader is found in either direction; an addition is not one."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from contracts import compat
from contracts.catalogue import BY_TYPE, EVENTS
from contracts.envelope import Envelope
from contracts.export import schema_of
from contracts.pairings import PairingFormed

OLD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 64, "pattern": "^a"},
        "side": {"enum": ["senior", "junior"], "type": "string"},
        "kind": {"const": "one", "type": "string"},
        "count": {"type": "integer", "minimum": 0, "default": 0},
        "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None},
        "inner": {"$ref": "#/$defs/Inner", "default": {"level": 1}},
        "list": {"type": "array", "items": {"$ref": "#/$defs/Inner"}, "minItems": 1},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "required": ["id", "side", "list"],
    "$defs": {"Inner": {"type": "object", "properties": {"level": {"type": "integer", "default": 1}}}},
}


def _changed(path: str, value: Any) -> dict[str, Any]:
    """``OLD`` with one thing set; ``None`` takes it out."""
    new = deepcopy(OLD)
    *parents, last = path.split("/")
    new_position = new
    for name in parents:
        new_position = new_position[name]
    if value is None:
        del new_position[last]
    else:
        new_position[last] = value
    return new


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("properties/count", None, "data.count: removed or renamed"),
        ("required", ["id", "side", "list", "count"], "data.count: newly required"),
        ("required", ["id", "side", "list", "brand_new"], "data.brand_new: newly required"),
        ("required", ["id", "list"], "data.side: was always there"),
        ("properties/count/type", "string", "data.count: type changed"),
        ("properties/side/enum", ["senior"], "'junior' was removed"),
        ("properties/side/enum", ["senior", "junior", "either"], "'either' was added"),
        ("properties/side/enum", None, "allowed values came or went"),
        ("properties/kind/const", "two", "'one' was removed"),
        ("properties/id/maxLength", 32, "maxLength tightened"),
        ("properties/id/maxLength", 128, "maxLength loosened"),
        ("properties/id/maxLength", None, "maxLength loosened"),
        ("properties/id/minLength", 2, "minLength tightened"),
        ("properties/id/pattern", "^b", "pattern changed"),
        ("properties/count/minimum", 1, "minimum tightened"),
        ("properties/count/default", 1, "default changed"),
        ("properties/count/default", None, "default changed"),
        ("properties/when/anyOf", [{"type": "string", "format": "date"}], "alternatives"),
        ("properties/when/anyOf", [{"type": "string"}, {"type": "null"}], "format changed"),
        ("properties/list/minItems", 2, "minItems tightened"),
        ("properties/map/additionalProperties", {"type": "string"}, "data.map{}: type changed"),
        ("properties/map/additionalProperties", False, "additionalProperties changed"),
        ("additionalProperties", False, "additionalProperties changed"),
        ("$defs/Inner/properties/level/type", "string", "data.list[].level: type changed"),
        ("$defs/Inner/properties/level", None, "data.inner.level: removed or renamed"),
    ],
)
def test_a_breaking_change_is_found(path: str, value: Any, says: str) -> None:
    assert any(says in line for line in compat.breaking_changes(OLD, _changed(path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("description", "another text"),
        ("properties/id/description", "another text"),
        ("properties/more", {"type": "string", "default": ""}),
        ("$defs/Inner/properties/more", {"type": "integer", "default": 3}),
        ("properties/inner/default", {"level": 1, "more": 3}),
        ("required", ["list", "side", "id"]),
        ("properties/side/enum", ["junior", "senior"]),
        ("$defs/Unused", {"type": "string"}),
    ],
)
def test_an_addition_is_allowed(path: str, value: Any) -> None:
    assert compat.breaking_changes(OLD, _changed(path, value)) == []


def test_nothing_released_is_broken() -> None:
    assert compat.check() == []


@pytest.mark.parametrize("path", compat.shapes(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_released_record_is_read_and_written_again(path: Path) -> None:
    shape = json.loads(path.read_text())
    assert shape["records"]
    for record in shape["records"]:
        headers = [(name, text.encode()) for name, text in record["headers"].items()]
        assert Envelope.from_headers(headers).headers() == headers
        data = BY_TYPE[path.parent.name].model_validate_json(json.dumps(record["data"])).model_dump(mode="json")
        assert _as_far_as(record["data"], data) == record["data"]


def _as_far_as(expected: Any, data: Any) -> Any:
    """``data`` without the optional fields that it has gained since ``known``, at any depth."""
    if isinstance(expected, dict) and isinstance(data, dict):
        return {name: _as_far_as(expected[name], value) for name, value in data.items() if name in expected}
    if isinstance(expected, list) and isinstance(data, list) and len(expected) == len(data):
        return [_as_far_as(*pair) for pair in zip(expected, data, strict=True)]
    return data


def test_a_release_keeps_each_shape_and_overwrites_none(tmp_path: Path) -> None:
    assert len(compat.release(tmp_path)) == len(EVENTS)
    assert compat.release(tmp_path) == []
    first = tmp_path / PairingFormed.TYPE / "1.json"
    shape = json.loads(first.read_text())
    del shape["schema"]["properties"]["renewals"]
    first.write_text(json.dumps(shape))
    before = first.read_bytes()
    assert compat.release(tmp_path) == [first.with_name("2.json")]
    assert first.read_bytes() == before
    assert compat.check(tmp_path) == []


def test_a_release_refuses_a_breaking_change(tmp_path: Path) -> None:
    compat.release(tmp_path)
    path = tmp_path / PairingFormed.TYPE / "1.json"
    shape = json.loads(path.read_text())
    shape["schema"]["properties"]["gone"] = {"type": "string"}
    path.write_text(json.dumps(shape))
    with pytest.raises(compat.Breaking, match="gone: removed"):
        compat.release(tmp_path)


def test_the_check_names_what_is_missing_unknown_or_unread(tmp_path: Path) -> None:
    assert len(compat.check(tmp_path)) == len(EVENTS)
    compat.release(tmp_path)
    record = {"headers": {"ce_specversion": "1.0"}, "data": {}}
    unknown = tmp_path / "mentoring.forgotten.v1" / "1.json"
    unknown.parent.mkdir()
    unknown.write_text("{}")
    path = tmp_path / PairingFormed.TYPE / "1.json"
    path.write_text(json.dumps({"schema": schema_of(PairingFormed), "records": [record]}))
    assert [line.split(": ")[1] for line in compat.check(tmp_path)] == [
        "was released, and is no longer in the catalogue",
        "1.json",
    ]
