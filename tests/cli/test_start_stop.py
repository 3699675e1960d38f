"""All steps from `up` to `down` on real processes, in one test because a start takes seconds."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.core.clocks import Clock
from cli.installation import Addresses, read_addresses
from deploy.local import ports, process
from deploy.local.stack import Endpoints
from tests.cli.conftest import Run, parse_json
from tests.deploy.test_private_files import exposed
from tests.journey.conditions import wait_until

MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PROGRAMME = Path(__file__).parents[2] / "cli" / "sample" / "programme.json"
PEOPLE = """external_id,name,organisation,department,level,manager,offers,seeks
E1,Ada Marsden,halden,engineering,16,,strategy:teach,generative-ai:3
E2,Bo Marsden,halden,sales,4,,generative-ai:use,strategy:2
E3,Cy Moreau,halden,sales,no level,,,
"""


@pytest.fixture
def data(run: Run, tmp_path: Path, servers: Endpoints, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that uses the session's servers with names of its own. Its processes are stopped at the end.

    Two bootstrap servers are named, and one of them is down.
    """
    monkeypatch.setenv("VICEVERSA_KAFKA", f"127.0.0.1:{ports.any_free()}, {servers.kafka}")
    monkeypatch.setenv("VICEVERSA_MONGO", servers.mongo)
    monkeypatch.setenv("VICEVERSA_TOPIC_PREFIX", prefix)
    folder = tmp_path / "data"
    yield folder
    run("down")
    assert process.names(folder) == []


def check_programme(run: Run) -> None:
    created = parse_json(run("programme", "create", str(PROGRAMME), "--id", "fresh-eyes", "--open", "--json"))
    assert (created["programme_id"], created["state"]) == ("fresh-eyes", "open")
    assert [item["programme_id"] for item in parse_json(run("programme", "list", "--json"))] == ["fresh-eyes"]
    again = run("programme", "create", str(PROGRAMME), "--id", "fresh-eyes")
    assert again.exit_code == 4
    assert "refused (409)" in again.stderr
    assert run("programme", "show", "fresh-eyes").exit_code == 0


def check_import(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE, encoding="utf-8")
    process = run("import", str(file), "--json")
    assert process.exit_code == 1, "a row was refused"
    result: Any = httpx.Response(200, text=process.stdout).json()
    assert (result["created"], result["failed"]) == (2, 1)
    assert [(error["line"], error["column"]) for error in result["errors"] if error["refused"]] == [(4, "level")]
    assert "refused" in run("import", str(file)).stdout
    check_imports(run, str(result["import_id"]), tmp_path / "invited.csv")


def check_imports(run: Run, import_id: str, invited: Path) -> None:
    listed = parse_json(run("imports", "list", "--json"))
    assert [item["state"] for item in listed] == ["done", "done"]
    assert import_id in run("imports", "list").stdout
    assert "1 refused" in run("imports", "show", import_id).stdout
    assert parse_json(run("imports", "pairs", import_id, "--json")) == []
    assert "has ended already" in run("imports", "cancel", import_id).stderr
    assert "you uploaded this file" in run("imports", "release", import_id).stderr
    invited.write_text("external_id,side\nE9,senior\nE2,nonsense\n", encoding="utf-8")
    assert "no such programme" in run("invite", "elsewhere", str(invited)).stderr
    sent = run("invite", "fresh-eyes", str(invited))
    assert (sent.exit_code, "2 rows, 1 of them refused" in sent.stdout) == (1, True)


def check_tokens(run: Run, addresses: Addresses) -> None:
    ada = run("token", "--as", "ada mars")
    assert ada.exit_code == 0
    me = httpx.get(
        f"{addresses.urls['profiles']}/members/me", headers={"Authorization": f"Bearer {ada.stdout.strip()}"}
    )
    assert me.json()["name"] == "Ada Marsden"
    by_number = parse_json(run("token", "--as", "E1", "--coordinates", "fresh-eyes", "--json"))
    assert (by_number["member_id"], by_number["programmes"]) == (me.json()["member_id"], ["fresh-eyes"])
    assert run("token", "--as", "nobody at all").exit_code == 4
    several = run("token", "--as", "marsden")
    assert several.exit_code == 1
    assert "E2" in several.stderr


