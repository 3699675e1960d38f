"""`kill -9` in the middle of the work, and a restart: everything ends as if nothing had happened."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil
import pytest

from deploy.local import ports, process
from deploy.local.stack import Running as RunningServers
from deploy.local.stack import start as start_servers
from tests.journey.conditions import wait_until
from tests.journey.people import (
    Json,
    Members,
    a_programme,
    begin_import,
    cohort,
    csv_of,
    ids_of,
    imported,
    ok,
    open_programme,
    partners,
)
from tests.journey.stack import Stack
from tests.journey.subscriber import OtherSystem
from tests.patience import patience

MANY = 1000
PAIRS = 24
CROWD = cohort("killimport", MANY // 2, MANY // 2)
KEY = "the-file-that-is-cut-off"
LEASES_S = 150.0
"""How long what a dead process had claimed may stay claimed (60 s an import, 30 s the rest), and the work after it."""

OPEN_OF_PAIRINGS = ("pairings.v1", "pairing-states.v1")
OF_PAIRINGS = (*OPEN_OF_PAIRINGS, "answers.v1")


@pytest.fixture(scope="module")
def witness(stack: Stack) -> Iterator[OtherSystem]:
    """A subscriber to all events about pairings, including the answers, which other systems may not read."""
    with OtherSystem(stack.endpoints.kafka, stack.prefix, (*OF_PAIRINGS, "rounds.v1")) as watching:
        yield watching


@pytest.fixture(scope="module")
def members(stack: Stack) -> Members:
    return a_programme(stack, "kill", cohort("kill", PAIRS, PAIRS))


@pytest.fixture(scope="module")
def import_id(members: Members) -> str:
    """The id of an import during which profiles was killed.

    Claims of a dead process become free only after some time. The store is watched, because a service that imports on a
    busy machine may respond only at the end.
    """
    stack = members.stack
    open_programme(stack, "kill-import")
    stack.settle()
    begun_id = begin_import(stack, csv_of(CROWD, "kill-import"), key=KEY)
    wait_until(lambda: of_the_crowd(stack, "profiles", "persons"), "some rows are imported")
    kill_and_restart(stack, "profiles")
    return begun_id


@pytest.fixture(scope="module")
def round_id(members: Members, import_id: str) -> str:
    """The id of a round during whose computation the matcher was killed."""
    started = ok(members.coordinator().post("/programmes/kill/rounds", json={}))
    assert started["state"] == "computing"
    kill_and_restart(members.stack, "matcher")
    return str(started["round_id"])


@pytest.fixture(scope="module")
def proposed(members: Members, round_id: str) -> list[Json]:
    """The proposals of a round whose computation and publication were both interrupted."""
    computed = members.round_when(round_id, "computed", LEASES_S)
    assert computed["pairs"] == PAIRS
    ok(members.coordinator().post(f"/rounds/{round_id}/publish"))
    kill_and_restart(members.stack, "matcher")
    published = members.round_when(round_id, "published", LEASES_S)
    assert (published["proposed"], published["withdrawn"]) == (PAIRS, 0)
    return members.pairings(state="proposed")


def of_the_crowd(stack: Stack, service: str, collection: str) -> int:
    return int(stack.database(service)[collection].count_documents({"enrolments.programme_id": "kill-import"}))


class TestKill:
    def test_a_round_killed_twice_proposes_each_pair_once(
        self, members: Members, proposed: list[Json], witness: OtherSystem
    ) -> None:
        members.stack.published("matcher", LEASES_S)
        witness.caught_up()
        assert len(proposed) == PAIRS
        assert len({member for pairing in proposed for member in partners(pairing)}) == 2 * PAIRS
        for pairing in proposed:
            assert [event.type for event in witness.history(pairing["pairing_id"])] == ["mentoring.pairing.proposed.v1"]
        assert Counter(
            event.type for event in witness.distinct("rounds.v1") if event.subject == proposed[0]["round_id"]
        ) == {
            "mentoring.round.computed.v1": 1,
            "mentoring.round.published.v1": 1,
        }

    def test_a_killed_import_creates_everybody_once(self, stack: Stack, import_id: str, round_id: str) -> None:
        assert begin_import(stack, csv_of(CROWD, "kill-import"), key=KEY) == import_id
        done = imported(stack, import_id, LEASES_S)
        assert (done["rows"], done["created"], done["failed"]) == (MANY, MANY, 0)
        ids = ids_of(stack, "kill-import")
        assert len(set(ids.values())) == MANY
        assert set(ids) == {somebody.external_id for somebody in CROWD}
        wait_until(
            lambda: of_the_crowd(stack, "matcher", "members") >= MANY, "all members known to the matcher", LEASES_S
        )
        assert of_the_crowd(stack, "matcher", "members") == MANY

    def test_answers_under_kills_form_each_pairing_once(
        self, members: Members, proposed: list[Json], witness: OtherSystem
    ) -> None:
        """Every service is killed in turn."""
        with answering(members, proposed[: PAIRS // 2]):
            for name in ("matcher", "feedback", "notifier", "profiles", "matcher"):
                kill_and_restart(members.stack, name)
        everything_is_as_without_a_kill(members, proposed[: PAIRS // 2], witness)

    def test_answers_without_kafka_are_published_on_its_return(
        self, members: Members, proposed: list[Json], witness: OtherSystem, running_servers: RunningServers
    ) -> None:
        if "kafka" not in running_servers.started:
            pytest.skip("Kafka was not started by this test, so it must not be killed")
        with answering(members, proposed[PAIRS // 2 :]) as answers:
            wait_until(lambda: any(answer.done() for answer in answers), "the first answers")
            kill(running_servers.data, "kafka")
            wait_until(lambda: all(answer.done() for answer in answers), "all answers, without Kafka")
            port = int(members.stack.endpoints.kafka.rpartition(":")[2])
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv("VICEVERSA_KAFKA", raising=False)
                patch.delenv("VICEVERSA_MONGO", raising=False)
                assert start_servers(running_servers.data, kafka_port=port).endpoints == members.stack.endpoints
        everything_is_as_without_a_kill(members, proposed[PAIRS // 2 :], witness)

    def test_every_projection_equals_its_source_afterwards(
        self, members: Members, proposed: list[Json], witness: OtherSystem
    ) -> None:
        stack = members.stack
        stack.settle(LEASES_S)
        persons = states(stack, "profiles", "persons", {"enrolments.programme_id": "kill"})
        assert set(persons) == set(members.ids.values())
        assert set(document_ids(stack, "matcher", "members")) >= set(persons)
        assert set(document_ids(stack, "notifier", "contacts")) >= set(persons)
        pairings = states(stack, "matcher", "pairings", {"plan.programme_id": "kill"})
        for service in ("feedback", "profiles"):
            projected = states(stack, service, "pairings", {"programme_id": "kill"})
            assert {id: state["state"] for id, state in projected.items()} == {
                id: state["state"] for id, state in pairings.items()
            }
        assert {id: state["state"] for id, state in witness.states().items() if id in pairings} == {
            id: state["state"] for id, state in pairings.items()
        }


class TestStart:
    def test_a_lone_service_names_what_it_waits_for(self, tmp_path: Path) -> None:
        """The service also stops on request."""
        with a_lonely_matcher(tmp_path, port=ports.any_free()) as (lonely, log):
            wait_until(
                lambda: log.read_text().count("waiting for mongodb") >= 2, "it says what it waits for, and tries again"
            )
            lonely.send_signal(signal.SIGTERM)
            assert lonely.wait(patience(8)) == 0
        assert "stopped" in log.read_text()
        assert "Traceback" not in log.read_text()

    def test_a_taken_port_ends_the_service_with_a_clear_error(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with a_lonely_matcher(tmp_path, port=port) as (lonely, log):
                assert lonely.wait(60) == 2
        said = log.read_text()
        assert "matcher cannot start" in said
        assert str(port) in said
        assert "Traceback" not in said


@contextmanager
def a_lonely_matcher(folder: Path, port: int) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Run `python -m services.matcher` without Kafka and without a store."""
    log = folder / "matcher.log"
    nowhere = {
        "VICEVERSA_KAFKA": f"127.0.0.1:{ports.any_free()}",
        "VICEVERSA_MONGO": f"mongodb://127.0.0.1:{ports.any_free()}",
        "VICEVERSA_HTTP_PORT": str(port),
        "VICEVERSA_MANAGEMENT_PORT": str(ports.any_free()),
    }
    with log.open("wb") as out:
        lonely = subprocess.Popen(
            [sys.executable, "-m", "services.matcher"], env=os.environ | nowhere, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield lonely, log
    finally:
        lonely.kill()
        lonely.wait(10)


def kill(data: Path, name: str) -> None:
    running = process.alive(name, data)
    assert running is not None, f"{name} does not run"
    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: not running.running, f"{name} gone", 10)


