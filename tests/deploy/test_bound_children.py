"""Tests and benchmarks leave no process behind, however they end.

The processes of `viceversa up` continue on purpose, as tests/deploy/test_stack.py shows.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local import process
from tests.deploy.test_process import SLEEPER, wait_until
from tests.deploy.test_stack import find_leftovers
from tests.patience import patience

pytestmark = pytest.mark.usefixtures("no_external_servers")

ROOT = Path(__file__).parents[2]
WAITING_TEST = """
import time
def test_waits(running_servers):
    running_servers.data.joinpath("answers").touch()
    time.sleep(600)
"""
PARENT = """
import pathlib, sys, time
from deploy.local import process
if "bound" in sys.argv:
    process.bind_children()
process.spawn("sleeper", {command!r}, pathlib.Path(sys.argv[1]))
print("started", flush=True)
time.sleep(600)
"""
PARENT_OF_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "grandchild"])
print(child.pid, flush=True)
time.sleep(600)
"""


def start_parent(command: list[str], data: Path, *how: str) -> "subprocess.Popen[bytes]":
    """Start a program that spawns the command as "sleeper"."""
    script = PARENT.format(command=command)
    parent = subprocess.Popen([sys.executable, "-c", script, str(data), *how], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    return parent


def kill_parent(parent: "subprocess.Popen[bytes]") -> None:
    parent.kill()
    parent.communicate()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    process.stop("sleeper", tmp_path)


class TestBoundChildren:
    @pytest.mark.parametrize("processes", [0, 1])
    @pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
    def test_kafka_and_the_store_end_with_a_test_run(
        self, tmp_path: Path, sent: signal.Signals, processes: int
    ) -> None:
        file = tmp_path / "test_waits.py"
        file.write_text(WAITING_TEST, encoding="utf-8")
        options = [
            "-c",
            str(ROOT / "pyproject.toml"),
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            "-n",
            str(processes),
        ]
        paths = ["--basetemp", str(tmp_path / "base"), str(file)]
        run = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *paths],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(lambda: list(tmp_path.rglob("answers")), patience(8))
        servers = [server for server in find_leftovers(tmp_path) if server.pid != run.pid]
        assert len(servers) == 2, servers
        os.kill(run.pid, sent)
        run.wait(patience(6))
        wait_until(lambda: find_leftovers(tmp_path) == [], patience(6))

    def test_a_bound_child_ends_when_its_parent_is_killed(self, data: Path) -> None:
        parent = start_parent(SLEEPER, data, "bound")
        child = process.alive("sleeper", data)
        assert child is not None
        kill_parent(parent)
        wait_until(lambda: not child.running)

    def test_children_of_a_bound_child_end_as_well(self, data: Path) -> None:
        parent = start_parent([sys.executable, "-c", PARENT_OF_A_CHILD], data, "bound")
        child = process.alive("sleeper", data)
        assert child is not None
        wait_until(lambda: process.tail(child.log).strip())
        grandchild = psutil.Process(int(process.tail(child.log)))
        kill_parent(parent)
        wait_until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)

    def test_an_unbound_child_continues(self, data: Path) -> None:
        parent = start_parent(SLEEPER, data)
        bound = start_parent(SLEEPER, data / "bound", "bound")
        bound_child = process.alive("sleeper", data / "bound")
        assert bound_child is not None
        kill_parent(parent)
        kill_parent(bound)
        wait_until(lambda: not bound_child.running)  # by then the unbound child would have ended as well
        assert process.alive("sleeper", data)

    def test_another_process_with_a_reused_pid_survives(self, data: Path) -> None:
        """The system reuses pids, so a child is recognised by its creation time as well."""
        stranger = subprocess.Popen(SLEEPER)
        try:
            watcher = [sys.executable, "-m", "deploy.local.bound_children"]
            line = f"{stranger.pid} {psutil.Process(stranger.pid).create_time() - 3600}\n"
            subprocess.run(watcher, input=line.encode(), cwd=ROOT, timeout=patience(1), check=True)
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()
