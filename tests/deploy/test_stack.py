"""The local servers, used as the demo and the tests use them. These tests start servers of their own."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import MongoClient

from chassis.core.connection import Connection
from deploy.local import health, ports, process, stack
from tests.patience import patience

T = TypeVar("T")
pytestmark = pytest.mark.usefixtures("no_external_servers")

STARTER = """
import pathlib, sys
from deploy.local import ports, stack
stack.start(pathlib.Path(sys.argv[1]), kafka_port=ports.any_free(), mongo_port=ports.any_free(), report=print)
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stack.stop(tmp_path)


def find_leftovers(data: Path) -> list[psutil.Process]:
    """Running processes with this data folder in their command line."""
    return [
        candidate
        for candidate in psutil.process_iter(["cmdline", "status"])
        if any(str(data) in part for part in candidate.info["cmdline"] or []) and candidate.info["status"] != "zombie"
    ]


def wait_until(condition: Callable[[], object], seconds: float = patience(10)) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)


def read_numbers(uri: str) -> list[object]:
    client: MongoClient[dict[str, object]] = MongoClient(uri)
    with client:
        return [document["_id"] for document in client.house.numbers.find().sort("_id")]


class TestServerStart:
    def test_servers_keep_their_data_over_a_restart(self, data: Path) -> None:
        first = stack.start(data, kafka_port=ports.any_free(), mongo_port=ports.any_free())
        assert set(first.started) == {"kafka", "store"}
        assert [server.trouble for server in stack.status(data)] == [None, None]

        again = stack.start(data)
        assert again.started == ()
        assert again.endpoints == first.endpoints

        with MongoClient[dict[str, object]](first.endpoints.mongo) as client:
            client.house.numbers.insert_many([{"_id": number} for number in range(100)])
        asyncio.run(kafka_admin(first.endpoints.kafka, lambda admin: admin.create_topics([NewTopic("kept", 1, 1)])))

        assert set(stack.stop(data)) == {"kafka", "store"}
        assert find_leftovers(data) == []
        assert stack.stop(data) == []

        moved = stack.start(data, kafka_port=ports.any_free(), mongo_port=ports.any_free())
        assert read_numbers(moved.endpoints.mongo) == list(range(100))
        assert "kept" in asyncio.run(kafka_admin(moved.endpoints.kafka, lambda admin: admin.list_topics()))

    def test_a_killed_store_loses_almost_nothing(self, data: Path) -> None:
        running = stack.start(data, kafka_port=ports.any_free(), mongo_port=ports.any_free())
        store = process.alive("store", data)
        assert store is not None
        with MongoClient[dict[str, object]](running.endpoints.mongo) as client:
            for number in range(300):
                client.house.numbers.insert_one({"_id": number})
            os.kill(store.pid, signal.SIGKILL)
        wait_until(lambda: process.alive("store", data) is None)
        again = stack.start(data, mongo_port=ports.any_free())
        assert again.started == ("store",)
        numbers = read_numbers(again.endpoints.mongo)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > 200

    def test_a_taken_port_is_replaced_and_reported(self, data: Path) -> None:
        reports: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            taken = listener.getsockname()[1]
            running = stack.start(data, kafka_port=taken, mongo_port=taken, report=reports.append)
        assert str(taken) not in running.endpoints.kafka + running.endpoints.mongo
        assert sum(f"Port {taken} is taken" in line for line in reports) == 2

    def test_a_failed_start_leaves_no_process_and_shows_the_log(self, data: Path) -> None:
        broken = {"log.retention.bytes": "no number"}
        with pytest.raises(stack.ServerError, match=r"log\.retention\.bytes"):
            stack.start(data, kafka_port=ports.any_free(), mongo_port=ports.any_free(), kafka_settings=broken)
        assert find_leftovers(data) == []

    @pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("moment", ["run/store.json", "run/kafka.json"])
    def test_an_interrupted_start_leaves_no_process(self, data: Path, signal_sent: signal.Signals, moment: str) -> None:
        starter = subprocess.Popen([sys.executable, "-c", STARTER, str(data)], stderr=subprocess.DEVNULL)
        wait_until((data / moment).exists)
        starter.send_signal(signal_sent)
        assert starter.wait(30) != 0
        assert find_leftovers(data) == []

    def test_servers_of_a_killed_starter_are_used_again(self, data: Path) -> None:
        starter = subprocess.Popen([sys.executable, "-c", STARTER, str(data)])
        wait_until((data / "run/kafka.json").exists)
        starter.kill()
        starter.wait()
        running = stack.start(data)
        assert running.started == ()
        assert len(find_leftovers(data)) == 2


class TestExternalServers:
    def test_they_are_used_and_never_stopped(
        self, data: Path, servers: stack.Endpoints, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VICEVERSA_KAFKA", servers.kafka)
        monkeypatch.setenv("VICEVERSA_MONGO", servers.mongo)
        running = stack.start(data)
        assert running.endpoints == servers
        assert running.started == ()
        assert find_leftovers(data) == []
        assert stack.stop(data) == []
        assert [server.trouble for server in stack.status(data)] == [None, None]

    def test_one_that_does_not_answer_is_named(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stack, "_EXTERNAL_DEADLINE_S", 0.0)
        nowhere = f"127.0.0.1:{ports.any_free()}"
        monkeypatch.setenv("VICEVERSA_KAFKA", nowhere)
        monkeypatch.setenv("VICEVERSA_MONGO", f"mongodb://{nowhere}")
        with pytest.raises(stack.ServerError, match=f"{nowhere}.*VICEVERSA_"):
            stack.start(data)

    async def test_health_checks_work_inside_an_event_loop(self, servers: stack.Endpoints) -> None:
        health.kafka_answers(Connection(servers.kafka))
        health.mongo_answers(servers.mongo)
        with pytest.raises(health.UnhealthyError, match="another Kafka cluster"):
            health.kafka_answers(Connection(servers.kafka), cluster="not-this-one")

    async def test_a_test_has_its_own_prefix_of_fixed_length(self, servers: stack.Endpoints, prefix: str) -> None:
        assert len(prefix) == 10
        assert prefix.endswith(".")
        await kafka_admin(servers.kafka, lambda admin: admin.create_topics([NewTopic(f"{prefix}made", 1, 1)]))
        assert f"{prefix}made" in await kafka_admin(servers.kafka, lambda admin: admin.list_topics())


async def kafka_admin(bootstrap: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await ask(admin)
    finally:
        await admin.close()
