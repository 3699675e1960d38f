"""Records that could not be processed are kept and can be replayed. Restricted data stays in its topic."""

import pytest

from chassis.messaging import dead_letters
from chassis.messaging.records import KafkaRecord
from contracts.envelope import dead_letters_of, retries_of, source_of
from tests.chassis.fake_consumer import FakeConsumer, run_fake_consumer
from tests.chassis.harness import (
    COUNTERS,
    COUNTS,
    SERVICE,
    WHISPERS,
    ChassisHarness,
    Counted,
    CounterChanged,
    Whispered,
    build_envelope,
    eventually,
    set_max_record_bytes,
)

DEAD_LETTERS = dead_letters_of(SERVICE)


async def list_dead_letters(harness: ChassisHarness) -> list[dead_letters.DeadLetter]:
    return await dead_letters.list_dead_letters(harness.connection, harness.prefix, SERVICE)


async def publish_whisper(harness: ChassisHarness, fake: FakeConsumer, id: str, value: bytes | None = None) -> None:
    secret = Whispered(counter_id="c", secret="the secret").model_dump_json().encode()
    headers = [*build_envelope(Whispered, "c", 1, id).headers(), ("ce_note", b"the secret")]
    topic = WHISPERS.full_name(harness.prefix)
    await fake.producer.deliver(topic, key=b"the secret", value=value or secret, headers=headers)


async def publish_count(harness: ChassisHarness, fake: FakeConsumer, id: str, sequence: int = 1) -> None:
    await fake.producer.deliver(
        COUNTS.full_name(harness.prefix),
        key=b"c",
        value=Counted(counter_id="c", by=sequence, value=1).model_dump_json().encode(),
        headers=build_envelope(Counted, "c", sequence, id).headers(),
    )


def fail_for(fake: FakeConsumer, *ids: str) -> None:
    async def refuse(id: str) -> None:
        if id in ids:
            raise KeyError("a bug")

    fake.service.before_handling = refuse


async def replay(harness: ChassisHarness, fake: FakeConsumer, dead_letter: dead_letters.DeadLetter) -> None:
    await dead_letters.replay_dead_letter(
        fake.producer, harness.connection, harness.prefix, SERVICE, dead_letter.position
    )


async def wait_for_dead_letter(harness: ChassisHarness) -> dead_letters.DeadLetter:
    async def is_written() -> bool:
        return await dead_letters.count_dead_letters(harness.connection, harness.prefix, SERVICE) == 1

    await eventually(is_written, "there is one dead letter")
    return (await list_dead_letters(harness))[0]


