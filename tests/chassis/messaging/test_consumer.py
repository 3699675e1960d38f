"""Every record takes effect, in order of its key, or becomes a dead letter. Nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import Producer as OtherProducer

from chassis.core.connection import Connection
from chassis.messaging import consumer as consumer_module
from chassis.messaging import dead_letters
from chassis.messaging.consumer import PermanentFailure
from chassis.storage.mongo import ConnectionFailure
from contracts.envelope import EventData
from deploy.local import ports
from tests.chassis.fake_consumer import FakeConsumer, run_fake_consumer
from tests.chassis.harness import (
    COUNTERS,
    COUNTS,
    SERVICE,
    ChassisHarness,
    Counted,
    CounterChanged,
    build_envelope,
    eventually,
)


async def publish_event(harness: ChassisHarness, fake: FakeConsumer, event: EventData, sequence: int, id: str) -> None:
    headers = build_envelope(type(event), event.key(), sequence, id).headers()
    await fake.producer.deliver(
        type(event).TOPIC.full_name(harness.prefix),
        key=event.key().encode(),
        value=event.model_dump_json().encode(),
        headers=headers,
    )


async def publish_count(harness: ChassisHarness, fake: FakeConsumer, key: str, n: int) -> None:
    await publish_event(harness, fake, Counted(counter_id=key, by=n, value=n), n, f"{key}-{n}")


def fail_for(error: Exception, *ids: str, times: int = 10_000) -> Callable[[str], Awaitable[None]]:
    remaining = dict.fromkeys(ids, times)

    async def fail(id: str) -> None:
        if remaining.get(id, 0) > 0:
            remaining[id] -= 1
            raise error

    return fail


async def dead_letter_codes(harness: ChassisHarness) -> list[str]:
    return sorted(
        dead_letter.code
        for dead_letter in await dead_letters.list_dead_letters(harness.connection, harness.prefix, SERVICE)
    )


async def publish_poison(harness: ChassisHarness, fake: FakeConsumer) -> list[str]:
    """Publish one record of each kind that cannot be processed; returns the codes of the expected dead letters."""
    counts, counters = harness.prefix + COUNTS.name, harness.prefix + COUNTERS.name
    good = b'{"counter_id":"p","by":1,"value":1}'
    headers = build_envelope(Counted, "p", 1, "poison").headers()
    await fake.producer.deliver(counts, key=b"p", value=b"{not json", headers=headers)
    await fake.producer.deliver(counts, key=b"p", value=b"\xff\xfe", headers=headers)
    await fake.producer.deliver(counts, key=b"p", value=b'{"counter_id":"p","by":"Maria"}', headers=headers)
    bad = [(name, b"\xff\xfe" if name == "ce_id" else value) for name, value in headers]
    await fake.producer.deliver(counts, key=b"p", value=good, headers=bad)
    await fake.producer.deliver(counts, key=b"p", value=None, headers=headers)
    await fake.producer.deliver(counts, key=b"p", value=good, headers=[("ce_source", b"/viceversa/toys")])
    await fake.producer.deliver(counts, key=None, value=good, headers=[h for h in headers if h[0] != "ce_sequence"])
    await fake.producer.deliver(counters, key=b"p", value=good, headers=headers)
    return sorted(
        [
            "not_json",
            "not_json",
            "bad_data",
            "header_not_utf8",
            "unexpected_tombstone",
            "bad_envelope",
            "bad_envelope",
            "wrong_topic",
        ]
    )


class TestConsumerOrder:
    async def test_one_key_stays_in_order_and_keys_run_concurrently(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness, started=False) as producing:
            for n in range(1, 21):
                for key in "abcde":
                    await publish_count(harness, producing, key, n)
        async with run_fake_consumer(harness) as fake:
            both = asyncio.Event()

            async def wait_for_another_key(id: str) -> None:
                if fake.service.active > 1:
                    both.set()
                await asyncio.wait_for(both.wait(), 10)  # the first handler waits until another key is handled too

            fake.service.before_handling = wait_for_another_key
            await eventually(lambda: len(fake.service.handled) == 100, "all hundred events are handled")
            for key in "abcde":
                assert [n for k, n in fake.service.handled if k == key] == list(range(1, 21))
            assert fake.service.max_active > 1


class TestBootstrapServers:
    async def test_consumer_starts_while_one_of_them_is_down(self, harness: ChassisHarness) -> None:
        down = f"127.0.0.1:{ports.any_free()}"
        harness.connection = Connection(f"{down}, {harness.connection.servers}")
        async with run_fake_consumer(harness) as fake:
            await publish_count(harness, fake, "a", 1)
            await eventually(lambda: fake.service.handled == [("a", 1)], "the event is handled")


class TestConsumerRetry:
    async def test_transient_failure_is_retried_without_loss(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            fake.service.before_handling = fail_for(ConnectionFailure("away"), "a-2", times=3)
            for n in range(1, 6):
                await publish_count(harness, fake, "a", n)
            await eventually(lambda: len(fake.service.handled) >= 5, "all five events are handled")
            assert list(dict.fromkeys(n for _, n in fake.service.handled)) == [1, 2, 3, 4, 5]
            assert await dead_letter_codes(harness) == []

    async def test_batch_is_rewound_when_the_retry_budget_is_spent(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness, retry_budget_s=0.1) as fake:
            fake.service.before_handling = fail_for(ConnectionFailure("away"), "b-2", times=6)
            for n in range(1, 6):
                for key in "abc":
                    await publish_count(harness, fake, key, n)
            await eventually(lambda: len(set(fake.service.event_ids)) == 15, "all fifteen events are handled")
            assert list(dict.fromkeys(n for k, n in fake.service.handled if k == "b")) == [1, 2, 3, 4, 5]
            assert await dead_letter_codes(harness) == []

    async def test_all_retries_of_a_batch_share_one_deadline(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness, started=False, retry_budget_s=0.5) as fake:
            for n in range(1, 9):
                await publish_count(harness, fake, "a", n)
            attempts: list[str] = []

            async def handle_slowly(id: str) -> None:  # each would succeed within a retry budget of its own
                attempts.append(id)
                if attempts.count(id) < 3:
                    raise ConnectionFailure("away")
                await asyncio.sleep(0.2)

            fake.service.before_handling = handle_slowly
            with pytest.raises(ConnectionFailure):
                await fake.consumer.process(await harness.read_records(COUNTS))
            assert len(fake.service.event_ids) < 8


class TestMembership:
    @staticmethod
    def is_member(fake: FakeConsumer) -> bool:
        checks = fake.health.check_readiness().checks
        return all(check.ok for check in checks if check.name == "consumer")

    async def test_of_two_replicas_with_one_name_one_is_not_ready(
        self, harness: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They throw each other out of the group. Kafka's client says nothing of it."""
        monkeypatch.setattr(consumer_module, "MAX_REJOINS", 3)
        async with (
            run_fake_consumer(harness, instance="one") as first,
            run_fake_consumer(harness, instance="one") as other,
        ):

            async def has_an_outcast() -> bool:
                for fake in (first, other):
                    await fake.consumer.report_lag()
                return not (self.is_member(first) and self.is_member(other))

            await eventually(has_an_outcast, "one of them has no place in the group")

    async def test_replicas_without_a_name_share_the_partitions(self, harness: ChassisHarness) -> None:
        async with (
            run_fake_consumer(harness, instance=None) as first,
            run_fake_consumer(harness, instance=None) as other,
        ):

            async def both_are_members() -> bool:
                for fake in (first, other):
                    await fake.consumer.report_lag()
                return self.is_member(first) and self.is_member(other)

            await eventually(both_are_members, "both have partitions")


