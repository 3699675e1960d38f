"""A row that a wrong sequence froze takes the newest record of its topic when an operator asks for it."""

from chassis.messaging.dead_letters import list_dead_letters
from chassis.messaging.unfreezing import request_unfreezing
from chassis.storage.projections import ProjectionRow
from contracts.envelope import EPOCH, MAX_EVENTS_OF_AN_EPOCH, Topic, retries_of
from tests.chassis.fake_consumer import FakeConsumer, run_fake_consumer
from tests.chassis.harness import COUNTERS, SERVICE, ChassisHarness, CounterChanged, build_envelope, eventually

FORGED = 1023 * EPOCH + MAX_EVENTS_OF_AN_EPOCH
"""The highest plausible sequence: no epoch that `viceversa restored` begins is above it."""


async def publish_value(harness: ChassisHarness, fake: FakeConsumer, value: int | None, sequence: int) -> None:
    event = CounterChanged(counter_id="c", value=value or 0)
    await fake.producer.deliver(
        COUNTERS.full_name(harness.prefix),
        key=b"c",
        value=None if value is None else event.model_dump_json().encode(),
        headers=build_envelope(CounterChanged, "c", sequence, f"c-{sequence}").headers(),
    )


async def value_of(fake: FakeConsumer) -> int | None:
    copy = await fake.service.copies.get("c")
    return copy.value if copy else None


async def unfreeze(harness: ChassisHarness, fake: FakeConsumer, topic: Topic = COUNTERS, key: str = "c") -> None:
    await request_unfreezing(fake.producer, harness.prefix, SERVICE, topic, key)


async def freeze(harness: ChassisHarness, fake: FakeConsumer) -> None:
    """A right record, a forged one in the name of the owner, and what the guardian publishes again."""
    await publish_value(harness, fake, 5, 5)
    await publish_value(harness, fake, 666, FORGED)
    await publish_value(harness, fake, 5, 5)
    await eventually(lambda: len(fake.service.handled) == 3, "all three are handled")
    assert await value_of(fake) == 666


class TestUnfreezing:
    async def test_a_frozen_row_takes_the_newest_record(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await freeze(harness, fake)
            await publish_value(harness, fake, 6, 6)
            await eventually(lambda: len(fake.service.handled) == 4, "the next event is handled")
            assert await value_of(fake) == 666, "the row is frozen"
            await unfreeze(harness, fake)
            await eventually(lambda: fake.service.unfrozen == [("c", 6)], "the request is handled")

            async def is_right() -> bool:
                return await value_of(fake) == 6

            await eventually(is_right, "the newest record is taken")
            await publish_value(harness, fake, 7, 7)
            await eventually(lambda: ("c", 7) in fake.service.handled, "later events are handled")
            assert await value_of(fake) == 7
            assert await list_dead_letters(harness.connection, harness.prefix, SERVICE) == []

    async def test_a_record_that_arrives_meanwhile_is_not_lost(self, harness: ChassisHarness) -> None:
        """The owner publishes between the first reading and the moment in which the row takes lower sequences again."""
        async with run_fake_consumer(harness) as fake:
            await freeze(harness, fake)
            unfreeze_row = fake.service.copies.unfreeze

            async def publish_before(row: ProjectionRow) -> bool:
                await publish_value(harness, fake, 6, 6)
                return await unfreeze_row(row)

            fake.service.copies.unfreeze = publish_before  # type: ignore[method-assign]
            records = await harness.read_records(COUNTERS)
            await unfreeze(harness, fake)

            async def is_right() -> bool:
                return await value_of(fake) == 6

            await eventually(is_right, "the record that was published meanwhile is taken")
            assert len(records) == 3

    async def test_an_erased_row_stays_a_grave(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await publish_value(harness, fake, 5, 5)
            await publish_value(harness, fake, None, FORGED)
            await publish_value(harness, fake, None, 6)
            await eventually(lambda: len(fake.service.handled) == 3, "all three are handled")
            await unfreeze(harness, fake)

            async def has_the_sequence() -> bool:
                return await fake.service.copies.sequences(["c"]) == {"c": 6}

            await eventually(has_the_sequence, "the grave has the right sequence")
            assert await fake.service.copies.is_grave("c")

    async def test_a_right_row_is_left_alone(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await publish_value(harness, fake, 5, 5)
            await eventually(lambda: fake.service.handled == [("c", 5)], "the record is handled")
            await unfreeze(harness, fake)
            await unfreeze(harness, fake, key="nobody")
            await eventually(lambda: fake.service.unfrozen == [("c", 5)], "the request is handled")
            assert await fake.service.copies.sequences(["c"]) == {"c": 5}
            assert await list_dead_letters(harness.connection, harness.prefix, SERVICE) == []

    async def test_a_bad_request_is_a_dead_letter_and_stops_nothing(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            await unfreeze(harness, fake, topic=retries_of("another"))
            await publish_value(harness, fake, 5, 5)
            await eventually(lambda: fake.service.handled == [("c", 5)], "later events are handled")

            async def is_aside() -> bool:
                letters = await list_dead_letters(harness.connection, harness.prefix, SERVICE)
                return [letter.code for letter in letters] == ["bad_retry"]

            await eventually(is_aside, "the request is put aside")
