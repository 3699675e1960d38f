"""Starts and stops Kafka, the store, the mail catcher, the issuer and the four services as detached processes.

`viceversa up` and `down`, the demo and the tests use `start` and `stop`. Processes that already run for the data folder
are used as they are. When a start fails, the processes that it has started are stopped again.
"""

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from chassis.core.connection import split_servers
from cli import installation
from cli.connections import provision_all_topics
from cli.console import Failure
from cli.installation import ISSUER, MAIL, Addresses
from contracts.catalogue import SERVICES
from deploy.local import mail, ports, private_files, process, stack

SERVERS = ("kafka", "store")
_READY_WITHIN_S = 120.0
_PAUSE_S = 0.1
_LOOPBACK = "127.0.0.1"

Report = Callable[[str], None]


@dataclass(frozen=True)
class ProcessHealth:
    """The state of one process, as `status` shows it. ``detail`` names the reason when it is not ready."""

    name: str
    url: str | None
    pid: int | None
    ready: bool
    detail: str


def start(data: Path, report: Report, *, clock: Path | None = None, prefix: str | None = None) -> Addresses:
    """Start everything and return when all processes answer. ``clock`` and ``prefix`` are saved for the next start.

    Raises ``Failure`` or ``ServerError``, which name the process that did not answer, and the reason.
    """
    data = data.absolute()
    before = installation.read_addresses(data) or Addresses()
    kafka_port = _own_port(before.kafka, installation.DEFAULT_KAFKA)
    mongo_port = _own_port(before.mongo, installation.DEFAULT_MONGO)
    with _stop_started_on_failure(data) as started:
        running = stack.start(data, kafka_port=kafka_port, mongo_port=mongo_port, report=report)
        started.extend(running.started)
        addresses = Addresses(
            kafka=",".join(split_servers(running.endpoints.kafka)),
            mongo=running.endpoints.mongo,
            prefix=os.environ.get("VICEVERSA_TOPIC_PREFIX") or prefix or before.prefix,
            urls=_choose_urls(data, before.urls, report),
            management_urls=_choose_urls(data, before.management_urls, report, " (management)"),
            clock=clock.absolute() if clock else before.clock,
            mail_port=_choose_mail_port(data, before, report),
        )
        installation.write_addresses(data, addresses)
        provision_all_topics(addresses)
        _launch_mail(data, addresses, started)
        _launch(data, addresses, (ISSUER,), started)
        _await_ready(data, addresses, (ISSUER,), report)
        _launch(data, addresses, SERVICES, started)
        _await_ready(data, addresses, SERVICES, report)
    return addresses


