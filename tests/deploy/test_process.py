"""Detached processes, which are never confused with other processes."""

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
memory = [b"x" * 1_000_000 for _ in range(150)]  # releasing this memory takes a moment
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


def wait_until(condition: Callable[[], object], seconds: float = patience(5)) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)


class TestProcessIdentity:
    def test_another_process_with_a_reused_pid_is_left_alone(self, tmp_path: Path) -> None:
        started = process.spawn("sleeper", SLEEPER, tmp_path)
        file = tmp_path / "run" / "sleeper.json"
        original = file.read_text()
        content = json.loads(original)
        file.write_text(json.dumps({**content, "created": content["created"] - 3600}))
        assert process.alive("sleeper", tmp_path) is None
        assert not process.stop("sleeper", tmp_path)
        assert psutil.pid_exists(started.pid)
        file.write_text(original)
        assert process.stop("sleeper", tmp_path)

    def test_a_damaged_pid_file_counts_as_none(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "sleeper.json").write_text("{half a fi")
        assert process.alive("sleeper", tmp_path) is None

    def test_a_killed_process_is_not_alive_before_it_is_reaped(self, tmp_path: Path) -> None:
        started = process.spawn("sleeper", SLEEPER, tmp_path)
        os.kill(started.pid, signal.SIGKILL)
        wait_until(lambda: process.alive("sleeper", tmp_path) is None)

    def test_a_dead_process_has_released_its_port(self, tmp_path: Path) -> None:
        """The main thread is a zombie before the other threads have ended, and they keep the port until then."""
        for _ in range(10):
            port = ports.any_free()
            started = process.spawn("listener", [*LISTENER, str(port)], tmp_path)
            while ports.is_free(port):
                time.sleep(0.02)
            os.kill(started.pid, signal.SIGKILL)
            while started.running:
                """No pause: it would hide the error."""
            assert ports.is_free(port)
            assert process.alive("listener", tmp_path) is None


class TestProcessLifecycle:
    def test_a_process_is_found_by_name_and_stopped(self, tmp_path: Path) -> None:
        started = process.spawn("sleeper", SLEEPER, tmp_path, facts={"port": "7"})
        running = process.alive("sleeper", tmp_path)
        assert running == started
        assert running is not None
        assert running.facts == {"port": "7"}
        assert process.names(tmp_path) == ["sleeper"]
        assert process.stop("sleeper", tmp_path)
        assert not psutil.pid_exists(started.pid)
        assert process.alive("sleeper", tmp_path) is None
        assert not process.stop("sleeper", tmp_path)

    def test_it_has_its_own_session_and_log(self, tmp_path: Path) -> None:
        started = process.spawn("sleeper", SLEEPER, tmp_path)
        try:
            assert os.getsid(started.pid) == started.pid
            wait_until(lambda: "awake" in process.tail(started.log))
        finally:
            process.stop("sleeper", tmp_path)

    def test_the_same_name_cannot_run_twice(self, tmp_path: Path) -> None:
        process.spawn("sleeper", SLEEPER, tmp_path)
        try:
            with pytest.raises(ServerError, match="already runs"):
                process.spawn("sleeper", SLEEPER, tmp_path)
        finally:
            process.stop("sleeper", tmp_path)

    def test_a_process_that_ignores_the_stop_request_is_killed(self, tmp_path: Path) -> None:
        started = process.spawn("stubborn", STUBBORN, tmp_path)
        wait_until(lambda: "awake" in process.tail(started.log))
        assert process.stop("stubborn", tmp_path, grace=0.2)
        assert not psutil.pid_exists(started.pid)

    def test_a_program_that_cannot_run_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ServerError, match="ghost cannot be started"):
            process.spawn("ghost", ["/does/not/exist"], tmp_path)

    def test_an_interrupt_takes_effect_after_the_pid_file(self, tmp_path: Path) -> None:
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
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=patience(10)
        )
        try:
            assert "KeyboardInterrupt" in result.stderr
            assert process.alive("sleeper", tmp_path)
        finally:
            assert process.stop("sleeper", tmp_path)