def kill_and_restart(stack: Stack, name: str) -> None:
    """Kill and restart the services. No child process may remain."""
    pid = stack.pid(name)
    assert pid is not None
    children = psutil.Process(pid).children(recursive=True)
    stack.kill(name)
    _, left = psutil.wait_procs(children, timeout=patience(5))
    assert not left, f"{name} left {left} behind"
    stack.release_claims(name)
    stack.restart(name)


@contextmanager
def answering(members: Members, pairings: list[Json]) -> Iterator[list["Future[None]"]]:
    """All these members accept during the block, and repeat each request until it succeeds.

    The block ends when all have accepted.
    """
    people = [(member, pairing["pairing_id"]) for pairing in pairings for member in partners(pairing)]
    Random(7).shuffle(people)
    gate = threading.Semaphore(1)

    def insist(member: str, pairing_id: str) -> None:
        def said() -> bool:
            try:
                with gate:  # one by one, so that answers are still open when the next service dies
                    answer = members.matcher(member).post(
                        f"/pairings/{pairing_id}/answer",
                        json={"answer": "accepted"},
                        headers={"Idempotency-Key": f"yes-{member}"},
                    )
            except httpx.TransportError:
                return False
            assert answer.is_success or answer.status_code == 503, answer.text
            return answer.is_success

        wait_until(said, f"the answer of {member}", LEASES_S)

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(insist, *pairing) for pairing in people]
        yield answers
        for answer in answers:
            answer.result(LEASES_S)


