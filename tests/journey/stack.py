"""The whole stack as real processes, as `viceversa up` starts it: names, ports and a business clock of its own."""

import os
import signal
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # it is public
from pymongo import MongoClient

import cli.local_stack
from chassis.core.clocks import Clock
from chassis.web.dev_tokens import issue_token
from cli import installation
from cli.installation import ISSUER, MAIL, Addresses
from contracts.catalogue import SERVICES
from deploy.local import ports, process
from deploy.local.stack import Endpoints
from services.feedback import handlers as feedback
from services.matcher import handlers as matcher
from services.notifier import handlers as notifier
from services.profiles import handlers as profiles
from tests.journey.conditions import wait_until

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A Monday morning, when the business time of these tests begins."""

TOPICS_READ = {
    name: {topic.name for topic in hearing.topics()}
    for name, hearing in (
        ("profiles", profiles.registry),
        ("matcher", matcher.registry),
        ("notifier", notifier.registry),
        ("feedback", feedback.registry),
    )
}
"""The topics that each service reads."""

_ANSWER_WITHIN_S = 30.0
_TLS = ssl.create_default_context()
"""One shared TLS context: every client of httpx would otherwise create its own, which is slow."""


@dataclass
class Stack:
    """All running processes. Services are named as in `cli.installation`; each replica has its own name."""

    data: Path
    endpoints: Endpoints
    prefix: str
    telemetry: Mapping[str, str]
    clock: Clock
    urls: dict[str, str] = field(default_factory=dict)
    management_urls: dict[str, str] = field(default_factory=dict)
    _clients: dict[tuple[str, str], httpx.Client] = field(default_factory=dict)
    _connections: httpx.HTTPTransport = field(default_factory=lambda: httpx.HTTPTransport(verify=_TLS, trust_env=False))
    _replicas: set[str] = field(default_factory=set)
    _admin: Any = None
    _mongo: "MongoClient[dict[str, Any]] | None" = None

    # -- its processes ---------------------------------------------------------------------------------------------

    def start(self, **more: str) -> None:
        """Start missing services, and return when all are ready. ``more``: additional environment variables."""
        with self._surroundings(more):
            chosen = cli.local_stack.start(self.data, _silent, clock=self.data / "clock.jsonl")
        self.urls |= chosen.urls
        self.management_urls |= chosen.management_urls

    def kill(self, name: str) -> None:
        """`kill -9`; returns when the process is gone."""
        running = process.alive(name, self.data)
        assert running is not None, f"{name} does not run"
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: not running.running, f"{name} gone", 10)

    def restart(self, name: str, **more: str) -> None:
        """Start a service again after a kill or stop. ``more``: additional environment variables."""
        if name in self._replicas:
            self.replica(name)
        else:
            self.start(**more)

    def release_claims(self, service: str) -> None:
        """Free the claims of a dead process. They would expire within three minutes of machine time, which no test
        can advance."""
        assert self.pid(service) is None, f"{service} runs, and needs its claims"
        passed, database = self.clock.machine_now() - timedelta(seconds=1), self.database(service)
        for name in database.list_collection_names():
            database[name].update_many({"outbox.0": {"$exists": True}}, {"$set": {"relay_until": passed}})
        if service == "notifier":
            database["notifications"].update_many({"state": "sending"}, {"$set": {"lease": passed}})
        for name in ("imports", "rounds"):
            database[name].update_many({"lease": {"$gt": passed}}, {"$set": {"lease": passed}})

    def stop(self, name: str) -> None:
        """Request the process to stop, and wait until it has ended."""
        process.stop(name, self.data)

    def pid(self, name: str) -> int | None:
        running = process.alive(name, self.data)
        return running.pid if running else None

    def log(self, name: str) -> str:
        return cli.local_stack.log_file(self.data, name).read_text(encoding="utf-8", errors="replace")

    def replica(self, name: str, service: str = "matcher", **more: str) -> str:
        """Start one more process of a service, on its own port, and return its URL.

        It stops with the stack, or by ``stop``. ``more``: additional environment variables.
        """
        if name not in self.urls:
            self.urls[name] = f"http://127.0.0.1:{ports.any_free()}"
            self.management_urls[name] = f"http://127.0.0.1:{ports.any_free()}"
        url = self.urls[name]
        self._replicas.add(name)
        if not process.alive(name, self.data):
            surroundings = cli.local_stack.process_environment(self.data, self.addresses(), service)
            own = {
                "VICEVERSA_HTTP_PORT": url.rpartition(":")[2],
                "VICEVERSA_MANAGEMENT_PORT": self.management_urls[name].rpartition(":")[2],
                "VICEVERSA_INSTANCE": name,
            }
            process.spawn(
                name,
                [sys.executable, "-m", f"services.{service}"],
                self.data,
                {**surroundings, **self.telemetry, **own, **more},
            )
        wait_until(lambda: self.is_ready(name), f"{name} ready")
        return url

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        if self._mongo is not None:
            self._mongo.close()
        self._admin = None  # it would keep searching for a stopped broker
        for name in [*sorted(self._replicas), *SERVICES, ISSUER, MAIL]:
            process.stop(name, self.data)

    def addresses(self) -> Addresses:
        addresses = installation.read_addresses(self.data)
        assert addresses is not None, "the stack has not been started"
        return addresses

    # -- clients and data -----------------------------------------------------------------------------------------

    def token(self, member_id: str | None = None, *roles: str, programmes: tuple[str, ...] = ()) -> str:
        """A token for a member, a coordinator of ``programmes``, or a person with these roles.

        The default is a member.
        """
        return issue_token(self.data, member_id, roles or ("member",), programmes, issuer=self.urls[ISSUER])

    def api(self, service: str, token: str) -> httpx.Client:
        """A client of one service, for the owner of the token."""
        client = self._clients.get((service, token))
        if client is None:
            client = self._clients[service, token] = httpx.Client(
                base_url=self.urls[service],
                headers={"Authorization": f"Bearer {token}"},
                timeout=_ANSWER_WITHIN_S,
                trust_env=False,
                transport=self._connections,  # shared, since one connection for each person would be hundreds
            )
        return client

    def maildir(self) -> Path:
        """The folder of the mail catcher."""
        return cli.local_stack.maildir(self.data) / "new"

    def database(self, service: str) -> Any:
        """The database of a service, for direct queries."""
        if self._mongo is None:
            self._mongo = MongoClient(self.endpoints.mongo, serverSelectionTimeoutMS=5000)
        return self._mongo[self.prefix.replace(".", "_") + service]

    def mails(self) -> dict[str, bytes]:
        """Every mail that reached the catcher, by the name of its file."""
        return {path.name: path.read_bytes() for path in (cli.local_stack.maildir(self.data) / "new").iterdir()}

    # -- time ------------------------------------------------------------------------------------------------------

    def advance(self, by: timedelta) -> datetime:
        """Advance business time for every process, and return the new time."""
        return self.clock.set_speed(1.0, self.clock.now() + by).business

    def until(self, moment: datetime) -> datetime:
        """Advance business time to this moment."""
        return self.clock.set_speed(1.0, moment).business

    # -- idle -----------------------------------------------------------------------------------------------------

    def settle(self, seconds: float = 20.0) -> None:
        """Wait until no event is in transit: every outbox is empty, and every group has read its topics to the end."""
        wait_until(self._at_rest, "every outbox empty and every topic read", seconds)

    def rest(self, seconds: float = 20.0) -> None:
        """Like ``settle``; in addition, no work is due on either clock, and no mail is being sent."""
        wait_until(lambda: not self._overdue() and self._at_rest() and not self._overdue(), "nothing is due", seconds)

    def _overdue(self) -> bool:
        passed = {"$or": [{"due": {"$lte": self.clock.now()}}, {"lease": {"$lte": self.clock.machine_now()}}]}
        for service in SERVICES:
            database = self.database(service)
            if any(database[name].find_one(passed, {"_id": 1}) for name in database.list_collection_names()):
                return True
        return bool(self.database("notifier")["notifications"].find_one({"state": "sending"}, {"_id": 1}))

    def published(self, service: str, seconds: float = 20.0) -> None:
        """Wait until the outboxes of a service are empty."""
        wait_until(lambda: not self._waiting((service,)), f"every outbox of {service} empty", seconds)

    def _at_rest(self) -> bool:
        if self._waiting():
            return False
        try:
            ends = self._ends()
            if not self._read_to(ends) or self._waiting():
                return False
            return self._ends() == ends  # an event that left an outbox between the two checks has arrived by now
        except (TimeoutError, KafkaException):
            self._admin = None  # a client of a killed broker may never find its successor
            return False

    def _waiting(self, services: Sequence[str] = SERVICES) -> bool:
        for service in services:
            database = self.database(service)
            for name in database.list_collection_names():
                if database[name].find_one({"outbox.0": {"$exists": True}}, {"_id": 1}):
                    return True
        return False

    def admin(self) -> Any:
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.endpoints.kafka, "log_level": 0})
        return self._admin

    def topics(self) -> list[str]:
        """This stack's topics, by their full names."""
        return sorted(name for name in self.admin().list_topics(timeout=10).topics if name.startswith(self.prefix))

    def _ends(self) -> dict[tuple[str, int], int]:
        described = self.admin().list_topics(timeout=10).topics
        partitions = [
            TopicPartition(name, number)
            for name in described
            if name.startswith(self.prefix)
            for number in described[name].partitions
        ]
        offsets = self.admin().list_offsets({partition: OffsetSpec.latest() for partition in partitions})  # type: ignore[no-untyped-call]
        return {
            (partition.topic, partition.partition): future.result(10).offset for partition, future in offsets.items()
        }

    def _read_to(self, ends: Mapping[tuple[str, int], int]) -> bool:
        for service, topics in TOPICS_READ.items():
            group = self.prefix + service
            futures = self.admin().list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
            committed = {
                (partition.topic, partition.partition): max(partition.offset, 0)
                for partition in futures[group].result(10).topic_partitions
            }
            names = {self.prefix + topic for topic in topics}
            if any(end > committed.get(partition, 0) for partition, end in ends.items() if partition[0] in names):
                return False
        return True

    def is_ready(self, name: str) -> bool:
        try:
            url = f"{self.management_urls[name]}/health/ready"
            return httpx.get(url, timeout=3, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    @contextmanager
    def _surroundings(self, more: Mapping[str, str]) -> Iterator[None]:
        """The environment that `viceversa up` would read."""
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("VICEVERSA_")]:
                patch.delenv(name)
            patch.setenv("VICEVERSA_KAFKA", self.endpoints.kafka)
            patch.setenv("VICEVERSA_MONGO", self.endpoints.mongo)
            patch.setenv("VICEVERSA_PROFILES_SOURCES", '{"hr": ["service"]}')
            for name, value in {**self.telemetry, **more}.items():
                patch.setenv(name, value)
            yield


