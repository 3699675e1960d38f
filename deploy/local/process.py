"""Detached processes with a pid file and a log, which run independently of a terminal.

In a data folder, `run/NAME.json` is the pid file of a process and `logs/NAME.log` is its log. The pid file holds the
pid and the creation time of the process: the system reuses pids, and another process with the same pid must never be
stopped. All functions are synchronous; from async code call them with `asyncio.to_thread`.
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

from deploy.local import private_files
from deploy.local.errors import ServerError

GRACE_S = 20.0
"""How long a process may take to stop by itself before it is killed."""

_SAME_MOMENT_S = 2.0
"""The system derives a creation time from its boot time, which clock adjustments shift a little."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""The children of this process. They must be reaped, or they stay as zombies."""

_bound = threading.Event()
_binding = threading.Lock()
_watcher: "subprocess.Popen[bytes] | None" = None
"""The process that ends the bound children when this process has ended, see ``bound_children``."""


@dataclass(frozen=True)
class Process:
    name: str
    pid: int
    created: float
    """Creation time from the system, in seconds since 1970."""
    log: Path
    facts: Mapping[str, str] = field(default_factory=dict)
    """Facts that the starter needs later, such as the port."""

    @property
    def running(self) -> bool:
        return _find(self) is not None


def bind_children() -> None:
    """From now on, processes spawned by this program end with it, also when it is killed.

    This is for tests, benchmarks and other foreground programs. The processes of `viceversa up` continue on purpose.
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
    """Start `argv` in its own session, so that neither Ctrl-C nor a closed terminal reaches it.

    It outlives this process, unless `bind_children` was called. `env` changes this process's environment, where None
    removes a variable. The log is appended to. Raises ServerError when NAME already runs.
    """
    if running := alive(name, data):
        raise ServerError(f"{name} already runs here (pid {running.pid}); stop it first, or use it.")
    log = data.absolute() / "logs" / f"{name}.log"
    with signals_held(), os.fdopen(private_files.open_log(log), "ab") as output:
        try:
            child = subprocess.Popen(
                list(argv),
                env=changed_environment(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=private_files.UMASK,
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
    """The running process NAME of this data folder, or None. The pid file of an ended process is removed."""
    path = _pid_file(name, data)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        process = Process(name, content["pid"], content["created"], Path(content["log"]), content["facts"])
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
    """Ask NAME to stop, wait `grace` seconds, then kill its whole session. False when it was not running."""
    process = alive(name, data)
    system_process = _find(process) if process else None
    if process is None or system_process is None:
        return False
    with suppress(psutil.NoSuchProcess):
        system_process.terminate()
    if not _wait_for_end(system_process, grace):
        with suppress(ProcessLookupError):
            os.killpg(system_process.pid, signal.SIGKILL)
        _wait_for_end(system_process, grace)
    _pid_file(name, data).unlink(missing_ok=True)
    return True


def names(data: Path) -> list[str]:
    """The names of all running processes of this data folder."""
    files = sorted((data / "run").glob("*.json"))
    return [file.stem for file in files if alive(file.stem, data)]


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, indented. Empty when there is no log."""
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
    """Delay SIGINT and SIGTERM until the end of the context, so that no child is left without its pid file."""
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
    private_files.make_folder(path.parent)
    private_files.write_text(path, json.dumps(asdict(process), default=str))


def _bind(process: Process) -> None:
    """Register a child with the watcher, which is started with the first child."""
    global _watcher  # noqa: PLW0603 - one watcher for each process
    with _binding:
        if _watcher is None:
            _watcher = subprocess.Popen(
                [sys.executable, "-m", "deploy.local.bound_children"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        assert _watcher.stdin is not None, "a pipe was requested"
        _watcher.stdin.write(f"{process.pid} {process.created!r}\n".encode())
        _watcher.stdin.flush()


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _find(process: Process) -> psutil.Process | None:
    """The system's process, if it is still the started one and not a zombie; otherwise None.

    A killed process becomes a zombie before all of its threads have ended, and these threads still keep its port.
    """
    with suppress(psutil.NoSuchProcess):
        candidate = psutil.Process(process.pid)
        is_same = abs(candidate.create_time() - process.created) < _SAME_MOMENT_S
        if is_same and (candidate.status() != psutil.STATUS_ZOMBIE or candidate.num_threads() > 1):
            return candidate
    if child := _children.get(process.pid):
        child.poll()
    return None


def _wait_for_end(system_process: psutil.Process, seconds: float) -> bool:
    """Wait until the process has ended, and reap it when it is a child of this process."""
    child = _children.get(system_process.pid)
    try:
        if child:
            child.wait(seconds)
            _children.pop(system_process.pid, None)
        else:
            system_process.wait(seconds)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return False
    return True