def check_rounds(run: Run) -> None:
    computed = parse_json(run("round", "compute", "fresh-eyes", "--json"))
    assert (computed["state"], computed["pairs"]) == ("computed", 0), "nobody has joined yet"
    assert parse_json(run("round", "show", computed["round_id"], "--json"))["proposals"] == []
    assert parse_json(run("round", "discard", computed["round_id"], "--json"))["state"] == "discarded"
    assert [item["state"] for item in parse_json(run("round", "list", "fresh-eyes", "--json"))] == ["discarded"]
    assert parse_json(run("pairings", "--json")) == []
    assert parse_json(run("status", "--exact", "--json"))["exact"] == {"": {"people": 2}}
    unknown = run("pairing", "there-is-none")
    assert unknown.exit_code == 4
    assert "viceversa pairings" in unknown.stderr


def form_pairing(run: Run, addresses: Addresses) -> str:
    """Ada and Bo join, the administrator pairs them, and both accept. Returns the id of the pairing."""
    ids = {}
    for name, side in (("ada mars", "senior"), ("bo mars", "junior")):
        with open_member_client(run, addresses, "profiles", name) as me:
            ids[side] = me.get("/members/me").json()["member_id"]
            me.put("/members/me/enrolments/fresh-eyes", json={"side": side, "notice": "1"}).raise_for_status()
    token = run("token", "--as", "admin").stdout.strip()
    with open_client(addresses, "matcher", token) as admin:
        pairing_id = wait_until(lambda: create_pairing(admin, ids), "the matcher knows both members")
    waiting = parse_json(run("care", "fresh-eyes", "--json"))
    assert [item["pairing_id"] for item in waiting["answers_due"]] == [pairing_id]
    assert "Ada Marsden and Bo Marsden" in run("care", "fresh-eyes").stdout
    assert parse_json(run("conflicts", "fresh-eyes", "--json")) == waiting["conflicts"] == []
    assert "no rule about the organisation" in run("conflict", pairing_id, "keep").stderr
    for name in ("ada mars", "bo mars"):
        with open_member_client(run, addresses, "matcher", name) as me:
            me.post(f"/pairings/{pairing_id}/answer", json={"answer": "accepted"}).raise_for_status()
    return pairing_id


def create_pairing(admin: httpx.Client, ids: dict[str, str]) -> str | None:
    """The id of the new pairing, or None while the matcher does not know both members."""
    answer = admin.post("/programmes/fresh-eyes/pairings", json=ids)
    return answer.json()["pairing_id"] if answer.is_success else None


def open_member_client(run: Run, addresses: Addresses, service: str, name: str) -> httpx.Client:
    return open_client(addresses, service, run("token", "--as", name).stdout.strip())


def open_client(addresses: Addresses, service: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=addresses.urls[service], headers={"Authorization": f"Bearer {token}"}, timeout=30)