@contextmanager
def running_stack(data: Path, endpoints: Endpoints, prefix: str, otlp: str | None = None) -> Iterator[Stack]:
    """A whole stack on these servers, for the duration of the block; no process outlives it."""
    telemetry = {"VICEVERSA_OTLP_ENDPOINT": otlp, "OTEL_BSP_SCHEDULE_DELAY": "200"} if otlp else {}
    urls = {name: f"http://127.0.0.1:{ports.any_free()}" for name in (ISSUER, *SERVICES)}
    management_urls = {name: f"http://127.0.0.1:{ports.any_free()}" for name in SERVICES}
    mail_port = ports.any_free()
    kafka, mongo = endpoints.kafka, endpoints.mongo
    installation.write_addresses(
        data,
        Addresses(
            kafka=kafka, mongo=mongo, prefix=prefix, urls=urls, management_urls=management_urls, mail_port=mail_port
        ),
    )
    stack = Stack(data, endpoints, prefix, telemetry, Clock(data / "clock.jsonl"), urls, management_urls)
    stack.clock.set_speed(1.0, START)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()
        left = [name for name in process.names(data) if (pid := stack.pid(name)) and psutil.pid_exists(pid)]
        assert not left, f"still running: {left}"


def _silent(_message: str) -> None:
    """Print nothing about started processes."""
