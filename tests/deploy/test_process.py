"""Processes that outlive a terminal, and are never mistaken for others."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.local import ports, process
from deploy.local.errors import ServerError
from tests.patience import patience

SLEEPER = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(600)"]
LISTENER = [
    sys.executable,
    "-c",
    """
import socket, sys, threading, time
kept = [b"x" * 1_000_000 for _ in range(150)]  # which takes a moment to give back
for _ in range(12):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
""",
]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('awake', flush=True); time.sleep(600)",
]


def eventually(happened: Callable[[], object], seconds: float = patience(5)) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def test_a_process_is_found_again_by_its_name_and_stopped(tmp_path: Path) -> None:
    started = process.spawn("sleeper", SLEEPER, tmp_path, facts={"port": "7"})
    found = process.alive("sleeper", tmp_path)
    assert found == started
    assert found is not None
    assert found.facts == {"port": "7"}
    assert process.names(tmp_path) == ["sleeper"]
    assert process.stop("sleeper", tmp_path)
    assert not psutil.pid_exists(started.pid)
    assert process.alive("sleeper", tmp_path) is None
    assert not process.stop("sleeper", tmp_path)


def test_it_has_a_session_of_its_own_and_writes_to_its_log(tmp_path: Path) -> None:
    started = process.spawn("sleeper", SLEEPER, tmp_path)
    try:
        assert os.getsid(started.pid) == started.pid
        eventually(lambda: "awake" in process.tail(started.log))
    finally:
        process.stop("sleeper", tmp_path)


def test_the_same_name_cannot_run_twice(tmp_path: Path) -> None:
    process.spawn("sleeper", SLEEPER, tmp_path)
    try:
        with pytest.raises(ServerError, match="already runs"):
            process.spawn("sleeper", SLEEPER, tmp_path)
    finally:
        process.stop("sleeper", tmp_path)


def test_one_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    started = process.spawn("stubborn", STUBBORN, tmp_path)
    eventually(lambda: "awake" in process.tail(started.log))
    assert process.stop("stubborn", tmp_path, grace=0.2)
    assert not psutil.pid_exists(started.pid)


def test_a_stranger_with_a_recycled_pid_is_left_alone(tmp_path: Path) -> None:
    started = process.spawn("sleeper", SLEEPER, tmp_path)
    file = tmp_path / "run" / "sleeper.json"
    original = file.read_text()
    known = json.loads(original)
    file.write_text(json.dumps({**known, "created": known["created"] - 3600}))
    assert process.alive("sleeper", tmp_path) is None
    assert not process.stop("sleeper", tmp_path)
    assert psutil.pid_exists(started.pid)
    file.write_text(original)
    assert process.stop("sleeper", tmp_path)


def test_a_damaged_pid_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "sleeper.json").write_text("{half a fi")
    assert process.alive("sleeper", tmp_path) is None


def test_a_killed_one_is_not_alive_although_nobody_reaped_it(tmp_path: Path) -> None:
    started = process.spawn("sleeper", SLEEPER, tmp_path)
    os.kill(started.pid, signal.SIGKILL)
    eventually(lambda: process.alive("sleeper", tmp_path) is None)


def test_a_killed_one_has_left_its_port_when_it_is_not_alive_any_longer(tmp_path: Path) -> None:
    """Its first thread is a zombie before the others have ended; who started it at once found its port still taken."""
    for _ in range(10):
        port = ports.any_free()
        started = process.spawn("listener", [*LISTENER, str(port)], tmp_path)
        while ports.is_free(port):
            time.sleep(0.02)
        os.kill(started.pid, signal.SIGKILL)
        while started.running:
            """Without a pause, which would hide it."""
        assert ports.is_free(port)
        assert process.alive("listener", tmp_path) is None


def test_what_cannot_be_executed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="ghost cannot be started"):
        process.spawn("ghost", ["/does/not/exist"], tmp_path)


def test_an_interrupt_while_spawning_takes_effect_after_the_pid_file_is_written(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, signal, subprocess
from deploy.local import process
plain = subprocess.Popen
def interrupted(*args, **kwargs):
    child = plain(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGINT)
    return child
subprocess.Popen = interrupted
process.spawn("sleeper", {SLEEPER!r}, pathlib.Path({str(tmp_path)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=patience(10)
    )
    try:
        assert "KeyboardInterrupt" in done.stderr
        assert process.alive("sleeper", tmp_path)
    finally:
        assert process.stop("sleeper", tmp_path)
