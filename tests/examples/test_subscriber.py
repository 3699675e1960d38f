"""The example for other systems runs on a real broker, and the README shows exactly its text."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from os import environ
from pathlib import Path
from queue import Queue
from signal import SIGINT
from threading import Thread

import pytest

from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer
from chassis.messaging.provisioning import provision_topics
from contracts.envelope import Envelope, source_of
from contracts.examples import examples
from contracts.pairings import PAIRING_STATES, PairingState, PairingStateName
from deploy.local import ports
from deploy.local.stack import Endpoints

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "subscriber.py"
WITHIN_S = 30.0


class ExampleProcess:
    """Runs the example as a process and reads its output line by line."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLE)],
            env={**environ, "VICEVERSA_KAFKA": servers, "VICEVERSA_TOPIC_PREFIX": prefix},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: Queue[str] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip())

    def next_line(self) -> str:
        return self._lines.get(timeout=WITHIN_S)

    def stop(self) -> None:
        """Stop it like a person, with Ctrl-C."""
        self.process.send_signal(SIGINT)
        assert self.process.wait(WITHIN_S) == 0
        self._reader.join(WITHIN_S)


@pytest.fixture
async def producer(servers: Endpoints, prefix: str) -> AsyncIterator[Producer]:
    connection = Connection(servers.kafka)
    await provision_topics(connection, [PAIRING_STATES], prefix, replication=1, min_in_sync=1)
    producer = Producer(connection)
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
def running(servers: Endpoints, prefix: str, producer: Producer) -> Iterator[ExampleProcess]:
    example = ExampleProcess(f"127.0.0.1:{ports.any_free()}, {servers.kafka}", prefix)  # the first one is down
    yield example
    example.stop()


def example_pairing() -> PairingState:
    example = examples()[PairingState]
    assert isinstance(example, PairingState)
    return example


async def send(
    producer: Producer, prefix: str, pairing: PairingState, number: int, state: PairingStateName | None
) -> None:
    """``state`` None is a tombstone."""
    envelope = Envelope(
        id=f"event-{number}",
        type=PairingState.TYPE,
        source=source_of("matcher"),
        subject=pairing.subject(),
        time=datetime.now(UTC),
        sequence=number,
        correlationid=pairing.correlation(),
    )
    value = None if state is None else pairing.model_copy(update={"state": state}).model_dump_json().encode()
    await producer.deliver(
        PAIRING_STATES.full_name(prefix), key=pairing.key().encode(), value=value, headers=envelope.headers()
    )


class TestExampleSubscriber:
    async def test_it_rebuilds_the_current_pairs(
        self, prefix: str, producer: Producer, running: ExampleProcess
    ) -> None:
        pairing = example_pairing()
        members = [person.member_id for person in pairing.participants]
        together = f"1 pairs now. {pairing.pairing_id}: {members}"
        apart = f"0 pairs now. {pairing.pairing_id}: not together"

        cases: list[tuple[PairingStateName | None, str]] = [
            ("proposed", apart),
            ("formed", together),
            ("chartered", together),
            ("paused", together),
            ("ended", apart),
            ("formed", together),
            (None, apart),
        ]
        for number, (state, expected) in enumerate(cases):
            await send(producer, prefix, pairing, number, state)
            assert running.next_line() == expected

    def test_the_readme_shows_the_exact_text(self) -> None:
        shown = (ROOT / "README.md").read_text(encoding="utf-8")
        assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```\n" in shown