def exit_on_sigterm() -> None:
    """Make SIGTERM raise ``SystemExit``, so that a start in progress is undone."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def stop(data: Path, report: Report) -> list[str]:
    """Stop everything gracefully, the servers last, and return the names of the processes that ran."""
    data = data.absolute()
    if not data.is_dir():
        return []
    return _stop_processes(data, (*SERVICES, ISSUER, MAIL), report) + list(stack.stop(data, report=report))


def check_health(data: Path, addresses: Addresses) -> list[ProcessHealth]:
    """The state of the issuer and the services, all checked at the same time."""
    with ThreadPoolExecutor(len(addresses.urls)) as together:
        return list(together.map(lambda name: _check_process(data.absolute(), name, addresses), addresses.urls))


def log_file(data: Path, name: str) -> Path:
    return data.absolute() / "logs" / f"{name}.log"


def process_environment(data: Path, addresses: Addresses, name: str) -> dict[str, str | None]:
    """The environment variables of a process, in addition to those of this process."""
    return {
        "VICEVERSA_KAFKA": addresses.kafka,
        "VICEVERSA_MONGO": addresses.mongo,
        "VICEVERSA_MONGO_PROFILE": _store_profile(),
        "VICEVERSA_TOPIC_PREFIX": addresses.prefix,
        "VICEVERSA_INSTANCE": os.environ.get("VICEVERSA_INSTANCE") or f"{name}-0",
        "VICEVERSA_DRAIN_S": os.environ.get("VICEVERSA_DRAIN_S") or "0",  # no load balancer is in front
        "VICEVERSA_HTTP_HOST": _LOOPBACK,
        "VICEVERSA_HTTP_PORT": str(_port_of(addresses.urls[name])),
        **_management_settings(addresses, name),
        "VICEVERSA_ISSUER": addresses.urls[ISSUER],
        "VICEVERSA_CLOCK": str(addresses.clock) if addresses.clock else None,
        "VICEVERSA_HMAC_KEY": os.environ.get("VICEVERSA_HMAC_KEY") or _load_hmac_key(data),
        "VICEVERSA_DATA": str(data),
        **_mail_settings(addresses),
    }


def _store_profile() -> str | None:
    """The profile of the embedded store, unless the environment names another profile or server."""
    configured = os.environ.get("VICEVERSA_MONGO_PROFILE")
    return configured if configured or os.environ.get("VICEVERSA_MONGO") else "embedded"


def maildir(data: Path) -> Path:
    """The folder with the mails of this installation, unless a mail server is configured."""
    return data.absolute() / "mail"


def keeps_mail_local() -> bool:
    """Whether mail stays on this machine, because the environment names no mail server."""
    return not os.environ.get("VICEVERSA_NOTIFIER_SMTP_HOST")


def _mail_settings(addresses: Addresses) -> dict[str, str | None]:
    """The address of the mail catcher, unless the environment names a mail server."""
    if not keeps_mail_local():
        return {}
    return {
        "VICEVERSA_NOTIFIER_SMTP_HOST": mail.HOST,
        "VICEVERSA_NOTIFIER_SMTP_PORT": str(addresses.mail_port),
    }


def _management_settings(addresses: Addresses, name: str) -> dict[str, str | None]:
    """The management port of a service; nothing for the issuer, which has none."""
    if name not in addresses.management_urls:
        return {}
    port = _port_of(addresses.management_urls[name])
    return {"VICEVERSA_MANAGEMENT_HOST": _LOOPBACK, "VICEVERSA_MANAGEMENT_PORT": str(port)}


def _load_hmac_key(data: Path) -> str:
    """This installation's HMAC key for external ids. It is created once, and only its owner can read it."""
    file = data / "hmac.key"
    if not file.exists():
        private_files.make_folder(data)
        private_files.write_text(file, secrets.token_hex(32))
    return file.read_text(encoding="ascii")


def _choose_urls(data: Path, before: Mapping[str, str], report: Report, purpose: str = "") -> dict[str, str]:
    """The URL of each process: with its current or former port, or with a free port when that one is taken.

    ``purpose`` follows the name of a process in the message about another port.
    """
    urls: dict[str, str] = {}
    for name, url in before.items():
        port = _port_of(url)
        if not process.alive(name, data) and not ports.is_free(port):
            free = ports.any_free()
            report(f"Port {port} is taken; {name}{purpose} gets port {free} instead.")
            port = free
        urls[name] = f"http://{_LOOPBACK}:{port}"
    return urls


def _choose_mail_port(data: Path, before: Addresses, report: Report) -> int:
    """The current or former port of the mail catcher, or a free port when that one is taken."""
    if process.alive(MAIL, data) or ports.is_free(before.mail_port):
        return before.mail_port
    free = ports.any_free()
    report(f"Port {before.mail_port} is taken; {MAIL} gets port {free} instead.")
    return free


def _launch_mail(data: Path, addresses: Addresses, started: list[str]) -> None:
    """Start the mail catcher and wait until it answers, because mails sent before that would need a retry."""
    if not process.alive(MAIL, data):
        arguments = ["--maildir", str(maildir(data)), "--port", str(addresses.mail_port)]
        process.spawn(MAIL, [sys.executable, "-m", "deploy.local.mail", *arguments], data)
        started.append(MAIL)
    until = time.monotonic() + _READY_WITHIN_S
    while not mail.answers(addresses.mail_port):
        if process.alive(MAIL, data) is None or time.monotonic() > until:
            raise Failure(*_failure_texts(data, f"{MAIL} does not answer", MAIL))
        time.sleep(_PAUSE_S)