class TestConsumerCrash:
    async def test_before_commit_leaves_the_record_to_the_successor(
        self,
        harness: ChassisHarness,
    ) -> None:
        async with run_fake_consumer(harness, instance="one") as first:
            reached, released = asyncio.Event(), asyncio.Event()

            async def hang(id: str) -> None:
                if id == "a-2":
                    reached.set()
                    await released.wait()

            await publish_count(harness, first, "a", 1)
            await eventually(lambda: first.service.event_ids == ["a-1"], "the first event is handled")
            first.service.before_handling = hang
            await publish_count(harness, first, "b", 1)
            await publish_count(harness, first, "a", 2)
            await asyncio.wait_for(reached.wait(), 20)
            async with run_fake_consumer(
                harness, instance="one"
            ) as successor:  # the same group member, as after a restart
                await eventually(
                    lambda: "a-2" in successor.service.event_ids, "the successor handles the uncommitted record"
                )
            released.set()

    async def test_between_projection_and_reaction_keeps_the_reaction(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness, started=False) as first:
            await publish_event(harness, first, CounterChanged(counter_id="a", value=7), 5, "changed")
            [record] = await harness.read_records(COUNTERS)

            class SimulatedCrash(BaseException):
                pass

            async def die(_: str) -> None:
                raise SimulatedCrash

            first.service.before_handling = die
            with pytest.raises(BaseExceptionGroup):
                await first.consumer.process([record])
            stored = await first.service.copies.get("a")
            assert stored is not None
            assert stored.value == 7
            assert first.service.event_ids == []
        async with run_fake_consumer(harness) as successor:
            await eventually(
                lambda: successor.service.event_ids == ["changed"], "the reaction runs for the redelivered event"
            )


