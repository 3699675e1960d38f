"""Unprocessable records on every topic: they are dead-lettered or skipped, and their neighbours are processed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx
import pytest
from typer.testing import CliRunner

from chassis.core.clocks import Clock
from chassis.core.connection import Connection
from chassis.core.ids import new_id
from chassis.messaging.dead_letters import DeadLetter, DeadLetters, list_dead_letters
from chassis.messaging.kafka import Producer, read_record
from chassis.messaging.subscriptions import HandlerRegistry
from cli.main import app
from contracts.catalogue import EVENTS, SERVICES, TOPICS
from contracts.envelope import EventData, Topic
from contracts.examples import examples
from contracts.pairings import PairingState
from contracts.profiles import PROFILES, ContactChanged, ProfileChanged
from contracts.programmes import ProgrammeChanged
from services.feedback.handlers import registry as feedback
from services.matcher.handlers import registry as matcher
from services.notifier.handlers import registry as notifier
from services.profiles.handlers import registry as profiles
from tests.journey.conditions import wait_until
from tests.journey.people import JourneyPerson, begin_import, csv_of, imported, ok
from tests.journey.stack import Stack
from tests.journey.wire_capture import LARGE, Hand, Headers, configured, figures, headers, read

HEARING: Mapping[str, HandlerRegistry] = {  # type: ignore[type-arg]
    "profiles": profiles,
    "matcher": matcher,
    "notifier": notifier,
    "feedback": feedback,
}
SECRET = "Kasimira Heldenreich"


def heard_types() -> list[type[EventData]]:
    """One type of each topic that a service reads."""
    chosen: dict[str, type[EventData]] = {}
    for event in EVENTS:
        if any(hearing.find_type(event.TYPE) for hearing in HEARING.values()):
            chosen.setdefault(event.TOPIC.name, event)
    return list(chosen.values())


def those_who_hear(topic: Topic) -> list[str]:
    return [name for name in SERVICES if topic in HEARING[name].topics()]


@pytest.fixture(scope="module")
def stack(second_stack: Stack) -> Stack:
    return second_stack


@pytest.fixture(scope="module")
def hand(stack: Stack) -> Hand:
    return Hand(stack)


@dataclass
class Teller:
    """Writes good records of one type with bad ones between them, and remembers the positions of the bad ones."""

    hand: Hand
    type: type[EventData]
    good: int = 0
    bad: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        return self.type.topics()[0].name

    def tell(self, key: str | None = None) -> str:
        """Write a good record about an object that no other record names."""
        id = key or new_id()
        event = examples()[self.type].model_copy(update={self.type.KEY: id})
        self.hand.put(self.topic, id, event.model_dump_json().encode(), headers(self.type, id))
        self.good += 1
        return id

    def poison(self, kind: str, value: bytes | None, headers: Headers) -> None:
        """Write a bad record in the middle of good ones."""
        before = self.tell()
        self.bad[self.hand.put(self.topic, before, value, headers)] = kind
        self.tell(before)


def put_aside(stack: Stack, service: str, topic: str) -> dict[tuple[int, int], DeadLetter]:
    """A service's dead letters of one topic, by the position of the original record."""
    dead_letters = asyncio.run(list_dead_letters(Connection(stack.endpoints.kafka), stack.prefix, service))
    return {
        (dead_letter.partition, dead_letter.offset): dead_letter
        for dead_letter in dead_letters
        if dead_letter.topic == topic
    }


def alive(stack: Stack) -> Sequence[int]:
    return [httpx.get(f"{stack.management_urls[name]}/health/live", trust_env=False).status_code for name in SERVICES]


def _expected(bad: Mapping[tuple[int, int], str], *, knows: bool) -> dict[tuple[int, int], str]:
    """The expected code of each dead letter; of a foreign type, services read only the headers."""
    codes = {"too much": "bad_data"}
    seen = {position: codes.get(kind, kind) for position, kind in bad.items() if kind not in ("unknown", "foreign")}
    if knows:
        return seen
    return {position: code for position, code in seen.items() if code in ("header_not_utf8", "bad_envelope")}


async def _put_aside_by_an_old_release(stack: Stack, partition: int, offset: int) -> None:
    reach = Connection(stack.endpoints.kafka)
    record = await read_record(reach, stack.prefix, PROFILES.name, partition, offset)
    assert record is not None
    producer = Producer(reach)
    await producer.start()
    try:
        await DeadLetters(producer, reach, "matcher", stack.prefix, TOPICS, Clock()).send(record, "bug", "once")
    finally:
        await producer.stop()