def _launch(data: Path, addresses: Addresses, names: Sequence[str], started: list[str]) -> None:
    for name in names:
        if process.alive(name, data):
            continue
        module = "chassis.web.dev_issuer" if name == ISSUER else f"services.{name}"
        process.spawn(name, [sys.executable, "-m", module], data, process_environment(data, addresses, name))
        started.append(name)


def _await_ready(data: Path, addresses: Addresses, names: Sequence[str], report: Report) -> None:
    until = time.monotonic() + _READY_WITHIN_S
    waiting = list(names)
    while waiting:
        for name in list(waiting):
            health = _check_process(data, name, addresses)
            if health.pid is None:  # whatever answers at its address belongs to another installation
                raise Failure(*_failure_texts(data, f"{name} ended while it was starting", name))
            if health.ready:
                waiting.remove(name)
                report(f"{name} is ready on {addresses.urls[name]}.")
            elif time.monotonic() > until:
                problem = f"{name} was not ready within {_READY_WITHIN_S:.0f} s ({health.detail})"
                raise Failure(*_failure_texts(data, problem, name))
        if waiting:
            time.sleep(_PAUSE_S)


def _failure_texts(data: Path, problem: str, name: str) -> tuple[str, str]:
    log = log_file(data, name)
    return f"{problem}.", f"Its log ({log}) ends:\n{process.tail(log)}"


def _check_process(data: Path, name: str, addresses: Addresses) -> ProcessHealth:
    url = addresses.urls[name]
    running = process.alive(name, data)
    pid = running.pid if running else None
    try:
        answer = httpx.get(f"{addresses.health_url(name)}/health/ready", timeout=3, trust_env=False)
    except httpx.HTTPError as error:
        return ProcessHealth(name, url, pid, ready=False, detail=f"no answer ({type(error).__name__})")
    return ProcessHealth(name, url, pid, answer.status_code == httpx.codes.OK, _describe_readiness(answer))


def _describe_readiness(answer: httpx.Response) -> str:
    """The failing checks of a health response, in one line."""
    if answer.status_code == httpx.codes.OK:
        return "ready"
    try:
        checks = answer.json()["checks"]
        return "; ".join(f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"answers {answer.status_code}"


def _stop_processes(data: Path, names: Sequence[str], report: Report) -> list[str]:
    with ThreadPoolExecutor(len(names)) as together:
        ran = dict(zip(names, together.map(lambda name: process.stop(name, data), names), strict=True))
    stopped = [name for name in names if ran[name]]
    if stopped:
        report(f"Stopped {', '.join(stopped)}.")
    return stopped


def _port_of(address: str) -> int:
    port = urlsplit(address if "://" in address else f"//{address}").port
    if port is None:
        raise Failure(
            f"The address {address} has no port.", "Correct it, or remove addresses.json from the data folder."
        )
    return port


def _own_port(address: str, default: str) -> int:
    """The port of a server that `up` has started before; the default one if the address is somebody else's.

    The address of an external server may be a list of servers, or a name without a port.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    if "," in parts.netloc or parts.hostname != _LOOPBACK:
        return _port_of(default)
    return _port_of(address)


@contextmanager
def _stop_started_on_failure(data: Path) -> Iterator[list[str]]:
    """Yield a list for the names of started processes. After any exception they are stopped, the servers last."""
    started: list[str] = []
    try:
        yield started
    except BaseException:
        with process.signals_held():
            ours = [name for name in started if name not in SERVERS]
            if ours:
                _stop_processes(data, ours, _discard_report)
            for name in SERVERS:
                if name in started:
                    process.stop(name, data)
        raise


def _discard_report(_message: str) -> None:
    """A report for callers that need none."""