class TestConsumerCommit:
    async def test_batch_commits_only_the_partitions_of_its_records(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await publish_count(harness, fake, "a", 1)
            await eventually(lambda: fake.service.event_ids == ["a-1"], "the event is handled")
        admin = AIOKafkaAdminClient(**harness.connection.client_arguments())
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets(harness.prefix + SERVICE)
        finally:
            await admin.close()
        [record] = await harness.read_records(COUNTS)
        assert {(partition.topic, partition.partition): at.offset for partition, at in committed.items()} == {
            (harness.prefix + COUNTS.name, record.partition): record.offset + 1
        }


class TestConsumerProjections:
    async def test_reaction_runs_for_an_event_older_than_the_projection(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await publish_event(harness, fake, CounterChanged(counter_id="a", value=2), 2, "newer")
            await publish_event(harness, fake, CounterChanged(counter_id="a", value=1), 1, "older")
            await eventually(lambda: fake.service.event_ids == ["newer", "older"], "both events are handled")
            copied = await fake.service.copies.get("a")
            assert copied is not None
            assert copied.value == 2

    async def test_tombstone_leaves_a_grave_and_runs_its_reaction(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await publish_event(harness, fake, CounterChanged(counter_id="a", value=1), 1, "one")
            await fake.producer.deliver(
                harness.prefix + COUNTERS.name,
                key=b"a",
                value=None,
                headers=build_envelope(CounterChanged, "a", 2, "gone").headers(),
            )
            await publish_event(harness, fake, CounterChanged(counter_id="a", value=1), 1, "one")
            await eventually(lambda: len(fake.service.handled) == 3, "all three events are handled")
            assert fake.service.handled == [("a", 1), ("a", None), ("a", 1)]
            assert await fake.service.copies.is_grave("a")
            assert await fake.service.copies.get("a") is None

    async def test_unwritable_row_makes_one_dead_letter_only(
        self,
        harness: ChassisHarness,
    ) -> None:
        async with run_fake_consumer(harness, started=False) as fake:
            await publish_event(
                harness, fake, CounterChanged(counter_id="a", value=2**70), 1, "too large for the store"
            )
            await publish_event(harness, fake, CounterChanged(counter_id="b", value=1), 1, "fine")
            await fake.consumer.process(await harness.read_records(COUNTERS))
            listed = await dead_letters.list_dead_letters(harness.connection, harness.prefix, SERVICE)
            assert [dead_letter.event_id for dead_letter in listed] == ["too large for the store"]
            assert fake.service.event_ids == ["fine"]
            assert await fake.service.copies.get("b") is not None


class TestUnprocessableRecords:
    async def test_poison_becomes_dead_letters_and_others_are_handled(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await publish_count(harness, fake, "p", 1)
            expected = await publish_poison(harness, fake)
            await publish_count(harness, fake, "p", 2)

            async def are_dead_letters() -> bool:
                return await dead_letter_codes(harness) == expected

            await eventually(are_dead_letters, f"the dead letters are {expected}")
            await eventually(lambda: fake.service.handled == [("p", 1), ("p", 2)], "the other records are handled")
            everything = str(await dead_letters.list_dead_letters(harness.connection, harness.prefix, SERVICE))
            assert "Maria" not in everything
            assert fake.health.check_liveness().ok

    async def test_unknown_type_is_skipped(self, harness: ChassisHarness) -> None:
        class UnknownEvent(Counted):
            TYPE = "toys.counter.unheard.v1"

        async with run_fake_consumer(harness) as fake:
            await publish_event(harness, fake, UnknownEvent(counter_id="p", by=1, value=1), 1, "unknown")
            await publish_count(harness, fake, "p", 2)
            await eventually(lambda: fake.service.handled == [("p", 2)], "the event of the known type is handled")
            assert await dead_letter_codes(harness) == []

    async def test_failed_reaction_makes_a_dead_letter_and_continues(self, harness: ChassisHarness) -> None:
        """Both a bug and a ``PermanentFailure``."""
        async with run_fake_consumer(harness) as fake:
            bug, refusal = fail_for(KeyError("Maria"), "a-1"), fail_for(PermanentFailure("refused for good"), "a-2")

            async def fail_both(id: str) -> None:
                await bug(id)
                await refusal(id)

            fake.service.before_handling = fail_both
            for n in (1, 2, 3):
                await publish_count(harness, fake, "a", n)
            await eventually(lambda: fake.service.event_ids == ["a-3"], "the third event is handled")
            listed = await dead_letters.list_dead_letters(harness.connection, harness.prefix, SERVICE)
            assert {(dead_letter.code, dead_letter.event_id) for dead_letter in listed} == {
                ("bug", "a-1"),
                ("refused", "a-2"),
            }
            assert not any("Maria" in dead_letter.detail for dead_letter in listed)


class TestForgedFloods:
    @pytest.mark.parametrize("source", [None, b"/viceversa/somebody", b"/viceversa/toys"])
    async def test_garbage_stops_nothing(self, harness: ChassisHarness, source: bytes | None) -> None:
        """Records that nobody can read, also in the name of the owner: the service handles everything of its owners."""
        headers = [] if source is None else [("ce_source", source)]
        async with run_fake_consumer(harness, started=False) as producing:
            for n in range(60):
                await producing.producer.deliver(
                    COUNTS.full_name(harness.prefix), key=f"g{n}".encode(), value=b"\xff{", headers=headers
                )
            await publish_count(harness, producing, "a", 1)
        async with run_fake_consumer(harness) as fake:
            await eventually(lambda: fake.service.handled == [("a", 1)], "the owner's event is handled")
            assert fake.health.check_liveness().ok
            await publish_count(harness, fake, "a", 2)
            await eventually(lambda: fake.service.handled == [("a", 1), ("a", 2)], "later events are handled")
        codes = await dead_letter_codes(harness)
        assert codes == (["bad_envelope"] * 60 if source == b"/viceversa/toys" else [])

    @pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
    async def test_compressed_records_stop_nothing(self, harness: ChassisHarness, codec: str) -> None:
        async with run_fake_consumer(harness) as fake:
            other = OtherProducer({"bootstrap.servers": harness.connection.servers, "compression.type": codec})
            for n in range(30):
                other.produce(COUNTS.full_name(harness.prefix), b"garbage" * 50, f"g{n}".encode())
            assert other.flush(30) == 0
            for n, key in enumerate("abcdef", 1):
                await publish_count(harness, fake, key, n)
            await eventually(lambda: len(fake.service.handled) == 6, "the owner's events are handled")

    async def test_implausible_sequence_freezes_no_row(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            for sequence, value in ((2**63 - 2, 666), (2**40 - 1, 667), (3 * 2**40 + 5, 2), (2**62, 668)):
                event = CounterChanged(counter_id="c", value=value)
                await publish_event(harness, fake, event, sequence, f"c-{sequence}")
            await publish_event(harness, fake, CounterChanged(counter_id="c", value=3), 3 * 2**40 + 6, "c-last")
            await eventually(lambda: fake.service.handled == [("c", 2), ("c", 3)], "the plausible events are handled")
            copy = await fake.service.copies.get("c")
            assert copy is not None
            assert copy.value == 3
        assert await dead_letter_codes(harness) == ["implausible_sequence"] * 3

    async def test_row_of_another_key_is_not_written(self, harness: ChassisHarness) -> None:
        """Key, subject and data must name the same aggregate; otherwise a record could replace another row."""
        async with run_fake_consumer(harness) as fake:
            headers = build_envelope(CounterChanged, "victim", 9, "c-9").headers()
            wrong = [
                (b"victim", b'{"counter_id":"c","value":1}'),
                (b"c", b'{"counter_id":"victim","value":1}'),
                (b"c", None),
            ]
            for key, value in wrong:
                await fake.producer.deliver(COUNTERS.full_name(harness.prefix), key=key, value=value, headers=headers)

            async def all_are_aside() -> bool:
                return await dead_letter_codes(harness) == ["wrong_key"] * 3

            await eventually(all_are_aside, "all three are put aside")
            assert await fake.service.copies.get("victim") is None


class TestCircuitBreaker:
    async def test_bad_deploy_halts_before_most_records_are_dead_letters(
        self,
        harness: ChassisHarness,
    ) -> None:
        """The consumer reports itself unhealthy, and a fixed version handles the remaining records."""
        async with run_fake_consumer(harness, started=False) as producing:
            await asyncio.gather(*(publish_count(harness, producing, f"k{n}", n) for n in range(1, 301)))
        async with run_fake_consumer(harness) as broken:

            async def fail_always(_: str) -> None:
                raise KeyError("a bug")

            broken.service.before_handling = fail_always
            await eventually(lambda: not broken.health.check_liveness().ok, "the consumer reports that it has stopped")
            assert len(await dead_letter_codes(harness)) < 60
        async with run_fake_consumer(harness) as fixed:
            await eventually(
                lambda: len(set(fixed.service.event_ids)) >= 240, "the fixed version handles the remaining records"
            )

    async def test_mostly_failing_batch_makes_no_dead_letters(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness, started=False) as fake:
            for n in range(1, 301):
                await publish_count(harness, fake, f"k{n}", n)
            records = await harness.read_records(COUNTS)
            records.sort(key=lambda record: int((record.key or b"k0")[1:]))

            async def fail_first(id: str) -> None:
                if int(id.split("-")[1]) <= 199:
                    raise KeyError("a bug in all but the newest events")

            fake.service.before_handling = fail_first
            handling = asyncio.create_task(fake.consumer.process(records))
            await eventually(lambda: not fake.health.check_liveness().ok, "the consumer reports that it has stopped")
            fake.consumer._closing.set()
            await asyncio.gather(handling, return_exceptions=True)
            assert await dead_letter_codes(harness) == []


class TestConsumerLag:
    async def test_progress_is_reported_to_health(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            for n in range(1, 4):
                await publish_count(harness, fake, "a", n)
            await eventually(lambda: len(fake.service.handled) == 3, "all three events are handled")
            await fake.consumer.report_lag()
            assert fake.health.check_liveness().ok
