"""What was saved is published, in order, at least once and with the same id, whatever crashes in between."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from chassis.core.connection import Connection
from chassis.storage.aggregates import Change
from chassis.storage.mongo import ConnectionFailure, Document
from tests.chassis.harness import (
    COUNTERS,
    COUNTS,
    ChassisHarness,
    add,
    envelope_of,
    event_ids,
    eventually,
    fail_once,
    op,
    outbox_is_empty,
    set_fields,
    set_max_record_bytes,
)


class TestRelayCrash:
    async def test_between_save_and_publish_is_published_after_the_lease(
        self,
        toys: ChassisHarness,
    ) -> None:
        crashed, alive = await toys.replica(running=False), await toys.replica()
        await crashed.counters.update("c", op("1"), add("c", 1))
        assert await alive.relay.sweep(alive.counters) == 0  # the saving process may still be at it
        assert await toys.said(COUNTS, "c") == []
        toys.clock.moved += alive.relay.lease
        assert await alive.relay.sweep(alive.counters) == 1
        await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
        assert len(await toys.said(COUNTS, "c")) == 1

    async def test_between_publish_and_cleanup_republishes_at_most_once(
        self,
        toys: ChassisHarness,
    ) -> None:
        """Both records have the same id, and the outbox is emptied."""
        crashed, alive = await toys.replica(running=False), await toys.replica()
        await crashed.counters.update("c", op("1"), add("c", 1))
        await crashed.publish(await crashed.document("c"))
        toys.clock.moved += alive.relay.lease
        await alive.relay.sweep(alive.counters)
        await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
        said = event_ids(await toys.said(COUNTS, "c"))
        assert len(said) == 2
        assert len(set(said)) == 1

    async def test_leftovers_are_swept_during_other_publications(self, toys: ChassisHarness) -> None:
        crashed, busy, sweeper = [await toys.replica(running=False) for _ in range(3)]
        await crashed.counters.update("left", op("1"), add("left", 1))
        toys.clock.moved += sweeper.relay.lease
        for n in range(5):
            await busy.counters.update(f"a{n}", op("1"), add(f"a{n}", 1))
        assert await sweeper.relay.sweep(sweeper.counters, limit=3) == 1


class TestOutboxCleanUp:
    async def test_failed_clean_up_is_repeated_without_republishing(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        one.store.before["bulk_write"] = fail_once(ConnectionFailure("lost"))
        await one.counters.update("c", op("1"), add("c", 1))
        await one.relay.wait_until_idle()
        assert (await one.document("c"))["outbox"]
        toys.clock.moved += one.relay.lease
        await one.relay.sweep(one.counters)
        await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
        assert len(await toys.said(COUNTS, "c")) == 1

    async def test_clean_up_removes_published_events_only(
        self,
        toys: ChassisHarness,
    ) -> None:
        """Events of a save in between stay in the outbox."""
        slow, quick = await toys.replica(running=False), await toys.replica(running=False)
        await slow.counters.update("c", op("1"), add("c", 1))
        sent, failure = await slow.relay.publish([(slow.counters, await slow.document("c"))])
        assert failure is None
        await quick.counters.update("c", op("2"), add("c", 10))
        before = await slow.document("c")
        await slow.relay.clean(sent)

        after = await slow.document("c")
        published = {id for one in sent for id in one.ids}
        assert [entry["id"] for entry in after["outbox"]] == [
            entry["id"] for entry in before["outbox"] if entry["id"] not in published
        ]
        assert {entry["sequence"] for entry in after["outbox"]} == {3, 4}
        assert after["outbox_since"] == before["outbox_since"]
        assert after["version"] == before["version"] == 2

        sent, _ = await quick.relay.publish([(quick.counters, before)])
        await quick.relay.clean(sent)
        assert await outbox_is_empty(toys, "c")()

    async def test_clean_up_by_ids_leaves_no_old_outbox_since(
        self,
        toys: ChassisHarness,
    ) -> None:
        """A later save would otherwise keep the old time as its own."""
        slow, quick = await toys.replica(running=False), await toys.replica(running=False)
        await slow.counters.update("c", op("1"), add("c", 1))
        sent, _ = await slow.relay.publish([(slow.counters, await slow.document("c"))])
        await quick.counters.update("c", op("2"), set_fields("c", value=5))  # says nothing, but moves the version
        await slow.relay.clean(sent)
        assert (await slow.document("c"))["outbox"] == []
        toys.clock.moved += timedelta(hours=1)
        await quick.counters.update("c", op("3"), add("c", 1))
        since = (await quick.document("c"))["outbox_since"]
        assert toys.clock.machine_now() - since < timedelta(minutes=1)

    async def test_failed_clean_up_is_left_to_the_sweep(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        one.store.before["bulk_write"] = fail_once(ConnectionFailure("lost"))
        await one.counters.update("c", op("1"), add("c", 1))
        await one.relay.wait_until_idle()
        toys.clock.moved += one.relay.lease
        assert await one.relay.sweep(one.counters) == 1
        await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
        assert len(await toys.said(COUNTS, "c")) == 1


class TestRelaySweep:
    async def test_sweep_clears_outbox_since_of_an_empty_outbox(self, toys: ChassisHarness) -> None:
        slow, quick, sweeper = [await toys.replica(running=False) for _ in range(3)]
        await slow.counters.update("c", op("1"), add("c", 1))
        sent, _ = await slow.relay.publish([(slow.counters, await slow.document("c"))])
        await quick.counters.update("c", op("2"), set_fields("c", value=5))
        await slow.relay.clean(sent)
        assert (await slow.document("c"))["outbox_since"] is not None
        toys.clock.moved += slow.relay.lease
        assert await sweeper.relay.sweep(sweeper.counters) == 0
        assert await outbox_is_empty(toys, "c")()

    async def test_document_published_during_the_read_is_skipped(
        self, toys: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = await toys.replica()
        await one.counters.update("c", op("1"), add("c", 1))
        await one.relay.wait_until_idle()
        emptied = await one.document("c")
        assert emptied["outbox_since"] is None

        class Late:
            """A server whose answer is from a moment after it looked."""

            def find(self, _filter: object) -> "Late":
                return self

            def sort(self, *_by: object) -> "Late":
                return self

            async def limit(self, _number: int) -> AsyncIterator[Document]:
                yield emptied

        monkeypatch.setattr(one.counters, "collection", Late())
        monkeypatch.setattr(type(one.counters), "name", "counters")
        assert await one.relay.sweep(one.counters) == 0

    async def test_concurrent_sweeps_publish_the_same_ids(self, toys: ChassisHarness) -> None:
        """Every outbox is emptied."""
        crashed, one, other = await toys.replica(running=False), await toys.replica(), await toys.replica()
        for n in range(10):
            await crashed.counters.update(f"c{n}", op("1"), add(f"c{n}", 1))
        toys.clock.moved += one.relay.lease
        await asyncio.gather(one.relay.sweep(one.counters), other.relay.sweep(other.counters))
        await asyncio.gather(one.relay.wait_until_idle(), other.relay.wait_until_idle())
        assert await toys.collection.count_documents({"outbox_since": {"$ne": None}}) == 0
        assert len(set(event_ids(await toys.said(COUNTS)))) == 10

    async def test_sweep_skips_documents_of_its_own_process(
        self,
        toys: ChassisHarness,
    ) -> None:
        one = await toys.replica()
        cleaning, over = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            cleaning.set()
            await over.wait()

        one.store.before["bulk_write"] = hang
        await one.counters.update("c", op("1"), add("c", 1))
        await asyncio.wait_for(cleaning.wait(), 20)
        toys.clock.moved += one.relay.lease
        assert await one.relay.sweep(one.counters) == 0
        over.set()
        await one.relay.wait_until_idle()
        assert await outbox_is_empty(toys, "c")()


class TestPublicationQueue:
    async def test_newest_version_of_a_document_is_queued(self, toys: ChassisHarness) -> None:
        """Also when an older version is pushed later."""
        one = await toys.replica(running=False)
        await one.counters.update("c", op("1"), add("c", 1))
        older = await one.document("c")
        await one.counters.update("c", op("2"), add("c", 10))
        one.relay.push(one.counters, [older])
        one.start()
        await eventually(outbox_is_empty(toys, "c"), "both saves are published without waiting for a lease")
        assert [envelope_of(record).sequence for record in await toys.said(COUNTS, "c")] == [2, 4]

    async def test_idle_relay_has_published_and_cleaned_up_everything(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        for n in range(20):
            await asyncio.gather(*(one.counters.update(f"c{m}", op(f"{n}"), add(f"c{m}", 1)) for m in range(5)))
            await one.relay.wait_until_idle()
            assert await toys.collection.count_documents({"outbox_since": {"$ne": None}}) == 0

    async def test_many_saves_are_published_in_order_for_each_key(self, toys: ChassisHarness) -> None:
        one = await toys.replica()
        for n in range(3):
            await one.counters.update_many([Change(f"c{m}", op(f"{n}"), add(f"c{m}", n + 1)) for m in range(300)])
        await one.relay.wait_until_idle()
        by_key: dict[bytes | None, list[int]] = {}
        for record in await toys.said(COUNTS):
            by_key.setdefault(record.key, []).append(envelope_of(record).sequence)
        assert len(by_key) == 300
        assert all(sequences == [2, 4, 6] for sequences in by_key.values())

    async def test_outbox_keeps_only_the_newest_state_of_compacted_topic(self, toys: ChassisHarness) -> None:
        one = await toys.replica(running=False)
        for n in range(3):
            await one.counters.update("c", op(f"{n}"), add("c", 1))
        waiting = [(entry["topic"], entry["sequence"]) for entry in (await one.document("c"))["outbox"]]
        assert waiting == [(COUNTS.name, 2), (COUNTS.name, 4), (COUNTERS.name, 5), (COUNTS.name, 6)]

    async def test_bulk_work_waits_for_a_large_backlog(
        self, toys: ChassisHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chassis.messaging.relay.MAX_BACKLOG", 10)
        one = await toys.replica(running=False)
        await one.counters.update_many([Change(f"c{n}", op("1"), add(f"c{n}", 1)) for n in range(10)])
        more = asyncio.create_task(one.counters.update_many([Change("d", op("1"), add("d", 1))]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(more), 0.2)
        one.start()
        await asyncio.wait_for(more, 10)
        assert (await toys.stored("d")).added == (1,)


class TestPublicationFailure:
    async def test_unsendable_event_blocks_only_its_own_aggregate(
        self,
        toys: ChassisHarness,
    ) -> None:
        """Later events of the aggregate do not overtake it."""
        one = await toys.replica(running=False)
        await one.counters.update("bad", op("1"), add("bad", 1))
        await one.counters.update("bad", op("2"), add("bad", 2))
        await one.counters.update("good", op("1"), add("good", 1))
        broken = await one.document("bad")
        broken["outbox"][0] |= {"topic": None}  # the first that counts
        sent, failure = await one.relay.publish([(one.counters, broken), (one.counters, await one.document("good"))])
        assert isinstance(failure, TypeError)
        assert [one.document["_id"] for one in sent] == ["good"]
        assert await toys.said(COUNTS, "bad") == []
        assert len(await toys.said(COUNTS, "good")) == 1

    async def test_rejected_record_does_not_block_other_records(
        self,
        toys: ChassisHarness,
    ) -> None:
        one = await toys.replica()
        renewed = asyncio.Event()

        async def note() -> None:
            renewed.set()

        one.wire.after["renew"] = note
        await set_max_record_bytes(toys, COUNTS, 2_000)
        await one.counters.update("large", op("1"), add("large", 1, note="x" * 5_000))
        await asyncio.wait_for(renewed.wait(), 20)
        for n in range(10):
            await one.counters.update(f"c{n}", op("1"), add(f"c{n}", 1))
            await one.relay.wait_until_idle()
        toys.clock.moved += one.relay.lease  # those that were under way at that moment wait for the sweep
        await one.relay.sweep(one.counters)
        await one.relay.wait_until_idle()
        assert {record.key for record in await toys.said(COUNTS)} >= {f"c{n}".encode() for n in range(10)}
        await set_max_record_bytes(toys, COUNTS, COUNTS.max_bytes)
        toys.clock.moved += one.relay.lease
        await one.relay.sweep(one.counters)
        await eventually(outbox_is_empty(toys, "large"), "once the broker takes it, it is published too")


class TestProducerRenewal:
    async def test_records_of_the_old_producer_are_delivered(self, toys: ChassisHarness) -> None:
        one = await toys.replica(running=False)
        futures = [
            await one.producer.send(toys.prefix + COUNTS.name, key=b"k", value=b"%d" % n, headers=[]) for n in range(50)
        ]
        await one.producer.renew()
        await asyncio.wait_for(asyncio.gather(*futures), 10)
        assert [record.value for record in await toys.said(COUNTS)] == [b"%d" % n for n in range(50)]

    async def test_old_producer_stays_when_no_broker_answers(self, toys: ChassisHarness) -> None:
        one = await toys.replica(running=False)
        one.producer._connection = Connection("127.0.0.1:1")  # nobody listens there
        with pytest.raises(KafkaConnectionError):
            await one.producer.renew()
        await one.producer.deliver(toys.prefix + COUNTS.name, key=b"k", value=b"v", headers=[])

    async def test_producer_works_after_a_rejected_delivery(self, toys: ChassisHarness) -> None:
        one = await toys.replica(running=False)
        await set_max_record_bytes(toys, COUNTS, 2_000)
        topic = toys.prefix + COUNTS.name
        await one.producer.deliver(topic, key=b"k", value=b"v", headers=[])
        with pytest.raises(MessageSizeTooLargeError):
            await one.producer.deliver(topic, key=b"k", value=b"x" * 5_000, headers=[])
        await one.producer.deliver(topic, key=b"k", value=b"w", headers=[])
        assert [record.value for record in await toys.said(COUNTS)] == [b"v", b"w"]