def everything_is_as_without_a_kill(members: Members, pairings: list[Json], witness: OtherSystem) -> None:
    members.stack.settle(LEASES_S)
    witness.caught_up(LEASES_S)
    sequences = {topic: witness.sequences(topic) for topic in OPEN_OF_PAIRINGS}
    for pairing in pairings:
        id = pairing["pairing_id"]
        assert members.pairing(id)["state"] == witness.states()[id]["state"] == "formed"
        life = witness.history(id)
        assert [event.type for event in life] == ["mentoring.pairing.proposed.v1", "mentoring.pairing.formed.v1"]
        answers = [event for event in witness.distinct("answers.v1") if event.subject == id]
        assert Counter(event.data["side"] for event in answers if event.data) == {"senior": 1, "junior": 1}
        seen = {number for topic in OPEN_OF_PAIRINGS for number in sequences[topic]["/viceversa/matcher", id]}
        stored = members.stack.database("matcher")["pairings"].find_one({"_id": id})
        superseded = {event.record.sequence + 1 for event in life[:-1]}  # a newer state may have replaced this state
        assert set(range(1, stored["open_sequence"] + 1)) - seen <= superseded, "an event was lost"
        assert max(seen) == stored["open_sequence"]
    held = Counter(
        seat["pairing_id"] for each in pairings for member in partners(each) for seat in members.ledger(member)["held"]
    )
    assert held == {each["pairing_id"]: 2 for each in pairings}


def states(stack: Stack, service: str, collection: str, of: Mapping[str, Any]) -> dict[str, Json]:
    return {document["_id"]: document for document in stack.database(service)[collection].find(dict(of))}


def document_ids(stack: Stack, service: str, collection: str) -> list[str]:
    return [document["_id"] for document in stack.database(service)[collection].find({}, {"_id": 1})]
