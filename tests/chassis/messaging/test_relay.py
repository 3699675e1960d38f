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


async def test_after_a_crash_between_save_and_publish_the_sweep_publishes_once_the_lease_is_over(
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


async def test_after_a_crash_between_publish_and_clean_up_the_same_id_is_said_at_most_twice_and_the_outbox_empties(
    toys: ChassisHarness,
) -> None:
    crashed, alive = await toys.replica(running=False), await toys.replica()
    await crashed.counters.update("c", op("1"), add("c", 1))
    await crashed.publish(await crashed.document("c"))
    toys.clock.moved += alive.relay.lease
    await alive.relay.sweep(alive.counters)
    await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
    said = event_ids(await toys.said(COUNTS, "c"))
    assert len(said) == 2
    assert len(set(said)) == 1


async def test_a_clean_up_that_failed_is_made_up_for_without_publishing_again(toys: ChassisHarness) -> None:
    one = await toys.replica()
    one.store.before["bulk_write"] = fail_once(ConnectionFailure("lost"))
    await one.counters.update("c", op("1"), add("c", 1))
    await one.relay.wait_until_idle()
    assert (await one.document("c"))["outbox"]
    toys.clock.moved += one.relay.lease
    await one.relay.sweep(one.counters)
    await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
    assert len(await toys.said(COUNTS, "c")) == 1


async def test_a_clean_up_takes_out_what_was_published_and_nothing_that_was_saved_meanwhile(
    toys: ChassisHarness,
) -> None:
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


async def test_a_clean_up_by_ids_leaves_no_time_behind_that_a_later_save_would_take_for_its_own(
    toys: ChassisHarness,
) -> None:
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


async def test_an_empty_outbox_that_is_still_marked_is_unmarked_by_the_sweep(toys: ChassisHarness) -> None:
    slow, quick, sweeper = [await toys.replica(running=False) for _ in range(3)]
    await slow.counters.update("c", op("1"), add("c", 1))
    sent, _ = await slow.relay.publish([(slow.counters, await slow.document("c"))])
    await quick.counters.update("c", op("2"), set_fields("c", value=5))
    await slow.relay.clean(sent)
    assert (await slow.document("c"))["outbox_since"] is not None
    toys.clock.moved += slow.relay.lease
    assert await sweeper.relay.sweep(sweeper.counters) == 0
    assert await outbox_is_empty(toys, "c")()


async def test_what_is_published_while_the_sweep_reads_it_is_passed_over(
    toys: ChassisHarness, monkeypatch: pytest.MonkeyPatch
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


async def test_two_replicas_that_sweep_at_once_say_the_same_ids_and_empty_every_outbox(toys: ChassisHarness) -> None:
    crashed, one, other = await toys.replica(running=False), await toys.replica(), await toys.replica()
    for n in range(10):
        await crashed.counters.update(f"c{n}", op("1"), add(f"c{n}", 1))
    toys.clock.moved += one.relay.lease
    await asyncio.gather(one.relay.sweep(one.counters), other.relay.sweep(other.counters))
    await asyncio.gather(one.relay.wait_until_idle(), other.relay.wait_until_idle())
    assert await toys.collection.count_documents({"outbox_since": {"$ne": None}}) == 0
    assert len(set(event_ids(await toys.said(COUNTS)))) == 10


async def test_what_a_crash_left_is_swept_also_while_many_others_are_being_published(toys: ChassisHarness) -> None:
    crashed, busy, sweeper = [await toys.replica(running=False) for _ in range(3)]
    await crashed.counters.update("left", op("1"), add("left", 1))
    toys.clock.moved += sweeper.relay.lease
    for n in range(5):
        await busy.counters.update(f"a{n}", op("1"), add(f"a{n}", 1))
    assert await sweeper.relay.sweep(sweeper.counters, limit=3) == 1


async def test_what_this_process_has_in_hand_is_not_taken_up_by_its_own_sweep(
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


async def test_what_was_published_and_could_not_be_cleaned_up_is_left_to_the_sweep(toys: ChassisHarness) -> None:
    one = await toys.replica()
    one.store.before["bulk_write"] = fail_once(ConnectionFailure("lost"))
    await one.counters.update("c", op("1"), add("c", 1))
    await one.relay.wait_until_idle()
    toys.clock.moved += one.relay.lease
    assert await one.relay.sweep(one.counters) == 1
    await eventually(outbox_is_empty(toys, "c"), "the outbox empties")
    assert len(await toys.said(COUNTS, "c")) == 1


async def test_of_one_document_the_newest_version_waits_whoever_pushed_last(toys: ChassisHarness) -> None:
    one = await toys.replica(running=False)
    await one.counters.update("c", op("1"), add("c", 1))
    older = await one.document("c")
    await one.counters.update("c", op("2"), add("c", 10))
    one.relay.push(one.counters, [older])
    one.start()
    await eventually(outbox_is_empty(toys, "c"), "both saves are published without waiting for a lease")
    assert [envelope_of(record).sequence for record in await toys.said(COUNTS, "c")] == [2, 4]


async def test_an_idle_relay_has_published_and_cleaned_up_everything(toys: ChassisHarness) -> None:
    one = await toys.replica()
    for n in range(20):
        await asyncio.gather(*(one.counters.update(f"c{m}", op(f"{n}"), add(f"c{m}", 1)) for m in range(5)))
        await one.relay.wait_until_idle()
        assert await toys.collection.count_documents({"outbox_since": {"$ne": None}}) == 0


async def test_a_thousand_saves_at_once_are_all_published_in_order_per_key(toys: ChassisHarness) -> None:
    one = await toys.replica()
    for n in range(3):
        await one.counters.update_many([Change(f"c{m}", op(f"{n}"), add(f"c{m}", n + 1)) for m in range(300)])
    await one.relay.wait_until_idle()
    by_key: dict[bytes | None, list[int]] = {}
    for record in await toys.said(COUNTS):
        by_key.setdefault(record.key, []).append(envelope_of(record).sequence)
    assert len(by_key) == 300
    assert all(sequences == [2, 4, 6] for sequences in by_key.values())


async def test_an_event_that_cannot_be_sent_holds_up_neither_its_neighbours_nor_lets_its_successors_overtake(
    toys: ChassisHarness,
) -> None:
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


async def test_a_record_that_the_broker_refuses_does_not_poison_the_producer_for_the_others(
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


async def test_a_renewed_producer_delivers_what_the_old_one_had_taken(toys: ChassisHarness) -> None:
    one = await toys.replica(running=False)
    futures = [
        await one.producer.send(toys.prefix + COUNTS.name, key=b"k", value=b"%d" % n, headers=[]) for n in range(50)
    ]
    await one.producer.renew()
    await asyncio.wait_for(asyncio.gather(*futures), 10)
    assert [record.value for record in await toys.said(COUNTS)] == [b"%d" % n for n in range(50)]


async def test_a_renewal_that_reaches_no_broker_keeps_the_old_producer(toys: ChassisHarness) -> None:
    one = await toys.replica(running=False)
    one.producer._connection = Connection("127.0.0.1:1")  # nobody listens there
    with pytest.raises(KafkaConnectionError):
        await one.producer.renew()
    await one.producer.deliver(toys.prefix + COUNTS.name, key=b"k", value=b"v", headers=[])


async def test_a_delivery_that_the_broker_refuses_leaves_a_producer_that_works(toys: ChassisHarness) -> None:
    one = await toys.replica(running=False)
    await set_max_record_bytes(toys, COUNTS, 2_000)
    topic = toys.prefix + COUNTS.name
    await one.producer.deliver(topic, key=b"k", value=b"v", headers=[])
    with pytest.raises(MessageSizeTooLargeError):
        await one.producer.deliver(topic, key=b"k", value=b"x" * 5_000, headers=[])
    await one.producer.deliver(topic, key=b"k", value=b"w", headers=[])
    assert [record.value for record in await toys.said(COUNTS)] == [b"v", b"w"]


async def test_of_a_compacted_topic_the_outbox_keeps_only_the_newest_state(toys: ChassisHarness) -> None:
    one = await toys.replica(running=False)
    for n in range(3):
        await one.counters.update("c", op(f"{n}"), add("c", 1))
    waiting = [(entry["topic"], entry["sequence"]) for entry in (await one.document("c"))["outbox"]]
    assert waiting == [(COUNTS.name, 2), (COUNTS.name, 4), (COUNTERS.name, 5), (COUNTS.name, 6)]


async def test_bulk_work_waits_while_the_relay_has_too_much_before_it(
    toys: ChassisHarness, monkeypatch: pytest.MonkeyPatch
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
