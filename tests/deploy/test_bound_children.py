"""Tests and benchmarks leave no process behind, however they end.

`viceversa up` does the contrary on purpose; tests/deploy/test_stack.py shows that.
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
from tests.deploy.test_process import SLEEPER, eventually
from tests.deploy.test_stack import leftovers
from tests.patience import patience

pytestmark = pytest.mark.usefixtures("no_external_servers")

ROOT = Path(__file__).parents[2]
A_TEST_THAT_WAITS = """
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
WITH_A_CHILD_OF_ITS_OWN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "grandchild"])
print(child.pid, flush=True)
time.sleep(600)
"""


def parent_of(command: list[str], data: Path, *how: str) -> "subprocess.Popen[bytes]":
    """A program that has started the command as "sleeper"."""
    script = PARENT.format(command=command)
    parent = subprocess.Popen([sys.executable, "-c", script, str(data), *how], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    return parent


def kill(parent: "subprocess.Popen[bytes]") -> None:
    parent.kill()
    parent.communicate()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    process.stop("sleeper", tmp_path)


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_kafka_and_the_store_of_a_test_run_end_with_it(tmp_path: Path, sent: signal.Signals, processes: int) -> None:
    file = tmp_path / "test_waits.py"
    file.write_text(A_TEST_THAT_WAITS, encoding="utf-8")
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
    where = ["--basetemp", str(tmp_path / "base"), str(file)]
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *where], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    eventually(lambda: list(tmp_path.rglob("answers")), patience(8))
    servers = [found for found in leftovers(tmp_path) if found.pid != run.pid]
    assert len(servers) == 2, servers
    os.kill(run.pid, sent)
    run.wait(patience(6))
    eventually(lambda: leftovers(tmp_path) == [], patience(6))


def test_a_bound_child_ends_when_its_parent_is_killed(data: Path) -> None:
    parent = parent_of(SLEEPER, data, "bound")
    child = process.alive("sleeper", data)
    assert child is not None
    kill(parent)
    eventually(lambda: not child.running)


def test_so_do_the_children_that_it_has_started_itself(data: Path) -> None:
    parent = parent_of([sys.executable, "-c", WITH_A_CHILD_OF_ITS_OWN], data, "bound")
    child = process.alive("sleeper", data)
    assert child is not None
    eventually(lambda: process.tail(child.log).strip())
    grandchild = psutil.Process(int(process.tail(child.log)))
    kill(parent)
    eventually(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_one_that_is_not_bound_lives_on(data: Path) -> None:
    parent = parent_of(SLEEPER, data)
    bound = parent_of(SLEEPER, data / "bound", "bound")
    also = process.alive("sleeper", data / "bound")
    assert also is not None
    kill(parent)
    kill(bound)
    eventually(lambda: not also.running)  # by when the other one would have ended too
    assert process.alive("sleeper", data)


def test_one_that_was_stopped_and_whose_number_somebody_else_has_is_left_alone(data: Path) -> None:
    """The system hands pids out again: only the process that was started is ended, told by when it was created."""
    stranger = subprocess.Popen(SLEEPER)
    try:
        watched = [sys.executable, "-m", "deploy.local.bound_children"]
        told = f"{stranger.pid} {psutil.Process(stranger.pid).create_time() - 3600}\n"
        subprocess.run(watched, input=told.encode(), cwd=ROOT, timeout=patience(1), check=True)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
