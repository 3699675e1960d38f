"""Writes what others read of the contracts: a JSON Schema for each event type, and the AsyncAPI document.

Both are made from the models alone, always the same bytes; the committed copies are compared with them in CI.
``python -m contracts.export`` writes them, ``viceversa contracts export`` does the same.
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
    """The self-contained JSON Schema of one event's data: what a reader accepts, so older records fit it too."""
    schema = event.model_json_schema(schema_generator=asyncapi.Untitled, mode="validation")
    return {"$schema": DIALECT, "$id": schema_urn(event.TYPE), **schema}


def text_of(document: Mapping[str, JsonValue]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def files() -> dict[str, str]:
    """Path below the folder -> text of every file that is exported."""
    schemas = {f"schemas/{event.TYPE}.json": text_of(schema_of(event)) for event in EVENTS}
    return {**schemas, "asyncapi.json": text_of(asyncapi.document())}


def export(folder: Path = FOLDER) -> list[Path]:
    """Write every file below ``folder``, take away schemas of types that are no more, and name what changed."""
    changed: list[Path] = []
    wanted = files()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    for path in _strays(folder, wanted):
        path.unlink()
        changed.append(path)
    return changed


def differences(folder: Path = FOLDER) -> list[str]:
    """What ``export`` would change in ``folder``, a sentence each; empty when all is as it should be."""
    found: list[str] = []
    wanted = files()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists():
            found.append(f"{name} is missing")
        elif path.read_text(encoding="utf-8") != text:
            found.append(f"{name} differs from the models")
    found.extend(f"schemas/{path.name} belongs to no event type" for path in _strays(folder, wanted))
    return found


def _strays(folder: Path, wanted: Mapping[str, str]) -> list[Path]:
    return [path for path in sorted((folder / "schemas").glob("*.json")) if f"schemas/{path.name}" not in wanted]


if __name__ == "__main__":
    for written in export():
        print(written)