def viceversa(*command: str) -> str:
    result = CliRunner().invoke(app, ["dead-letters", *command])
    assert result.exit_code == 0, result.output
    return result.output


class TestPoison:
    @pytest.mark.parametrize("type", heard_types(), ids=lambda type: type.TYPE)
    def test_records_beside_a_poison_record_are_processed(
        self, type: type[EventData], stack: Stack, hand: Hand
    ) -> None:
        topic, teller = type.topics()[0], Teller(hand, type)
        who = those_who_hear(topic)
        before = {name: figures(stack, name, "viceversa_events_handled") for name in who}
        skipped = {name: figures(stack, name, "viceversa_events_skipped") for name in who}
        good = examples()[type].model_dump_json().encode()
        id = new_id()
        usual = headers(type, id)
        broken = [(name, b"\xff\xfe" if name == "ce_subject" else value) for name, value in usual]
        named = [(name, SECRET.encode() if name == "ce_id" else value) for name, value in headers(type, id)]
        with configured(stack, topic, max_message_bytes=str(LARGE)):
            teller.poison("not_json", b'{"name": "%s", ' % SECRET.encode(), usual)
            teller.poison("bad_data", b'{"name": "%s"}' % SECRET.encode(), named)
            teller.poison("header_not_utf8", good, broken)
            teller.poison("foreign", good, [])
            teller.poison("foreign", good, [(n, b"/viceversa/portal" if n == "ce_source" else v) for n, v in usual])
            teller.poison("bad_envelope", good, [(n, v) for n, v in usual if n != "ce_sequence"])
            teller.poison(
                "too much", b'{"name": "%s"}' % (SECRET * (LARGE // 2 // len(SECRET))).encode(), headers(type, id)
            )
            teller.poison("unknown", good, headers(type, id, named="mentoring.something.new.v7"))
            if topic.cleanup != "compact":
                teller.poison("unexpected_tombstone", None, headers(type, id))
            stack.settle()
        assert alive(stack) == [200] * len(SERVICES)
        for name in who:
            knows = HEARING[name].find_type(type.TYPE) is not None
            aside = {
                position: dead_letter
                for position, dead_letter in put_aside(stack, name, topic.name).items()
                if position in teller.bad
            }
            assert {position: dead_letter.code for position, dead_letter in aside.items()} == _expected(
                teller.bad, knows=knows
            )
            assert all(
                dead_letter.restricted == (topic.restricted or teller.bad[position] == "too much")
                for position, dead_letter in aside.items()
            )
            if knows and not topic.holds_private_acts:  # those figures are held back
                handled = figures(stack, name, "viceversa_events_handled")
                key = topic.name, type.TYPE
                assert (
                    handled[key] - before[name].get(key, 0) >= teller.good
                )  # more than one if a batch was delivered again
                passed_over = figures(stack, name, "viceversa_events_skipped")
                assert passed_over[topic.name, ""] > skipped[name].get((topic.name, ""), 0)
            assert SECRET not in stack.log(name)
            for record in read(stack, f"dead-letters.{name}"):
                if record.header("dl-topic") == topic.name.encode() and topic.restricted:
                    assert SECRET.encode() not in record.everything()
                    assert (record.key, record.value) == (None, b"")

    @pytest.mark.parametrize(
        ("type", "service", "collection"),
        [
            (ProfileChanged, "matcher", "members"),
            (ContactChanged, "notifier", "contacts"),
            (ProgrammeChanged, "feedback", "programmes"),
            (PairingState, "feedback", "pairings"),
            (PairingState, "profiles", "pairings"),
        ],
        ids=lambda value: getattr(value, "TYPE", value),
    )
    def test_a_tombstone_erases_and_nothing_older_comes_back(
        self, type: type[EventData], service: str, collection: str, stack: Stack, hand: Hand
    ) -> None:
        rows = stack.database(service)[collection]
        id, old = new_id(), headers(type, "")
        gone = Teller(hand, type).tell()
        Teller(hand, type).tell(id)
        wait_until(lambda: rows.find_one({"_id": id, "grave": False}), "the neighbour stored")
        hand.put(type.TOPIC.name, gone, None, headers(type, gone))
        wait_until(lambda: rows.find_one({"_id": gone, "grave": True}), "a grave")
        event = examples()[type].model_copy(update={type.KEY: gone})
        late = [(name, gone.encode() if name in ("ce_subject", "ce_correlationid") else value) for name, value in old]
        hand.put(type.TOPIC.name, gone, event.model_dump_json().encode(), late)
        stack.settle()
        assert set(rows.find_one({"_id": gone})) == {"_id", "sequence", "grave"}
        assert rows.find_one({"_id": id, "grave": False})

    def test_dead_letters_are_listed_shown_and_replayed(self, stack: Stack, hand: Hand) -> None:
        """The dead letter holds a good record that an older release could not process."""
        member = new_id()
        event = examples()[ProfileChanged].model_copy(update={"member_id": member})
        partition, offset = hand.put(
            PROFILES.name, member, event.model_dump_json().encode(), headers(ProfileChanged, member)
        )
        stack.settle()
        asyncio.run(_put_aside_by_an_old_release(stack, partition, offset))
        stack.database("matcher")["members"].delete_one({"_id": member})
        handled = {name: figures(stack, name, "viceversa_events_handled") for name in SERVICES}
        [position] = [
            dead_letter.position
            for at, dead_letter in put_aside(stack, "matcher", PROFILES.name).items()
            if at == (partition, offset)
        ]
        data = ["--data", str(stack.data)]
        listed = viceversa("list", "matcher", "--json", *data)
        assert f'"{position}"' in listed
        shown = viceversa("show", "matcher", position, "--json", *data)
        assert '"code": "bug"' in shown
        assert member not in shown
        viceversa("replay", "matcher", position, *data)
        wait_until(lambda: stack.database("matcher")["members"].find_one({"_id": member}), "the member stored again")
        stack.settle()
        for name in SERVICES:
            now = figures(stack, name, "viceversa_events_handled")
            again = [count - handled[name].get(key, 0) for key, count in now.items() if key[1] == ProfileChanged.TYPE]
            assert bool(sum(again)) == (name == "matcher"), name

    def test_a_foreign_record_is_never_the_last_of_a_key(self, stack: Stack, hand: Hand) -> None:
        """Compaction would keep it and drop the profile. A new reader would then never see the member."""
        imported(stack, begin_import(stack, csv_of([JourneyPerson("POISON-1", "senior", "Poison One")])))
        admin = stack.api("profiles", stack.token(None, "admin"))
        [person] = ok(admin.get("/members", params={"external_id": "POISON-1"}))["items"]
        member = person["member_id"]
        stack.settle()
        hand.put(PROFILES.name, member, b"{not json", [("from", b"somewhere else")])

        def last() -> bool:
            said = [record for record in read(stack, PROFILES.name) if record.key == member.encode()]
            assert len({record.partition for record in said}) == 1
            return said[-1].header("ce_type") == ProfileChanged.TYPE.encode() and len(said) > 2

        wait_until(last, "the profile published again")

    def test_a_row_that_a_forged_sequence_froze_is_unfrozen(self, stack: Stack, hand: Hand) -> None:
        """Somebody writes in the name of the owner; an operator lets the matcher take the right record again."""
        person = JourneyPerson("POISON-2", "senior", "Poison Two", department="finance")
        imported(stack, begin_import(stack, csv_of([person])))
        admin = stack.api("profiles", stack.token(None, "admin"))
        [view] = ok(admin.get("/members", params={"external_id": "POISON-2"}))["items"]
        member, rows = view["member_id"], stack.database("matcher")["members"]
        stack.settle()
        forged = examples()[ProfileChanged].model_copy(update={"member_id": member, "department_id": "forged"})
        hand.put(PROFILES.name, member, forged.model_dump_json().encode(), headers(ProfileChanged, member))

        def department() -> str:
            return str(rows.find_one({"_id": member})["department_id"])

        wait_until(lambda: department() == "forged", "the forged record taken")
        imported(stack, begin_import(stack, csv_of([replace(person, department="sales")])))
        stack.settle()
        assert department() == "forged", "the row is frozen"
        command = ["unfreeze", "matcher", PROFILES.name, member, "--data", str(stack.data)]
        assert CliRunner().invoke(app, command).exit_code == 0
        wait_until(lambda: department() == "sales", "the newest record taken")
        imported(stack, begin_import(stack, csv_of([replace(person, department="research")])))
        wait_until(lambda: department() == "research", "later records taken")
