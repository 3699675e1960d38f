"""Detached processes with a pid file and a log, for whatever runs beside a person's terminal.

Under a data folder, `run/NAME.json` names the process and `logs/NAME.log` is what it says. A pid file holds the pid and
when that process was created: the system hands pids out again, and a stranger who got ours must never be stopped.
Everything here is plain and synchronous; from async code call it with `asyncio.to_thread`.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from deploy.local.errors import ServerError

GRACE_S = 20.0
"""How long a process may take to stop by itself before it is killed."""

_SAME_MOMENT_S = 2.0
"""The system derives a creation time from its boot time, which clock adjustments shift a little."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Processes that this very process started: they must be reaped, or they stay as zombies."""

_bound = threading.Event()
_binding = threading.Lock()
_watcher: "subprocess.Popen[bytes] | None" = None
"""The process that ends the others when this one is gone; see ``bound_children``."""


@dataclass(frozen=True)
class Process:
    name: str
    pid: int
    created: float
    """Seconds since 1970, as the system tells it."""
    log: Path
    facts: Mapping[str, str] = field(default_factory=dict)
    """What whoever started it wants to know again, such as its port."""

    @property
    def running(self) -> bool:
        return _find(self) is not None


def bind_children() -> None:
    """What this program spawns from now on ends with it, also when it is killed.

    For tests, benchmarks and other programs in the foreground. `viceversa up` leaves its processes behind on purpose.
    """
    _bound.set()


def spawn(
    name: str,
    argv: Sequence[str],
    data: Path,
    env: Mapping[str, str | None] | None = None,
    *,
    facts: Mapping[str, str] | None = None,
) -> Process:
    """Starts `argv` in a session of its own, so that neither Ctrl-C nor a closed terminal reaches it.

    It outlives this process, unless `bind_children` was called. `env` changes this process's environment, where None
    removes a variable. The log is appended to. Raises ServerError when NAME already runs.
    """
    if running := alive(name, data):
        raise ServerError(f"{name} already runs here (pid {running.pid}); stop it first, or use it.")
    log = data.absolute() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with signals_held(), log.open("ab") as output:
        try:
            child = subprocess.Popen(
                list(argv),
                env=changed_environment(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ServerError(f"{name} cannot be started: {error}") from error
        _children[child.pid] = child
        process = Process(name, child.pid, _created(child.pid), log, dict(facts or {}))
        if _bound.is_set():
            _bind(process)
        _write(process, data)
    return process


def changed_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with some variables set, and those that are None removed."""
    return {key: value for key, value in {**os.environ, **changes}.items() if value is not None}


def alive(name: str, data: Path) -> Process | None:
    """The process called NAME under this data folder, if it runs; a pid file that outlived its process is removed."""
    path = _pid_file(name, data)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        process = Process(name, known["pid"], known["created"], Path(known["log"]), known["facts"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)
        return None
    if process.running:
        return process
    path.unlink(missing_ok=True)
    return None


def stop(name: str, data: Path, *, grace: float = GRACE_S) -> bool:
    """Asks NAME to stop, waits `grace` seconds, then kills its whole session. False when nothing ran."""
    process = alive(name, data)
    found = _find(process) if process else None
    if process is None or found is None:
        return False
    with suppress(psutil.NoSuchProcess):
        found.terminate()
    if not _gone(found, grace):
        with suppress(ProcessLookupError):
            os.killpg(found.pid, signal.SIGKILL)
        _gone(found, grace)
    _pid_file(name, data).unlink(missing_ok=True)
    return True


def names(data: Path) -> list[str]:
    """Every process that runs under this data folder."""
    files = sorted((data / "run").glob("*.json"))
    return [file.stem for file in files if alive(file.stem, data)]


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, indented; empty when there are none."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


@contextmanager
def signals_held() -> Iterator[None]:
    """SIGINT and SIGTERM that arrive meanwhile take effect afterwards: a child is never left without its pid file."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    previous = {
        held: signal.signal(held, lambda number, _frame: arrived.append(number))
        for held in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for held, handler in previous.items():
            signal.signal(held, handler)
        for received in arrived:
            signal.raise_signal(received)


def _pid_file(name: str, data: Path) -> Path:
    return data / "run" / f"{name}.json"


def _write(process: Process, data: Path) -> None:
    path = _pid_file(process.name, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(process), default=str), encoding="utf-8")
    fresh.replace(path)


def _bind(process: Process) -> None:
    """Tell the watcher, which is started with the first child, of one more."""
    global _watcher  # noqa: PLW0603 - there is one for each process
    with _binding:
        if _watcher is None:
            _watcher = subprocess.Popen(
                [sys.executable, "-m", "deploy.local.bound_children"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        assert _watcher.stdin is not None, "it was asked for"
        _watcher.stdin.write(f"{process.pid} {process.created!r}\n".encode())
        _watcher.stdin.flush()


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _find(process: Process) -> psutil.Process | None:
    """The system's process, only if it is still the one that was started, and not a zombie.

    One that was killed is a zombie before its other threads have ended, which keep its port until then.
    """
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.created) < _SAME_MOMENT_S
        if same and (found.status() != psutil.STATUS_ZOMBIE or found.num_threads() > 1):
            return found
    if child := _children.get(process.pid):
        child.poll()
    return None


def _gone(found: psutil.Process, seconds: float) -> bool:
    """Waits until the process has ended, and reaps it when it is a child of this one."""
    child = _children.get(found.pid)
    try:
        if child:
            child.wait(seconds)
            _children.pop(found.pid, None)
        else:
            found.wait(seconds)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return False
    return True
