"""Every record has its effect, in order of its key, or lies among the dead letters; nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from chassis.messaging import dead_letters
from chassis.messaging.consumer import PermanentFailure
from chassis.storage.mongo import ConnectionFailure
from contracts.envelope import EventData
from tests.chassis.fake_consumer import Listener, listener
from tests.chassis.harness import (
    COUNTERS,
    COUNTS,
    SERVICE,
    ChassisHarness,
    Counted,
    CounterChanged,
    envelope,
    eventually,
)


async def tell(toys: ChassisHarness, by: Listener, event: EventData, sequence: int, id: str) -> None:
    headers = envelope(type(event), event.key(), sequence, id).headers()
    await by.producer.deliver(
        type(event).TOPIC.full_name(toys.prefix),
        key=event.key().encode(),
        value=event.model_dump_json().encode(),
        headers=headers,
    )


async def count(toys: ChassisHarness, by: Listener, key: str, n: int) -> None:
    await tell(toys, by, Counted(counter_id=key, by=n, value=n), n, f"{key}-{n}")


def failing(error: Exception, *ids: str, times: int = 10_000) -> Callable[[str], Awaitable[None]]:
    left = dict.fromkeys(ids, times)

    async def fail(id: str) -> None:
        if left.get(id, 0) > 0:
            left[id] -= 1
            raise error

    return fail


async def codes(toys: ChassisHarness) -> list[str]:
    return sorted(letter.code for letter in await dead_letters.list_dead_letters(toys.connection, toys.prefix, SERVICE))


async def poison(toys: ChassisHarness, it: Listener) -> list[str]:
    """One record of each kind that cannot be processed; returns the codes under which they are put aside."""
    counts, counters = toys.prefix + COUNTS.name, toys.prefix + COUNTERS.name
    good = b'{"counter_id":"p","by":1,"value":1}'
    headers = envelope(Counted, "p", 1, "poison").headers()
    await it.producer.deliver(counts, key=b"p", value=b"{not json", headers=headers)
    await it.producer.deliver(counts, key=b"p", value=b"\xff\xfe", headers=headers)
    await it.producer.deliver(counts, key=b"p", value=b'{"counter_id":"p","by":"Maria"}', headers=headers)
    bad = [(name, b"\xff\xfe" if name == "ce_id" else value) for name, value in headers]
    await it.producer.deliver(counts, key=b"p", value=good, headers=bad)
    await it.producer.deliver(counts, key=b"p", value=None, headers=headers)
    await it.producer.deliver(counts, key=b"p", value=good, headers=[])
    await it.producer.deliver(counts, key=None, value=good, headers=[h for h in headers if h[0] != "ce_sequence"])
    await it.producer.deliver(counters, key=b"p", value=good, headers=headers)
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
    async def test_one_key_stays_in_order_and_keys_run_concurrently(self, toys: ChassisHarness) -> None:
        async with listener(toys, started=False) as alone:
            for n in range(1, 21):
                for key in "abcde":
                    await count(toys, alone, key, n)
        async with listener(toys) as it:
            both = asyncio.Event()

            async def meet(id: str) -> None:
                if it.ears.at_work > 1:
                    both.set()
                await asyncio.wait_for(both.wait(), 10)  # the first waits for another key; nobody would come otherwise

            it.ears.fails = meet
            await eventually(lambda: len(it.ears.heard) == 100, "all hundred are heard")
            for key in "abcde":
                assert [n for k, n in it.ears.heard if k == key] == list(range(1, 21))
            assert it.ears.most_at_work > 1


class TestConsumerRetry:
    async def test_transient_failure_is_retried_without_loss(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            it.ears.fails = failing(ConnectionFailure("away"), "a-2", times=3)
            for n in range(1, 6):
                await count(toys, it, "a", n)
            await eventually(lambda: len(it.ears.heard) >= 5, "all five are heard")
            assert list(dict.fromkeys(n for _, n in it.ears.heard)) == [1, 2, 3, 4, 5]
            assert await codes(toys) == []

    async def test_batch_is_rewound_when_the_retry_budget_is_spent(self, toys: ChassisHarness) -> None:
        async with listener(toys, patience=0.1) as it:
            it.ears.fails = failing(ConnectionFailure("away"), "b-2", times=6)
            for n in range(1, 6):
                for key in "abc":
                    await count(toys, it, key, n)
            await eventually(lambda: len(set(it.ears.events)) == 15, "all fifteen are heard")
            assert list(dict.fromkeys(n for k, n in it.ears.heard if k == "b")) == [1, 2, 3, 4, 5]
            assert await codes(toys) == []

    async def test_all_retries_of_a_batch_share_one_deadline(self, toys: ChassisHarness) -> None:
        async with listener(toys, started=False, patience=0.5) as it:
            for n in range(1, 9):
                await count(toys, it, "a", n)
            tried: list[str] = []

            async def slow(id: str) -> None:  # each would succeed, just before its own patience ended
                tried.append(id)
                if tried.count(id) < 3:
                    raise ConnectionFailure("away")
                await asyncio.sleep(0.2)

            it.ears.fails = slow
            with pytest.raises(ConnectionFailure):
                await it.consumer.process(await toys.said(COUNTS))
            assert len(it.ears.events) < 8


class TestConsumerCrash:
    async def test_before_commit_leaves_the_record_to_the_successor(
        self,
        toys: ChassisHarness,
    ) -> None:
        async with listener(toys, instance="one") as first:
            reached, over = asyncio.Event(), asyncio.Event()

            async def hang(id: str) -> None:
                if id == "a-2":
                    reached.set()
                    await over.wait()

            await count(toys, first, "a", 1)
            await eventually(lambda: first.ears.events == ["a-1"], "the first is heard")
            first.ears.fails = hang
            await count(toys, first, "b", 1)
            await count(toys, first, "a", 2)
            await asyncio.wait_for(reached.wait(), 20)
            async with listener(toys, instance="one") as successor:  # the same place in the group, as after a restart
                await eventually(lambda: "a-2" in successor.ears.events, "the successor hears what was not committed")
            over.set()

    async def test_between_projection_and_reaction_keeps_the_reaction(self, toys: ChassisHarness) -> None:
        async with listener(toys, started=False) as first:
            await tell(toys, first, CounterChanged(counter_id="a", value=7), 5, "changed")
            [record] = await toys.said(COUNTERS)

            class Died(BaseException):
                pass

            async def die(_: str) -> None:
                raise Died

            first.ears.fails = die
            with pytest.raises(BaseExceptionGroup):
                await first.consumer.process([record])
            stored = await first.ears.copies.get("a")
            assert stored is not None
            assert stored.value == 7
            assert first.ears.events == []
        async with listener(toys) as successor:
            await eventually(
                lambda: successor.ears.events == ["changed"], "the reaction runs for the redelivered event"
            )


class TestConsumerCommit:
    async def test_batch_commits_only_the_partitions_of_its_records(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            await count(toys, it, "a", 1)
            await eventually(lambda: it.ears.events == ["a-1"], "it is heard")
        admin = AIOKafkaAdminClient(**toys.connection.client_arguments())
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets(toys.prefix + SERVICE)
        finally:
            await admin.close()
        [record] = await toys.said(COUNTS)
        assert {(place.topic, place.partition): at.offset for place, at in committed.items()} == {
            (toys.prefix + COUNTS.name, record.partition): record.offset + 1
        }


class TestConsumerProjections:
    async def test_reaction_runs_for_an_event_older_than_the_projection(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            await tell(toys, it, CounterChanged(counter_id="a", value=2), 2, "newer")
            await tell(toys, it, CounterChanged(counter_id="a", value=1), 1, "older")
            await eventually(lambda: it.ears.events == ["newer", "older"], "both are heard")
            copied = await it.ears.copies.get("a")
            assert copied is not None
            assert copied.value == 2

    async def test_tombstone_leaves_a_grave_and_runs_its_reaction(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            await tell(toys, it, CounterChanged(counter_id="a", value=1), 1, "one")
            await it.producer.deliver(
                toys.prefix + COUNTERS.name,
                key=b"a",
                value=None,
                headers=envelope(CounterChanged, "a", 2, "gone").headers(),
            )
            await tell(toys, it, CounterChanged(counter_id="a", value=1), 1, "one")
            await eventually(lambda: len(it.ears.heard) == 3, "all three are heard")
            assert it.ears.heard == [("a", 1), ("a", None), ("a", 1)]
            assert await it.ears.copies.is_grave("a")
            assert await it.ears.copies.get("a") is None

    async def test_unwritable_row_makes_one_dead_letter_only(
        self,
        toys: ChassisHarness,
    ) -> None:
        async with listener(toys, started=False) as it:
            await tell(toys, it, CounterChanged(counter_id="a", value=2**70), 1, "too large for the store")
            await tell(toys, it, CounterChanged(counter_id="b", value=1), 1, "fine")
            await it.consumer.process(await toys.said(COUNTERS))
            letters = await dead_letters.list_dead_letters(toys.connection, toys.prefix, SERVICE)
            assert [letter.event_id for letter in letters] == ["too large for the store"]
            assert it.ears.events == ["fine"]
            assert await it.ears.copies.get("b") is not None


class TestUnprocessableRecords:
    async def test_poison_becomes_dead_letters_and_others_are_handled(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            await count(toys, it, "p", 1)
            expected = await poison(toys, it)
            await count(toys, it, "p", 2)

            async def put_aside() -> bool:
                return await codes(toys) == expected

            await eventually(put_aside, f"the dead letters are {expected}")
            await eventually(lambda: it.ears.heard == [("p", 1), ("p", 2)], "the neighbours are heard")
            everything = str(await dead_letters.list_dead_letters(toys.connection, toys.prefix, SERVICE))
            assert "Maria" not in everything
            assert it.health.check_liveness().ok

    async def test_unknown_type_is_skipped(self, toys: ChassisHarness) -> None:
        class Unheard(Counted):
            TYPE = "toys.counter.unheard.v1"

        async with listener(toys) as it:
            await tell(toys, it, Unheard(counter_id="p", by=1, value=1), 1, "unknown")
            await count(toys, it, "p", 2)
            await eventually(lambda: it.ears.heard == [("p", 2)], "the one that is known is heard")
            assert await codes(toys) == []

    async def test_failed_reaction_makes_a_dead_letter_and_continues(self, toys: ChassisHarness) -> None:
        """Both a bug and a ``PermanentFailure``."""
        async with listener(toys) as it:
            bug, refusal = failing(KeyError("Maria"), "a-1"), failing(PermanentFailure("refused for good"), "a-2")

            async def both(id: str) -> None:
                await bug(id)
                await refusal(id)

            it.ears.fails = both
            for n in (1, 2, 3):
                await count(toys, it, "a", n)
            await eventually(lambda: it.ears.events == ["a-3"], "the third is heard")
            letters = await dead_letters.list_dead_letters(toys.connection, toys.prefix, SERVICE)
            assert {(letter.code, letter.event_id) for letter in letters} == {("bug", "a-1"), ("refused", "a-2")}
            assert not any("Maria" in letter.detail for letter in letters)


class TestCircuitBreaker:
    async def test_bad_deploy_halts_before_most_records_are_dead_letters(
        self,
        toys: ChassisHarness,
    ) -> None:
        """The consumer reports itself unhealthy, and a fixed version handles the remaining records."""
        async with listener(toys, started=False) as alone:
            await asyncio.gather(*(count(toys, alone, f"k{n}", n) for n in range(1, 301)))
        async with listener(toys) as bad:

            async def always(_: str) -> None:
                raise KeyError("a bug")

            bad.ears.fails = always
            await eventually(lambda: not bad.health.check_liveness().ok, "it says that it has stopped")
            assert len(await codes(toys)) < 60
        async with listener(toys) as mended:
            await eventually(lambda: len(set(mended.ears.events)) >= 240, "the mended version hears what is left")

    async def test_mostly_failing_batch_makes_no_dead_letters(self, toys: ChassisHarness) -> None:
        async with listener(toys, started=False) as it:
            for n in range(1, 301):
                await count(toys, it, f"k{n}", n)
            records = await toys.said(COUNTS)
            records.sort(key=lambda record: int((record.key or b"k0")[1:]))

            async def first_ones(id: str) -> None:
                if int(id.split("-")[1]) <= 199:
                    raise KeyError("a bug that spares the newest")

            it.ears.fails = first_ones
            handling = asyncio.create_task(it.consumer.process(records))
            await eventually(lambda: not it.health.check_liveness().ok, "it says that it has stopped")
            it.consumer._closing.set()
            await asyncio.gather(handling, return_exceptions=True)
            assert await codes(toys) == []


class TestConsumerLag:
    async def test_progress_is_reported_to_health(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            for n in range(1, 4):
                await count(toys, it, "a", n)
            await eventually(lambda: len(it.ears.heard) == 3, "all three are heard")
            await it.consumer.report_lag()
            assert it.health.check_liveness().ok
