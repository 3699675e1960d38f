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
WITHIN_S = 400


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
    everything = figures["proposed"] + figures["lapsed"] + figures["formed"] + figures["pairings_erased"]
    assert figures["members"] + figures["erased"] == PEOPLE
    assert 0 < figures["formed"] < everything == events["mentoring.pairing.proposed.v1"]
    assert figures["proposed"] == 0, "every deadline has passed"
    assert (figures["rounds"], figures["erased"], figures["dead_letters"]) == (2, 1, 0)
    assert events["mentoring.round.published.v1"] == figures["rounds"]
    assert sum(events.values()) == sum(figures["events_by_topic"].values())


def test_it_never_empties_a_folder_that_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "cli.demo", "--exit", "--data", str(tmp_path)],
        capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "not the demo's" in done.stderr
    assert (tmp_path / "precious").read_text() == "mine"
