"""Saved events are published in order, at least once and with the same id, whichever process crashes in between."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from chassis.core.commands import Op
from chassis.core.connection import Connection
from chassis.storage.aggregates import Change
from chassis.storage.mongo import ConnectionFailure, Document
from tests.chassis.harness import (
    COUNTERS,
    COUNTS,
    ChassisHarness,
    add,
    event_ids,
    eventually,
    fail_once,
    outbox_is_empty,
    read_envelope,
    set_fields,
    set_max_record_bytes,
)


class TestRelayCrash:
    async def test_between_save_and_publish_is_published_after_the_lease(
        self,
        harness: ChassisHarness,
    ) -> None:
        crashed, alive = await harness.start_replica(running=False), await harness.start_replica()
        await crashed.counters.update("c", Op("1"), add("c", 1))
        assert await alive.relay.sweep(alive.counters) == 0  # the saving process may still be publishing
        assert await harness.read_records(COUNTS, "c") == []
        harness.clock.offset += alive.relay.lease
        assert await alive.relay.sweep(alive.counters) == 1
        await eventually(outbox_is_empty(harness, "c"), "the outbox is emptied")
        assert len(await harness.read_records(COUNTS, "c")) == 1

    async def test_between_publish_and_cleanup_republishes_at_most_once(
        self,
        harness: ChassisHarness,
    ) -> None:
        """Both records have the same id, and the outbox is emptied."""
        crashed, alive = await harness.start_replica(running=False), await harness.start_replica()
        await crashed.counters.update("c", Op("1"), add("c", 1))
        await crashed.publish(await crashed.read_document("c"))
        harness.clock.offset += alive.relay.lease
        await alive.relay.sweep(alive.counters)
        await eventually(outbox_is_empty(harness, "c"), "the outbox is emptied")
        published = event_ids(await harness.read_records(COUNTS, "c"))
        assert len(published) == 2
        assert len(set(published)) == 1

    async def test_leftovers_are_swept_during_other_publications(self, harness: ChassisHarness) -> None:
        crashed, busy, sweeper = [await harness.start_replica(running=False) for _ in range(3)]
        await crashed.counters.update("left", Op("1"), add("left", 1))
        harness.clock.offset += sweeper.relay.lease
        for n in range(5):
            await busy.counters.update(f"a{n}", Op("1"), add(f"a{n}", 1))
        assert await sweeper.relay.sweep(sweeper.counters, limit=3) == 1


class TestOutboxCleanUp:
    async def test_failed_clean_up_is_repeated_without_republishing(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        replica.collection_faults.before["bulk_write"] = fail_once(ConnectionFailure("lost"))
        await replica.counters.update("c", Op("1"), add("c", 1))
        await replica.relay.wait_until_idle()
        assert (await replica.read_document("c"))["outbox"]
        harness.clock.offset += replica.relay.lease
        await replica.relay.sweep(replica.counters)
        await eventually(outbox_is_empty(harness, "c"), "the outbox is emptied")
        assert len(await harness.read_records(COUNTS, "c")) == 1

    async def test_clean_up_removes_published_events_only(
        self,
        harness: ChassisHarness,
    ) -> None:
        """Events of a save in between stay in the outbox."""
        slow, quick = await harness.start_replica(running=False), await harness.start_replica(running=False)
        await slow.counters.update("c", Op("1"), add("c", 1))
        sent, failure = await slow.relay.publish([(slow.counters, await slow.read_document("c"))])
        assert failure is None
        await quick.counters.update("c", Op("2"), add("c", 10))
        before = await slow.read_document("c")
        await slow.relay.clean(sent)

        after = await slow.read_document("c")
        published = {id for acknowledged in sent for id in acknowledged.ids}
        assert [entry["id"] for entry in after["outbox"]] == [
            entry["id"] for entry in before["outbox"] if entry["id"] not in published
        ]
        assert {entry["sequence"] for entry in after["outbox"]} == {3, 4}
        assert after["outbox_since"] == before["outbox_since"]
        assert after["version"] == before["version"] == 2

        sent, _ = await quick.relay.publish([(quick.counters, before)])
        await quick.relay.clean(sent)
        assert await outbox_is_empty(harness, "c")()

    async def test_clean_up_by_ids_leaves_no_old_outbox_since(
        self,
        harness: ChassisHarness,
    ) -> None:
        """A later save would otherwise keep the old time as its own."""
        slow, quick = await harness.start_replica(running=False), await harness.start_replica(running=False)
        await slow.counters.update("c", Op("1"), add("c", 1))
        sent, _ = await slow.relay.publish([(slow.counters, await slow.read_document("c"))])
        await quick.counters.update("c", Op("2"), set_fields("c", value=5))  # publishes nothing, but raises the version
        await slow.relay.clean(sent)
        assert (await slow.read_document("c"))["outbox"] == []
        harness.clock.offset += timedelta(hours=1)
        await quick.counters.update("c", Op("3"), add("c", 1))
        since = (await quick.read_document("c"))["outbox_since"]
        assert harness.clock.machine_now() - since < timedelta(minutes=1)

    async def test_failed_clean_up_is_left_to_the_sweep(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        replica.collection_faults.before["bulk_write"] = fail_once(ConnectionFailure("lost"))
        await replica.counters.update("c", Op("1"), add("c", 1))
        await replica.relay.wait_until_idle()
        harness.clock.offset += replica.relay.lease
        assert await replica.relay.sweep(replica.counters) == 1
        await eventually(outbox_is_empty(harness, "c"), "the outbox is emptied")
        assert len(await harness.read_records(COUNTS, "c")) == 1


class TestRelaySweep:
    async def test_sweep_clears_outbox_since_of_an_empty_outbox(self, harness: ChassisHarness) -> None:
        slow, quick, sweeper = [await harness.start_replica(running=False) for _ in range(3)]
        await slow.counters.update("c", Op("1"), add("c", 1))
        sent, _ = await slow.relay.publish([(slow.counters, await slow.read_document("c"))])
        await quick.counters.update("c", Op("2"), set_fields("c", value=5))
        await slow.relay.clean(sent)
        assert (await slow.read_document("c"))["outbox_since"] is not None
        harness.clock.offset += slow.relay.lease
        assert await sweeper.relay.sweep(sweeper.counters) == 0
        assert await outbox_is_empty(harness, "c")()

    async def test_document_published_during_the_read_is_skipped(
        self, harness: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replica = await harness.start_replica()
        await replica.counters.update("c", Op("1"), add("c", 1))
        await replica.relay.wait_until_idle()
        emptied = await replica.read_document("c")
        assert emptied["outbox_since"] is None

        class LateCollection:
            """A server that returns a document as it was after the filter matched."""

            def find(self, _filter: object) -> "LateCollection":
                return self

            def sort(self, *_by: object) -> "LateCollection":
                return self

            async def limit(self, _number: int) -> AsyncIterator[Document]:
                yield emptied

        monkeypatch.setattr(replica.counters, "collection", LateCollection())
        monkeypatch.setattr(type(replica.counters), "name", "counters")
        assert await replica.relay.sweep(replica.counters) == 0

    async def test_concurrent_sweeps_publish_the_same_ids(self, harness: ChassisHarness) -> None:
        """Every outbox is emptied."""
        crashed, replica, other = (
            await harness.start_replica(running=False),
            await harness.start_replica(),
            await harness.start_replica(),
        )
        for n in range(10):
            await crashed.counters.update(f"c{n}", Op("1"), add(f"c{n}", 1))
        harness.clock.offset += replica.relay.lease
        await asyncio.gather(replica.relay.sweep(replica.counters), other.relay.sweep(other.counters))
        await asyncio.gather(replica.relay.wait_until_idle(), other.relay.wait_until_idle())
        assert await harness.collection.count_documents({"outbox_since": {"$ne": None}}) == 0
        assert len(set(event_ids(await harness.read_records(COUNTS)))) == 10

    async def test_sweep_skips_documents_of_its_own_process(
        self,
        harness: ChassisHarness,
    ) -> None:
        replica = await harness.start_replica()
        cleaning, released = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            cleaning.set()
            await released.wait()

        replica.collection_faults.before["bulk_write"] = hang
        await replica.counters.update("c", Op("1"), add("c", 1))
        await asyncio.wait_for(cleaning.wait(), 20)
        harness.clock.offset += replica.relay.lease
        assert await replica.relay.sweep(replica.counters) == 0
        released.set()
        await replica.relay.wait_until_idle()
        assert await outbox_is_empty(harness, "c")()


class TestPublicationQueue:
    async def test_newest_version_of_a_document_is_queued(self, harness: ChassisHarness) -> None:
        """Also when an older version is pushed later."""
        replica = await harness.start_replica(running=False)
        await replica.counters.update("c", Op("1"), add("c", 1))
        older = await replica.read_document("c")
        await replica.counters.update("c", Op("2"), add("c", 10))
        replica.relay.push(replica.counters, [older])
        replica.start()
        await eventually(outbox_is_empty(harness, "c"), "both saves are published without waiting for a lease")
        assert [read_envelope(record).sequence for record in await harness.read_records(COUNTS, "c")] == [2, 4]

    async def test_idle_relay_has_published_and_cleaned_up_everything(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        for n in range(20):
            await asyncio.gather(*(replica.counters.update(f"c{m}", Op(f"{n}"), add(f"c{m}", 1)) for m in range(5)))
            await replica.relay.wait_until_idle()
            assert await harness.collection.count_documents({"outbox_since": {"$ne": None}}) == 0

    async def test_many_saves_are_published_in_order_for_each_key(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica()
        for n in range(3):
            await replica.counters.update_many([Change(f"c{m}", Op(f"{n}"), add(f"c{m}", n + 1)) for m in range(300)])
        await replica.relay.wait_until_idle()
        by_key: dict[bytes | None, list[int]] = {}
        for record in await harness.read_records(COUNTS):
            by_key.setdefault(record.key, []).append(read_envelope(record).sequence)
        assert len(by_key) == 300
        assert all(sequences == [2, 4, 6] for sequences in by_key.values())

    async def test_outbox_keeps_only_the_newest_state_of_compacted_topic(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica(running=False)
        for n in range(3):
            await replica.counters.update("c", Op(f"{n}"), add("c", 1))
        waiting = [(entry["topic"], entry["sequence"]) for entry in (await replica.read_document("c"))["outbox"]]
        assert waiting == [(COUNTS.name, 2), (COUNTS.name, 4), (COUNTERS.name, 5), (COUNTS.name, 6)]

    async def test_bulk_work_waits_for_a_large_backlog(
        self, harness: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chassis.messaging.relay.MAX_BACKLOG", 10)
        replica = await harness.start_replica(running=False)
        await replica.counters.update_many([Change(f"c{n}", Op("1"), add(f"c{n}", 1)) for n in range(10)])
        bulk_update = asyncio.create_task(replica.counters.update_many([Change("d", Op("1"), add("d", 1))]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(bulk_update), 0.2)
        replica.start()
        await asyncio.wait_for(bulk_update, 10)
        assert (await harness.read_counter("d")).added == (1,)


class TestPublicationFailure:
    async def test_unsendable_event_blocks_only_its_own_aggregate(
        self,
        harness: ChassisHarness,
    ) -> None:
        """Later events of the aggregate do not overtake it."""
        replica = await harness.start_replica(running=False)
        await replica.counters.update("bad", Op("1"), add("bad", 1))
        await replica.counters.update("bad", Op("2"), add("bad", 2))
        await replica.counters.update("good", Op("1"), add("good", 1))
        broken = await replica.read_document("bad")
        broken["outbox"][0] |= {"topic": None}  # its first event
        sent, failure = await replica.relay.publish(
            [(replica.counters, broken), (replica.counters, await replica.read_document("good"))]
        )
        assert isinstance(failure, TypeError)
        assert [acknowledged.document["_id"] for acknowledged in sent] == ["good"]
        assert await harness.read_records(COUNTS, "bad") == []
        assert len(await harness.read_records(COUNTS, "good")) == 1

    async def test_rejected_record_does_not_block_other_records(
        self,
        harness: ChassisHarness,
    ) -> None:
        replica = await harness.start_replica()
        renewed = asyncio.Event()

        async def note_renewal() -> None:
            renewed.set()

        replica.producer_faults.after["renew"] = note_renewal
        await set_max_record_bytes(harness, COUNTS, 2_000)
        await replica.counters.update("large", Op("1"), add("large", 1, note="x" * 5_000))
        await asyncio.wait_for(renewed.wait(), 20)
        for n in range(10):
            await replica.counters.update(f"c{n}", Op("1"), add(f"c{n}", 1))
            await replica.relay.wait_until_idle()
        harness.clock.offset += replica.relay.lease  # records that were under way then wait for the sweep
        await replica.relay.sweep(replica.counters)
        await replica.relay.wait_until_idle()
        assert {record.key for record in await harness.read_records(COUNTS)} >= {f"c{n}".encode() for n in range(10)}
        await set_max_record_bytes(harness, COUNTS, COUNTS.max_bytes)
        harness.clock.offset += replica.relay.lease
        await replica.relay.sweep(replica.counters)
        await eventually(outbox_is_empty(harness, "large"), "the large event is published once the broker accepts it")


class TestProducerRenewal:
    async def test_records_of_the_old_producer_are_delivered(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica(running=False)
        futures = [
            await replica.producer.send(harness.prefix + COUNTS.name, key=b"k", value=b"%d" % n, headers=[])
            for n in range(50)
        ]
        await replica.producer.renew()
        await asyncio.wait_for(asyncio.gather(*futures), 10)
        assert [record.value for record in await harness.read_records(COUNTS)] == [b"%d" % n for n in range(50)]

    async def test_old_producer_stays_when_no_broker_answers(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica(running=False)
        replica.producer._connection = Connection("127.0.0.1:1")  # no broker listens there
        with pytest.raises(KafkaConnectionError):
            await replica.producer.renew()
        await replica.producer.deliver(harness.prefix + COUNTS.name, key=b"k", value=b"v", headers=[])

    async def test_producer_works_after_a_rejected_delivery(self, harness: ChassisHarness) -> None:
        replica = await harness.start_replica(running=False)
        await set_max_record_bytes(harness, COUNTS, 2_000)
        topic = harness.prefix + COUNTS.name
        await replica.producer.deliver(topic, key=b"k", value=b"v", headers=[])
        with pytest.raises(MessageSizeTooLargeError):
            await replica.producer.deliver(topic, key=b"k", value=b"x" * 5_000, headers=[])
        await replica.producer.deliver(topic, key=b"k", value=b"w", headers=[])
        assert [record.value for record in await harness.read_records(COUNTS)] == [b"v", b"w"]