class TestDeadLetterContent:
    async def test_restricted_record_leaves_only_a_pointer(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            fail_for(fake, "w1")
            await publish_whisper(harness, fake, "w1")
            dead_letter = await wait_for_dead_letter(harness)
        [record] = await harness.read_records(DEAD_LETTERS)
        assert dead_letter.restricted
        assert (dead_letter.topic, dead_letter.event_id, dead_letter.type) == (WHISPERS.name, "w1", Whispered.TYPE)
        assert not record.value
        assert b"the secret" not in b"".join([record.key or b"", *(value for _, value in record.headers)])

    async def test_other_record_keeps_its_bytes_and_headers(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            fail_for(fake, "n1")
            await publish_count(harness, fake, "n1")
            await wait_for_dead_letter(harness)
        [record] = await harness.read_records(DEAD_LETTERS)
        [first] = await harness.read_records(COUNTS)
        assert (record.key, record.value) == (first.key, first.value)
        assert set(first.headers) <= set(record.headers)

    async def test_record_without_key_and_value_becomes_a_dead_letter(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness, started=False) as fake:
            headers = tuple(build_envelope(Counted, "c", 1, "empty").headers())
            await fake.consumer.process([KafkaRecord(COUNTS.name, 0, 0, None, None, headers)])
            [dead_letter] = await list_dead_letters(harness)
            assert dead_letter.code == "unexpected_tombstone"

    async def test_huge_headers_do_not_exceed_the_size_limit(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness, started=False) as fake:
            huge = [(f"ce_{name}", b"x" * 200_000) for name in ("id", "type", "a", "b", "c", "d")]
            headers = [("ce_source", source_of(SERVICE).encode()), *huge]
            await fake.consumer.process([KafkaRecord(COUNTS.name, 0, 0, b"c", b"{}", tuple(headers))])
            [dead_letter] = await list_dead_letters(harness)
            assert dead_letter.code == "bad_envelope"


class TestDeadLetterReplay:
    @pytest.mark.parametrize("restricted", [False, True])
    async def test_replay_retries_the_event_and_keeps_the_dead_letter(
        self, harness: ChassisHarness, *, restricted: bool
    ) -> None:
        async with run_fake_consumer(harness) as fake:
            fail_for(fake, "e1")
            await (publish_whisper if restricted else publish_count)(harness, fake, "e1")
            dead_letter = await wait_for_dead_letter(harness)
            fail_for(fake)
            await replay(harness, fake, dead_letter)
            await eventually(lambda: fake.service.event_ids == ["e1"], "the event is handled after the replay")
            assert fake.service.handled == [("c", "whispered" if restricted else 1)]
            assert len(await list_dead_letters(harness)) == 1

    @pytest.mark.parametrize("restricted", [False, True])
    async def test_failed_replay_makes_a_dead_letter_of_the_same_origin(
        self, harness: ChassisHarness, *, restricted: bool
    ) -> None:
        async with run_fake_consumer(harness) as fake:
            fail_for(fake, "e1")
            await (publish_whisper if restricted else publish_count)(harness, fake, "e1")
            dead_letter = await wait_for_dead_letter(harness)
            await replay(harness, fake, dead_letter)

            async def is_written_again() -> bool:
                return len(await list_dead_letters(harness)) == 2

            await eventually(is_written_again, "there are two dead letters")
            both = await list_dead_letters(harness)
            assert {(copy.topic, copy.partition, copy.offset, copy.restricted) for copy in both} == {
                (dead_letter.topic, dead_letter.partition, dead_letter.offset, restricted)
            }

    async def test_tombstone_can_be_replayed(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            fail_for(fake, "gone")
            headers = build_envelope(CounterChanged, "c", 3, "gone").headers()
            await fake.producer.deliver(COUNTERS.full_name(harness.prefix), key=b"c", value=None, headers=headers)
            dead_letter = await wait_for_dead_letter(harness)
            fail_for(fake)
            await replay(harness, fake, dead_letter)
            await eventually(lambda: fake.service.handled == [("c", None)], "the tombstone is handled")
            assert await fake.service.copies.is_grave("c")

    async def test_too_large_record_leaves_a_pointer_and_can_be_replayed(
        self,
        harness: ChassisHarness,
    ) -> None:
        await set_max_record_bytes(harness, COUNTS, 1_100_000)
        async with run_fake_consumer(harness) as fake:
            fail_for(fake, "huge")
            huge = Counted(counter_id="c", by=1, value=1, note="x" * 1_020_000).model_dump_json().encode()
            headers = build_envelope(Counted, "c", 1, "huge").headers()
            await fake.producer.deliver(COUNTS.full_name(harness.prefix), key=b"c", value=huge, headers=headers)
            await publish_count(harness, fake, "neighbour", 2)
            await eventually(lambda: fake.service.event_ids == ["neighbour"], "the other event is handled")
            dead_letter = await wait_for_dead_letter(harness)
            assert dead_letter.restricted
            fail_for(fake)
            await replay(harness, fake, dead_letter)
            await eventually(
                lambda: fake.service.event_ids == ["neighbour", "huge"], "the event is handled after the replay"
            )


class TestUnusableRetries:
    async def test_pointer_to_a_missing_record_is_skipped(self, harness: ChassisHarness) -> None:
        async with run_fake_consumer(harness) as fake:
            pointer = [("dl-topic", COUNTS.name.encode()), ("dl-partition", b"0"), ("dl-offset", b"1000")]
            topic = retries_of(SERVICE).full_name(harness.prefix)
            await fake.producer.deliver(topic, key=None, value=b"", headers=[*pointer, ("dl-pointer", b"true")])
            await publish_count(harness, fake, "next")
            await eventually(lambda: fake.service.event_ids == ["next"], "the next event is handled")
            assert await list_dead_letters(harness) == []

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("dl-topic", b"counts.v1"), ("dl-partition", b"one"), ("dl-offset", b"1")],
            [("dl-topic", b"no-such-topic"), ("dl-partition", b"0"), ("dl-offset", b"0"), ("dl-pointer", b"true")],
            [("dl-topic", b"no topic!"), ("dl-partition", b"0"), ("dl-offset", b"0"), ("dl-pointer", b"true")],
            [("dl-topic", b"\xff"), ("dl-partition", b"0"), ("dl-offset", b"0"), ("dl-pointer", b"true")],
        ],
    )
    async def test_retry_without_origin_becomes_a_dead_letter(
        self, harness: ChassisHarness, headers: list[tuple[str, bytes]]
    ) -> None:
        """The records after it are handled."""
        async with run_fake_consumer(harness) as fake:
            topic = retries_of(SERVICE).full_name(harness.prefix)
            await fake.producer.deliver(topic, key=b"k", value=b"v", headers=headers)
            await publish_count(harness, fake, "next")
            await eventually(lambda: fake.service.event_ids == ["next"], "the next event is handled")
            assert (await wait_for_dead_letter(harness)).code == "bad_retry"

    async def test_invalid_position_raises_lookup_error(self, harness: ChassisHarness) -> None:
        for position in ("nonsense", "1", "1-2-3", "0-5", "99-0"):
            with pytest.raises(LookupError):
                await dead_letters.read_dead_letter(harness.connection, harness.prefix, SERVICE, position)
