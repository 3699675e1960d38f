"""The whole demo with fewer people, on real servers and with real processes. Its figures must agree."""

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
PROMISED_FIGURES = (
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


class TestDemo:
    def test_its_figures_agree_and_nothing_is_left_running(
        self, servers: Endpoints, prefix: str, tmp_path: Path
    ) -> None:
        data = tmp_path / "demo"
        result = subprocess.run(
            [sys.executable, "-m", "cli.demo", "--exit", "--people", str(PEOPLE), "--data", str(data)],
            env=environment(servers, prefix), capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        assert process.names(data) == []

        figures = json.loads(result.stdout.splitlines()[-1])
        events = figures["events_by_type"]
        assert [name for name in PROMISED_FIGURES if not figures[name]] == []
        assert figures["members"] + figures["erased"] == PEOPLE
        assert figures["proposed"] + figures["pairings_erased"] == events["mentoring.pairing.proposed.v1"]
        assert figures["chartered"] <= figures["formed"] <= figures["proposed"] - figures["lapsed"]
        assert "proposed" not in figures["pairings_by_state"], "all deadlines have passed"
        assert (figures["rounds"], figures["erased"], figures["dead_letters"]) == (2, 2, 0)
        assert figures["notifications_sent"] >= events["mentoring.notification.sent.v1"] > 0
        assert sum(events.values()) == sum(figures["events_by_topic"].values())
        missing = {
            "mentoring.pairing.paused.v1",
            "mentoring.pairing.renewed.v1",
            "mentoring.outcome.recorded.v1",
        } - set(events)
        assert not missing, "some pairings are paused, renewed, and recorded with an outcome"

    def test_a_folder_of_somebody_else_is_never_emptied(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "precious").write_text("mine")
        result = subprocess.run(
            [sys.executable, "-m", "cli.demo", "--exit", "--data", str(tmp_path)],
            capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert result.returncode == 1
        assert "not the demo's" in result.stderr
        assert (tmp_path / "precious").read_text() == "mine"
