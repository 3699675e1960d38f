"""Writes the published form of the contracts: a JSON Schema for each event type, and the AsyncAPI document.

Both are generated from the models alone, always with the same bytes; CI compares them with the committed files.
``python -m contracts.export`` and ``viceversa contracts export`` write them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from contracts import asyncapi
from contracts.catalogue import EVENTS
from contracts.envelope import EventData, schema_urn

FOLDER = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(event: type[EventData]) -> dict[str, JsonValue]:
    """The self-contained JSON Schema of one event's data. It fits every record that a reader accepts."""
    schema = event.model_json_schema(schema_generator=asyncapi.Untitled, mode="validation")
    return {"$schema": DIALECT, "$id": schema_urn(event.TYPE), **schema}


def text_of(document: Mapping[str, JsonValue]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def files() -> dict[str, str]:
    """All exported files: path below the folder -> text."""
    schemas = {f"schemas/{event.TYPE}.json": text_of(schema_of(event)) for event in EVENTS}
    return {**schemas, "asyncapi.json": text_of(asyncapi.document())}


def export(folder: Path = FOLDER) -> list[Path]:
    """Write every file below ``folder`` and remove schemas of types that are gone; returns the changed files."""
    changed: list[Path] = []
    expected = files()
    for name, text in expected.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    for path in _strays(folder, expected):
        path.unlink()
        changed.append(path)
    return changed


def differences(folder: Path = FOLDER) -> list[str]:
    """The changes that ``export`` would make in ``folder``, one sentence each."""
    changes: list[str] = []
    expected = files()
    for name, text in expected.items():
        path = folder / name
        if not path.exists():
            changes.append(f"{name} is missing")
        elif path.read_text(encoding="utf-8") != text:
            changes.append(f"{name} differs from the models")
    changes.extend(f"schemas/{path.name} belongs to no event type" for path in _strays(folder, expected))
    return changes


def _strays(folder: Path, expected: Mapping[str, str]) -> list[Path]:
    return [path for path in sorted((folder / "schemas").glob("*.json")) if f"schemas/{path.name}" not in expected]


if __name__ == "__main__":
    for written in export():
        print(written)
