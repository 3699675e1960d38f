"""Everything from `up` to `down` as a person would do it, on real processes: one story, since a start takes seconds."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.place import Addresses, read
from deploy.local import ports, process
from deploy.local.stack import Endpoints
from tests.cli.conftest import Run, parsed

PROGRAMME = Path(__file__).parents[2] / "cli" / "sample" / "programme.json"
PEOPLE = """external_id,name,organisation,department,level,manager,offers,seeks
E1,Ada Marsden,halden,engineering,16,,strategy:teach,generative-ai:3
E2,Bo Marsden,halden,sales,4,,generative-ai:use,strategy:2
E3,Cy Moreau,halden,sales,no level,,,
"""


@pytest.fixture
def data(run: Run, tmp_path: Path, servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Names of the test's own on the session's servers; whatever still runs at the end is stopped."""
    monkeypatch.setenv("VICEVERSA_KAFKA", servers.kafka)
    monkeypatch.setenv("VICEVERSA_MONGO", servers.mongo)
    monkeypatch.setenv("VICEVERSA_TOPIC_PREFIX", prefix)
    folder = tmp_path / "data"
    yield folder
    run("down")
    assert process.names(folder) == []


def test_from_up_to_down(run: Run, data: Path, tmp_path: Path) -> None:
    addresses = Addresses.model_validate(parsed(run("up", "--json")))
    assert read(data) == addresses
    assert set(process.names(data)) == {"issuer", "mail", "profiles", "matcher", "notifier", "feedback"}
    assert parsed(run("up", "--json")) == addresses.model_dump(mode="json"), "what runs is used as it is"
    assert all(service["ready"] for service in parsed(run("status", "--json"))["services"])

    programme(run)
    people(run, tmp_path)
    tokens(run, addresses)
    rounds(run)

    assert "Stopped" in run("down").stdout
    assert process.names(data) == []
    assert run("status").exit_code == 3


def programme(run: Run) -> None:
    made = parsed(run("programme", "create", str(PROGRAMME), "--id", "fresh-eyes", "--open", "--json"))
    assert (made["programme_id"], made["state"]) == ("fresh-eyes", "open")
    assert [one["programme_id"] for one in parsed(run("programme", "list", "--json"))] == ["fresh-eyes"]
    again = run("programme", "create", str(PROGRAMME), "--id", "fresh-eyes")
    assert again.exit_code == 4
    assert "refused (409)" in again.stderr
    assert run("programme", "show", "fresh-eyes").exit_code == 0


def people(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE, encoding="utf-8")
    imported = run("import", str(file), "--json")
    assert imported.exit_code == 1, "a row was refused"
    done: Any = httpx.Response(200, text=imported.stdout).json()
    assert (done["created"], done["failed"]) == (2, 1)
    assert [(error["line"], error["column"]) for error in done["errors"] if error["refused"]] == [(4, "level")]
    assert "refused" in run("import", str(file)).stdout


def tokens(run: Run, addresses: Addresses) -> None:
    ada = run("token", "--as", "ada mars")
    assert ada.exit_code == 0
    me = httpx.get(
        f"{addresses.urls['profiles']}/members/me", headers={"Authorization": f"Bearer {ada.stdout.strip()}"}
    )
    assert me.json()["name"] == "Ada Marsden"
    by_number = parsed(run("token", "--as", "E1", "--coordinates", "fresh-eyes", "--json"))
    assert (by_number["member_id"], by_number["programmes"]) == (me.json()["member_id"], ["fresh-eyes"])
    assert run("token", "--as", "nobody at all").exit_code == 4
    several = run("token", "--as", "marsden")
    assert several.exit_code == 1
    assert "E2" in several.stderr


def rounds(run: Run) -> None:
    computed = parsed(run("round", "compute", "fresh-eyes", "--json"))
    assert (computed["state"], computed["pairs"]) == ("computed", 0), "nobody has joined yet"
    assert parsed(run("round", "show", computed["round_id"], "--json"))["proposals"] == []
    assert parsed(run("round", "discard", computed["round_id"], "--json"))["state"] == "discarded"
    assert [one["state"] for one in parsed(run("round", "list", "fresh-eyes", "--json"))] == ["discarded"]
    assert parsed(run("pairings", "--json")) == []
    assert parsed(run("status", "--funnel", "--json"))["funnel"] == {"": {"people": 2}}
    assert run("pairing", "there-is-none").exit_code == 4


def test_a_port_that_is_taken_is_replaced_and_a_start_that_fails_leaves_nothing(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _port: False)
    monkeypatch.setenv("VICEVERSA_LOG_LEVEL", "LOUD")
    failed = run("up")
    assert failed.exit_code == 1
    assert "is taken" in failed.stderr
    assert "VICEVERSA_LOG_LEVEL" in failed.stderr, "the log's end says why"
    assert process.names(data) == []
    assert os.environ["VICEVERSA_DATA"] == str(data)
