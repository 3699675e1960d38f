"""The whole demo as its users run it, with fewer people: real servers, real processes, and figures that agree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import process
from deploy.local.stack import Endpoints

PEOPLE = 90
WITHIN_S = 600
PROMISED = (
    "members", "enrolled", "rounds", "proposed", "lapsed", "formed", "chartered", "sessions_held", "checkins",
    "partner_changes", "ended", "erased", "notifications_sent", "mails", "events_by_topic",
)  # fmt: skip


def environment(servers: Endpoints, prefix: str) -> dict[str, str]:
    return {
        **os.environ,
        "VICEVERSA_KAFKA": servers.kafka,
        "VICEVERSA_MONGO": servers.mongo,
        "VICEVERSA_TOPIC_PREFIX": prefix,
    }


def test_the_demo_ends_with_figures_that_agree_and_leaves_nothing_running(
    servers: Endpoints, prefix: str, tmp_path: Path
) -> None:
    data = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "cli.demo", "--exit", "--people", str(PEOPLE), "--data", str(data)],
        env=environment(servers, prefix), capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert process.names(data) == []

    figures = json.loads(done.stdout.splitlines()[-1])
    events = figures["events_by_type"]
    assert [name for name in PROMISED if not figures[name]] == []
    assert figures["members"] + figures["erased"] == PEOPLE
    assert figures["proposed"] + figures["pairings_erased"] == events["mentoring.pairing.proposed.v1"]
    assert figures["chartered"] <= figures["formed"] <= figures["proposed"] - figures["lapsed"]
    assert "proposed" not in figures["pairings_by_state"], "every deadline has passed"
    assert (figures["rounds"], figures["erased"], figures["dead_letters"]) == (2, 2, 0)
    assert figures["notifications_sent"] >= events["mentoring.notification.sent.v1"] > 0
    assert sum(events.values()) == sum(figures["events_by_topic"].values())
    left = {"mentoring.pairing.paused.v1", "mentoring.pairing.renewed.v1", "mentoring.outcome.recorded.v1"} - set(
        events
    )
    assert not left, "people are away, go on, and come to an end"


def test_it_never_empties_a_folder_that_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "cli.demo", "--exit", "--data", str(tmp_path)],
        capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "not the demo's" in done.stderr
    assert (tmp_path / "precious").read_text() == "mine"
