"""Everything from `up` to `down` as a person would do it, on real processes: one story, since a start takes seconds."""

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
    """Names of the test's own on the session's servers; whatever still runs at the end is stopped."""
    monkeypatch.setenv("VICEVERSA_KAFKA", servers.kafka)
    monkeypatch.setenv("VICEVERSA_MONGO", servers.mongo)
    monkeypatch.setenv("VICEVERSA_TOPIC_PREFIX", prefix)
    folder = tmp_path / "data"
    yield folder
    run("down")
    assert process.names(folder) == []


def test_from_up_to_down(run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(tmp_path / "clock.jsonl")
    clock.set_speed(1.0, MONDAY_NOON)  # at night nobody would be told of anything
    addresses = Addresses.model_validate(parse_json(run("up", "--clock", str(tmp_path / "clock.jsonl"), "--json")))
    assert read_addresses(data) == addresses
    assert set(process.names(data)) == {"issuer", "mail", "profiles", "matcher", "notifier", "feedback"}
    assert parse_json(run("up", "--json")) == addresses.model_dump(mode="json"), "what runs is used as it is"
    assert all(service["ready"] for service in parse_json(run("status", "--json"))["services"])

    programme(run)
    people(run, tmp_path)
    tokens(run, addresses)
    rounds(run)
    story(run, addresses, monkeypatch)
    status(run, monkeypatch)
    clock.set_speed(1.0, MONDAY_NOON + timedelta(days=30))
    help_is_offered(run)

    assert "Stopped" in run("down").stdout
    assert process.names(data) == []
    assert run("status").exit_code == 3


def programme(run: Run) -> None:
    made = parse_json(run("programme", "create", str(PROGRAMME), "--id", "fresh-eyes", "--open", "--json"))
    assert (made["programme_id"], made["state"]) == ("fresh-eyes", "open")
    assert [one["programme_id"] for one in parse_json(run("programme", "list", "--json"))] == ["fresh-eyes"]
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
    by_number = parse_json(run("token", "--as", "E1", "--coordinates", "fresh-eyes", "--json"))
    assert (by_number["member_id"], by_number["programmes"]) == (me.json()["member_id"], ["fresh-eyes"])
    assert run("token", "--as", "nobody at all").exit_code == 4
    several = run("token", "--as", "marsden")
    assert several.exit_code == 1
    assert "E2" in several.stderr


def rounds(run: Run) -> None:
    computed = parse_json(run("round", "compute", "fresh-eyes", "--json"))
    assert (computed["state"], computed["pairs"]) == ("computed", 0), "nobody has joined yet"
    assert parse_json(run("round", "show", computed["round_id"], "--json"))["proposals"] == []
    assert parse_json(run("round", "discard", computed["round_id"], "--json"))["state"] == "discarded"
    assert [one["state"] for one in parse_json(run("round", "list", "fresh-eyes", "--json"))] == ["discarded"]
    assert parse_json(run("pairings", "--json")) == []
    assert parse_json(run("status", "--exact", "--json"))["exact"] == {"": {"people": 2}}
    unknown = run("pairing", "there-is-none")
    assert unknown.exit_code == 4
    assert "viceversa pairings" in unknown.stderr


def two_meet(run: Run, addresses: Addresses) -> str:
    """Ada and Bo join, are put together by the administrator, and say yes; the pairing's id, when both are told."""
    ids = {}
    for name, side in (("ada mars", "senior"), ("bo mars", "junior")):
        with member(run, addresses, "profiles", name) as me:
            ids[side] = me.get("/members/me").json()["member_id"]
            me.put("/members/me/enrolments/fresh-eyes", json={"side": side, "notice": "1"}).raise_for_status()
    token = run("token", "--as", "admin").stdout.strip()
    with asking(addresses, "matcher", token) as admin:
        made = wait_until(lambda: put_together(admin, ids), "the two can be put together")
    waiting = parse_json(run("care", "fresh-eyes", "--json"))
    assert [one["pairing_id"] for one in waiting["answers_due"]] == [made]
    assert "Ada Marsden and Bo Marsden" in run("care", "fresh-eyes").stdout
    assert parse_json(run("conflicts", "fresh-eyes", "--json")) == waiting["conflicts"] == []
    assert "no rule about the organisation" in run("conflict", made, "keep").stderr
    for name in ("ada mars", "bo mars"):
        with member(run, addresses, "matcher", name) as me:
            me.post(f"/pairings/{made}/answer", json={"answer": "accepted"}).raise_for_status()
    return made


def put_together(admin: httpx.Client, ids: dict[str, str]) -> str | None:
    """The pairing's id, as soon as the matcher has heard of both."""
    answer = admin.post("/programmes/fresh-eyes/pairings", json=ids)
    return answer.json()["pairing_id"] if answer.is_success else None


def member(run: Run, addresses: Addresses, service: str, name: str) -> httpx.Client:
    return asking(addresses, service, run("token", "--as", name).stdout.strip())


def asking(addresses: Addresses, service: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=addresses.urls[service], headers={"Authorization": f"Bearer {token}"}, timeout=30)


def story(run: Run, addresses: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    id = two_meet(run, addresses)
    wanted = ["mentoring.pairing.proposed.v1", "mentoring.pairing.formed.v1", "mentoring.checkin.due.v1"]

    def told() -> Any:
        found = parse_json(run("pairing", id, "--json"))
        steps = found["story"]
        told = all(len(one["messages"]) == 2 for one in steps[1:])  # the proposal was answered before it was told
        return found if [one["type"] for one in steps] == wanted and told else None

    found = wait_until(told, "the whole story, with who was told")
    steps = found["story"]
    assert steps[0]["words"].startswith("Proposed to Ada Marsden and Bo Marsden, by whoever coordinates;")
    assert [one["words"].partition(".")[0] for one in steps[1:]] == [
        "Both said yes", "Both were asked how it goes (at the beginning)",
    ]  # fmt: skip
    assert len({one["trace_id"] for one in steps}) >= 2, "the second yes is another leg than the proposal"
    shown = run("pairing", id)
    assert shown.exit_code == 0
    assert "Fresh Eyes" in shown.stdout
    assert "fresh-eyed partner" in shown.stdout, "the sides are called as the programme calls them"
    assert "How this match was made: Put together by whoever coordinates the programme." in shown.stdout
    receipt = found["receipt"]["receipt_id"]
    assert receipt in shown.stdout
    assert parse_json(run("receipt", "show", receipt, "--json")) == found["receipt"]
    assert parse_json(run("receipt", "verify", receipt, "--json"))["verified"]
    assert "Reasons for the senior:" in run("receipt", "show", receipt).stdout
    for step in steps:
        assert step["words"] in shown.stdout
        assert step["trace_id"] in shown.stdout

    with monkeypatch.context() as without:
        without.setenv("VICEVERSA_KAFKA", "127.0.0.1:9")
        alone = run("pairing", id)
        assert alone.exit_code == 0
        assert "Kafka cannot be reached" in alone.stderr
        assert "Ada Marsden" in alone.stdout
        assert "proposed" in alone.stdout
        assert parse_json(run("pairing", id, "--json"))["story"] is None

    with monkeypatch.context() as another:
        another.setenv("VICEVERSA_TOKEN", run("token", "--as", "bo mars").stdout.strip())
        own = parse_json(run("pairing", id, "--json"))["story"]
        assert own[0]["words"].startswith("Proposed to both, ")


def status(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = parse_json(run("status", "--json"))
    assert found["funnel"]["fresh-eyes"]["k"] >= 5
    assert found["funnel"]["fresh-eyes"]["steps"] | {"met": 0, "lapsed": 0} == found["funnel"]["fresh-eyes"]["steps"]
    assert found["funnel"]["fresh-eyes"]["steps"]["formed"] is None, "too few to be told"
    assert found["messages"]["failed"] == 0
    assert found["messages"]["sent"] > 0
    assert [one["figures"]["overdue_by"] for one in found["services"] if one["figures"]] == [{}] * 4
    shown = run("status").stdout
    assert "fewer than 5" in shown
    assert "left out on purpose" in shown
    assert parse_json(run("status", "--exact", "--json"))["exact"]["fresh-eyes"]["pairings formed"] == 1
    with monkeypatch.context() as another:
        another.setenv("VICEVERSA_TOKEN", run("token", "--as", "bo mars").stdout.strip())
        mine = parse_json(run("status", "--json"))
        assert (mine["funnel"], mine["messages"]) == ({}, None), "figures are for those who look after it"


def help_is_offered(run: Run) -> None:
    """A month without a meeting: the two stand on the coordinator's list, and the story says why."""

    def wanting() -> Any:
        return parse_json(run("care", "fresh-eyes", "--json"))["would_like_help"]

    [pair] = wait_until(wanting, "a pair would like some help")
    assert set(pair["facts"]) == {"no_first_meeting_booked", "no_first_meeting_held"}
    shown = run("care", "fresh-eyes").stdout
    assert "no first meeting was planned in time" in shown
    assert pair["pairing_id"] in shown

    def told() -> bool:
        steps = parse_json(run("pairing", pair["pairing_id"], "--json"))["story"]
        return any(one["words"].startswith("Help was offered, because no first meeting was planned") for one in steps)

    wait_until(told, "the story tells of it")


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
