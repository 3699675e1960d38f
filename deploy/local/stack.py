"""Starts, finds, checks and stops Kafka and the store together.

In the data folder, `kafka/` and `store/` hold their data, `run/` their pid files, and `logs/` their logs. When
`VICEVERSA_KAFKA` or `VICEVERSA_MONGO` is set, it names an external server, which is used instead of a local one. Calls
are synchronous; from async code use `asyncio.to_thread`.
"""

import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from chassis.core.connection import Connection
from chassis.core.settings import Settings, SettingsError, load_section
from deploy.local import health, jars, kafka_server, ports, private_files, process
from deploy.local.errors import ServerError
from deploy.local.java import java_env

__all__ = ["Endpoints", "Running", "ServerError", "ServerStatus", "start", "status", "stop"]

KAFKA, STORE = "kafka", "store"
_VARIABLES = {KAFKA: "VICEVERSA_KAFKA", STORE: "VICEVERSA_MONGO"}
_TITLES = {KAFKA: "Apache Kafka", STORE: "the store"}
_START_DEADLINE_S = 90.0
_EXTERNAL_DEADLINE_S = 15.0
_PORT_TRIES = 3
_UNDO_GRACE_S = 5.0

Report = Callable[[str], None]


@dataclass(frozen=True)
class Endpoints:
    kafka: str
    """Bootstrap servers, `host:port`."""
    mongo: str
    """A MongoDB connection string."""


@dataclass(frozen=True)
class ServerStatus:
    name: str
    address: str | None
    """None when it is not running."""
    pid: int | None
    """None when it is not running, or when it is an external server."""
    trouble: str | None
    """The reason why it cannot be used at the moment; None when it answers."""