def check_story(run: Run, addresses: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    pairing_id = form_pairing(run, addresses)
    expected_types = ["mentoring.pairing.proposed.v1", "mentoring.pairing.formed.v1"]

    def load_complete_story() -> Any:
        pairing = parse_json(run("pairing", pairing_id, "--json"))
        steps = pairing["story"]
        load_complete_story = all(
            len(step["messages"]) == 2 for step in steps[1:]
        )  # the proposal was answered before its messages were sent
        return pairing if [step["type"] for step in steps] == expected_types and load_complete_story else None

    pairing = wait_until(load_complete_story, "the whole story with its messages")
    steps = pairing["story"]
    assert steps[0]["words"].startswith("Proposed to Ada Marsden and Bo Marsden, by the coordinator;")
    assert [step["words"].partition(".")[0] for step in steps[1:]] == ["Both accepted"]
    assert len({step["trace_id"] for step in steps}) >= 2, "the second acceptance has another trace than the proposal"
    result = run("pairing", pairing_id)
    assert result.exit_code == 0
    assert "Fresh Eyes" in result.stdout
    assert "fresh-eyed partner" in result.stdout, "sides have the names that the programme gives them"
    assert "How this match was made: Put together by the coordinator of the programme." in result.stdout
    receipt = pairing["receipt"]["receipt_id"]
    assert receipt in result.stdout
    assert parse_json(run("receipt", "show", receipt, "--json")) == pairing["receipt"]
    assert parse_json(run("receipt", "verify", receipt, "--json"))["verified"]
    assert "Reasons for the senior:" in run("receipt", "show", receipt).stdout
    for step in steps:
        assert step["words"] in result.stdout
        assert step["trace_id"] in result.stdout

    with monkeypatch.context() as without:
        without.setenv("VICEVERSA_KAFKA", "127.0.0.1:9")
        alone = run("pairing", pairing_id)
        assert alone.exit_code == 0
        assert "Kafka cannot be reached" in alone.stderr
        assert "Ada Marsden" in alone.stdout
        assert "proposed" in alone.stdout
        assert parse_json(run("pairing", pairing_id, "--json"))["story"] is None

    with monkeypatch.context() as another:
        another.setenv("VICEVERSA_TOKEN", run("token", "--as", "bo mars").stdout.strip())
        own = parse_json(run("pairing", pairing_id, "--json"))["story"]
        assert own[0]["words"].startswith("Proposed to both, ")


def check_status(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    report = parse_json(run("status", "--json"))
    assert report["funnel"]["fresh-eyes"]["k"] >= 5
    assert report["funnel"]["fresh-eyes"]["steps"] | {"met": 0, "lapsed": 0} == report["funnel"]["fresh-eyes"]["steps"]
    assert report["funnel"]["fresh-eyes"]["steps"]["formed"] is None, "too few to be published"
    assert report["messages"]["failed"] == 0
    assert report["messages"]["sent"] > 0
    assert [service["figures"]["overdue_by"] for service in report["services"] if service["figures"]] == [{}] * 4
    output = run("status").stdout
    assert "fewer than 5" in output
    assert "not sent on purpose" in output
    assert parse_json(run("status", "--exact", "--json"))["exact"]["fresh-eyes"]["pairings formed"] == 1
    with monkeypatch.context() as another:
        another.setenv("VICEVERSA_TOKEN", run("token", "--as", "bo mars").stdout.strip())
        own_report = parse_json(run("status", "--json"))
        assert (own_report["funnel"], own_report["messages"]) == ({}, None), (
            "figures are for coordinators and administrators"
        )


def check_help_offer(run: Run) -> None:
    """After a month without a meeting, the pair is on the coordinator's list, and the story shows the reason."""

    def load_pairs() -> Any:
        return parse_json(run("care", "fresh-eyes", "--json"))["would_like_help"]

    [pair] = wait_until(load_pairs, "a pair may need help")
    assert set(pair["facts"]) == {"no_first_meeting_booked", "no_first_meeting_held"}
    output = run("care", "fresh-eyes").stdout
    assert "no first meeting was planned in time" in output
    assert pair["pairing_id"] in output

    def is_in_story() -> bool:
        steps = parse_json(run("pairing", pair["pairing_id"], "--json"))["story"]
        return any(step["words"].startswith("Help was offered, because no first meeting was planned") for step in steps)

    wait_until(is_in_story, "the story shows the offer of help")


class TestLifecycle:
    def test_from_up_to_down(self, run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(tmp_path / "clock.jsonl")
        clock.set_speed(1.0, MONDAY_NOON)  # at night no message would be sent
        addresses = Addresses.model_validate(parse_json(run("up", "--clock", str(tmp_path / "clock.jsonl"), "--json")))
        assert read_addresses(data) == addresses
        assert set(process.names(data)) == {"issuer", "mail", "profiles", "matcher", "notifier", "feedback"}
        assert parse_json(run("up", "--json")) == addresses.model_dump(mode="json"), (
            "running processes are used as they are"
        )
        assert all(service["ready"] for service in parse_json(run("status", "--json"))["services"])

        check_programme(run)
        check_import(run, tmp_path)
        check_tokens(run, addresses)
        check_rounds(run)
        check_story(run, addresses, monkeypatch)
        check_status(run, monkeypatch)
        clock.set_speed(1.0, MONDAY_NOON + timedelta(days=30))
        check_help_offer(run)
        assert exposed(data) == {}, "the data folder is for its owner alone"

        assert "Stopped" in run("down").stdout
        assert process.names(data) == []
        assert run("status").exit_code == 3

    def test_a_failed_start_leaves_no_process(self, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A port that is taken is replaced before that."""
        monkeypatch.setattr(ports, "is_free", lambda _port: False)
        monkeypatch.setenv("VICEVERSA_PROFILES_SOURCES", "no JSON")
        failed = run("up")
        assert failed.exit_code == 1
        assert "is taken" in failed.stderr
        assert "VICEVERSA_PROFILES_SOURCES" in failed.stderr, "the end of the log shows the reason"
        assert process.names(data) == []

    def test_a_wrong_setting_is_refused_before_anything_starts(
        self, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VICEVERSA_LOG_LEVEL", "LOUD")
        failed = run("up")
        assert failed.exit_code == 1
        assert "VICEVERSA_LOG_LEVEL" in failed.stderr
        assert process.names(data) == []
        assert os.environ["VICEVERSA_DATA"] == str(data)
