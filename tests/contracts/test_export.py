"""What is committed is what the models say, and what is said fits it."""

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from contracts.catalogue import EVENTS
from contracts.envelope import EventData
from contracts.examples import examples
from contracts.export import differences, export, schema_of
from tests.contracts.strategies import models
from tests.patience import patience

ROOT = Path(__file__).parents[2]
each_event = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)


def test_the_committed_files_equal_the_models() -> None:
    assert differences() == []


def test_export_repairs_whatever_differs(tmp_path: Path) -> None:
    assert len(export(tmp_path)) == len(EVENTS) + 1
    assert export(tmp_path) == []
    changed, missing, stray = (tmp_path / "schemas" / f"{name}.json" for name in (EVENTS[0].TYPE, EVENTS[1].TYPE, "x"))
    changed.write_text("{}")
    missing.unlink()
    stray.write_text("{}")
    assert len(differences(tmp_path)) == 3
    assert set(export(tmp_path)) == {changed, missing, stray}
    assert differences(tmp_path) == []
    assert all(path.read_bytes().endswith(b"}\n") for path in tmp_path.rglob("*.json"))


@each_event
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_event_fits_its_schema_and_is_read_back(event: type[EventData], data: st.DataObject) -> None:
    said = data.draw(models(event))
    written = said.model_dump_json()
    _validator(event).validate(json.loads(written))
    assert event.model_validate_json(written) == said


@each_event
def test_every_schema_is_valid_and_accepts_unknown_fields(event: type[EventData]) -> None:
    schema = schema_of(event)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:viceversa:schema:{event.TYPE}"
    record = examples()[event].model_dump(mode="json") | {"of_a_later_version": 1}
    _validator(event).validate(record)
    assert event.model_validate(record) == examples()[event]


def test_every_topic_and_type_is_in_the_asyncapi_document() -> None:
    document = json.loads((ROOT / "contracts" / "asyncapi.json").read_text())
    names = {message.get("name") for message in document["components"]["messages"].values()}
    assert names >= {event.TYPE for event in EVENTS}
    assert "discriminator" not in json.dumps(document)
    assert "$defs" not in json.dumps(document)


def test_the_asyncapi_document_is_valid_for_the_official_parser() -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not there, and the official AsyncAPI parser runs on node")
    run = subprocess.run(
        [ROOT / "scripts" / "check-asyncapi"], capture_output=True, text=True, timeout=patience(60), check=False
    )
    if run.returncode == 69:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stderr


@functools.cache
def _validator(event: type[EventData]) -> Draft202012Validator:
    schema: Any = schema_of(event)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