@dataclass(frozen=True)
class Running:
    """Servers that answer. As a context manager, it stops at the end only the servers that it has started."""

    endpoints: Endpoints
    data: Path
    started: tuple[str, ...]
    """Names of the servers that this call has started. The others were already running."""

    def stop(self, report: Report | None = None) -> None:
        _stop(self.data, self.started, report or _silent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()


def start(
    data: Path,
    *,
    kafka_port: int = 9092,
    mongo_port: int = 27017,
    report: Report | None = None,
    store_commit_ms: int = 10,
    kafka_settings: Mapping[str, str] | None = None,
) -> Running:
    """Start both servers and return when they answer. Servers that already run for `data` are used as they are.

    A port that is taken is replaced by a free one, which is reported. `store_commit_ms` limits the data that a killed
    store loses. After a failure, Ctrl-C or SIGTERM, the servers that were started here are stopped before the error is
    raised.
    """
    say = report or _silent
    data = data.absolute()
    with _exclusive(data), _exit_on_sigterm(), _stop_started_on_failure(data) as started:
        store = partial(_spawn_store, data, store_commit_ms)
        kafka = partial(_spawn_kafka, data, dict(kafka_settings or {}))
        waits = [
            _begin(STORE, data, mongo_port, store, started, say),
            _begin(KAFKA, data, kafka_port, kafka, started, say),
        ]
        mongo_address, kafka_address = (wait() for wait in waits)
    return Running(Endpoints(kafka_address, mongo_address), data, tuple(started))


def stop(data: Path, report: Report | None = None) -> list[str]:
    """Stop both servers gracefully and return the names of those that ran. External servers are not stopped."""
    return _stop(data.absolute(), (KAFKA, STORE), report or _silent)


def status(data: Path) -> list[ServerStatus]:
    return [_status(name, data.absolute()) for name in (KAFKA, STORE)]


def _status(name: str, data: Path) -> ServerStatus:
    running = None
    address = os.environ.get(_VARIABLES[name])
    if not address:
        running = process.alive(name, data)
        if not running:
            return ServerStatus(name, None, None, "it does not run")
        address = _address(name, int(running.facts["port"]))
    try:
        _check_answers(name, address, data if running else None)
    except health.UnhealthyError as error:
        return ServerStatus(name, address, running.pid if running else None, str(error))
    return ServerStatus(name, address, running.pid if running else None, None)


def _begin(
    name: str, data: Path, port: int, spawn: Callable[[int], process.Process], started: list[str], say: Report
) -> Callable[[], str]:
    """Start the server unless it runs. The returned function waits until it answers and returns its address."""
    if address := os.environ.get(_VARIABLES[name]):
        say(f"Using {_TITLES[name]} of {_VARIABLES[name]}; none is started.")
        return partial(_wait_external, name, address)
    if running := process.alive(name, data):
        address = _address(name, int(running.facts["port"]))
        say(f"Using {_TITLES[name]} that already runs on {address} (pid {running.pid}).")
        return partial(_wait, name, data, running)

    def launch(port_to_use: int) -> process.Process:
        with process.signals_held():
            launched = spawn(port_to_use)
            started.append(name)
        return launched

    chosen = port if ports.is_free(port) else ports.any_free()
    if chosen != port:
        say(f"Port {port} is taken; {_TITLES[name]} gets port {chosen} instead.")
    return partial(_wait_with_port_change, name, data, launch, launch(chosen), say)


def _wait_with_port_change(
    name: str, data: Path, launch: Callable[[int], process.Process], first: process.Process, say: Report
) -> str:
    """Wait until the server answers. When another process has taken its port first, it is started with another one."""
    running = first
    for tries_left in reversed(range(_PORT_TRIES)):
        try:
            address = _wait(name, data, running)
        except ServerError:
            lost_its_port = "Address already in use" in process.tail(running.log)
            if running.running or not lost_its_port or not tries_left:
                raise
            running = launch(ports.any_free())
        else:
            say(f"{_TITLES[name].capitalize() if name == STORE else _TITLES[name]} answers on {address}.")
            return address
    raise AssertionError("the last try returns or raises")


def _wait(name: str, data: Path, running: process.Process) -> str:
    address = _address(name, int(running.facts["port"]))
    health.wait_until(partial(_check_answers, name, address, data), _START_DEADLINE_S, running)
    return address


def _wait_external(name: str, address: str) -> str:
    try:
        health.wait_until(partial(_check_answers, name, address, None), _EXTERNAL_DEADLINE_S)
    except ServerError as error:
        advice = f"Start it, correct {_VARIABLES[name]}, or unset that variable to have a server started here."
        raise ServerError(f"{error} {advice}") from error
    return address


def _check_answers(name: str, address: str, data: Path | None) -> None:
    """Raise UnhealthyError unless the server answers. `data`: the data folder of a local server, else None."""
    if name == STORE:
        health.mongo_answers(address)
    else:
        connection = Connection(address) if data else _external_connection(address)
        health.kafka_answers(connection, kafka_server.cluster_id(data / KAFKA) if data else None)


def _external_connection(address: str) -> Connection:
    """How to reach the brokers that VICEVERSA_KAFKA names, with the settings of the services. Raises ServerError."""
    try:
        return replace(load_section(Settings).connection(), servers=address)
    except SettingsError as error:
        raise ServerError(f"Some settings are wrong:\n{error}") from error


def _address(name: str, port: int) -> str:
    return f"{ports.LOOPBACK}:{port}" if name == KAFKA else f"mongodb://{ports.LOOPBACK}:{port}"


def _spawn_kafka(data: Path, settings: Mapping[str, str], port: int) -> process.Process:
    log = data / "logs" / f"{KAFKA}.log"
    command = kafka_server.prepare(data / KAFKA, jars.class_path(KAFKA), port, ports.any_free(), settings, log)
    return process.spawn(KAFKA, command, data, java_env(), facts={"port": str(port)})


def _spawn_store(data: Path, commit_ms: int, port: int) -> process.Process:
    private_files.make_folder(data / STORE)
    command = [
        sys.executable,
        "-m",
        "deploy.local.store_server",
        str(port),
        str(data / STORE / "store.mv"),
        str(commit_ms),
    ]
    return process.spawn(
        STORE, [*command, *map(str, jars.class_path(STORE))], data, java_env(), facts={"port": str(port)}
    )


def _stop(data: Path, names: tuple[str, ...], say: Report) -> list[str]:
    with _exclusive(data):
        return _stop_all(data, names, process.GRACE_S, say)


def _stop_all(data: Path, names: tuple[str, ...], grace: float, say: Report) -> list[str]:
    with ThreadPoolExecutor(2) as together:
        results = dict(zip(names, together.map(lambda name: process.stop(name, data, grace=grace), names), strict=True))
    stopped = [name for name, ran in results.items() if ran]
    for name in stopped:
        say(f"Stopped {_TITLES[name]}.")
    return stopped


@contextmanager
def _stop_started_on_failure(data: Path) -> Iterator[list[str]]:
    """Yield a list for the names of started servers. After any exception these servers are stopped."""
    started: list[str] = []
    try:
        yield started
    except BaseException:
        with process.signals_held():
            _stop_all(data, tuple(started), _UNDO_GRACE_S, _silent)
        raise


@contextmanager
def _exclusive(data: Path) -> Iterator[None]:
    """Let only one start or stop of a data folder run at a time. The system releases the lock of a killed process."""
    try:
        private_files.make_folder(data)
        private_files.make_folder(data / "run")
        private_files.restrict(data)
        lock = os.fdopen(private_files.open_log(data / "run" / ".lock"), "ab")
    except OSError as error:
        raise ServerError(f"Cannot use {data} for the servers' data: {error}. Choose another folder.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Inside the context, SIGTERM raises SystemExit, so that a start is undone as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _silent(_message: str) -> None:
    """A report for callers that need none."""
