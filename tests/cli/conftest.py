"""Runs commands as a person types them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from cli.api import ServiceClient
from cli.main import app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `viceversa ARGUMENTS`. Without --data, the data folder is an empty folder of the test."""
    monkeypatch.setenv("VICEVERSA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("VICEVERSA_TOKEN", raising=False)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return invoke


def fake_service(name: str, answer: Callable[[httpx.Request], httpx.Response]) -> ServiceClient:
    """A client whose requests are answered by this function, without a server."""
    api = ServiceClient(name, f"http://{name}")
    api._client = httpx.Client(transport=httpx.MockTransport(answer), base_url=f"http://{name}")
    return api


def parse_json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
