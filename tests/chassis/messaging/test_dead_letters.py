"""What could not be processed is kept to be looked at and tried again; what is restricted stays where it is."""

import pytest

from chassis.messaging import dead_letters
from chassis.messaging.records import KafkaRecord
from contracts.envelope import dead_letters_of, retries_of
from tests.chassis.fake_consumer import Listener, listener
from tests.chassis.harness import (
    COUNTERS,
    COUNTS,
    SERVICE,
    WHISPERS,
    ChassisHarness,
    Counted,
    CounterChanged,
    Whispered,
    envelope,
    eventually,
    set_max_record_bytes,
)

LETTERS = dead_letters_of(SERVICE)


async def letters(toys: ChassisHarness) -> list[dead_letters.DeadLetter]:
    return await dead_letters.list_dead_letters(toys.connection, toys.prefix, SERVICE)


async def whisper(toys: ChassisHarness, it: Listener, id: str, value: bytes | None = None) -> None:
    secret = Whispered(counter_id="c", secret="the secret").model_dump_json().encode()
    headers = [*envelope(Whispered, "c", 1, id).headers(), ("ce_note", b"the secret")]
    topic = WHISPERS.full_name(toys.prefix)
    await it.producer.deliver(topic, key=b"the secret", value=value or secret, headers=headers)


async def count(toys: ChassisHarness, it: Listener, id: str, sequence: int = 1) -> None:
    await it.producer.deliver(
        COUNTS.full_name(toys.prefix),
        key=b"c",
        value=Counted(counter_id="c", by=sequence, value=1).model_dump_json().encode(),
        headers=envelope(Counted, "c", sequence, id).headers(),
    )


def refusing(it: Listener, *ids: str) -> None:
    async def refuse(id: str) -> None:
        if id in ids:
            raise KeyError("a bug")

    it.ears.fails = refuse


async def replayed(toys: ChassisHarness, it: Listener, letter: dead_letters.DeadLetter) -> None:
    await dead_letters.replay_dead_letter(it.producer, toys.connection, toys.prefix, SERVICE, letter.position)


async def one_letter(toys: ChassisHarness) -> dead_letters.DeadLetter:
    async def there() -> bool:
        return await dead_letters.count_dead_letters(toys.connection, toys.prefix, SERVICE) == 1

    await eventually(there, "one dead letter lies there")
    return (await letters(toys))[0]


class TestDeadLetterContent:
    async def test_restricted_record_leaves_only_a_pointer(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            refusing(it, "w1")
            await whisper(toys, it, "w1")
            letter = await one_letter(toys)
        [record] = await toys.said(LETTERS)
        assert letter.restricted
        assert (letter.topic, letter.event_id, letter.type) == (WHISPERS.name, "w1", Whispered.TYPE)
        assert not record.value
        assert b"the secret" not in b"".join([record.key or b"", *(value for _, value in record.headers)])

    async def test_other_record_keeps_its_bytes_and_headers(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            refusing(it, "n1")
            await count(toys, it, "n1")
            await one_letter(toys)
        [record] = await toys.said(LETTERS)
        [first] = await toys.said(COUNTS)
        assert (record.key, record.value) == (first.key, first.value)
        assert set(first.headers) <= set(record.headers)

    async def test_record_without_key_and_value_becomes_a_dead_letter(self, toys: ChassisHarness) -> None:
        async with listener(toys, started=False) as it:
            headers = tuple(envelope(Counted, "c", 1, "empty").headers())
            await it.consumer.process([KafkaRecord(COUNTS.name, 0, 0, None, None, headers)])
            [letter] = await letters(toys)
            assert letter.code == "unexpected_tombstone"

    async def test_huge_headers_do_not_exceed_the_size_limit(self, toys: ChassisHarness) -> None:
        async with listener(toys, started=False) as it:
            headers = ((f"ce_{name}", b"x" * 200_000) for name in ("id", "type", "a", "b", "c", "d"))
            await it.consumer.process([KafkaRecord(COUNTS.name, 0, 0, b"c", b"{}", tuple(headers))])
            [letter] = await letters(toys)
            assert letter.code == "bad_envelope"


class TestDeadLetterReplay:
    @pytest.mark.parametrize("restricted", [False, True])
    async def test_replay_retries_the_event_and_keeps_the_dead_letter(
        self, toys: ChassisHarness, *, restricted: bool
    ) -> None:
        async with listener(toys) as it:
            refusing(it, "e1")
            await (whisper if restricted else count)(toys, it, "e1")
            letter = await one_letter(toys)
            refusing(it)
            await replayed(toys, it, letter)
            await eventually(lambda: it.ears.events == ["e1"], "it is heard after all")
            assert it.ears.heard == [("c", "whispered" if restricted else 1)]
            assert len(await letters(toys)) == 1

    @pytest.mark.parametrize("restricted", [False, True])
    async def test_failed_replay_makes_a_dead_letter_of_the_same_origin(
        self, toys: ChassisHarness, *, restricted: bool
    ) -> None:
        async with listener(toys) as it:
            refusing(it, "e1")
            await (whisper if restricted else count)(toys, it, "e1")
            letter = await one_letter(toys)
            await replayed(toys, it, letter)

            async def twice() -> bool:
                return len(await letters(toys)) == 2

            await eventually(twice, "it lies there again")
            both = await letters(toys)
            assert {(one.topic, one.partition, one.offset, one.restricted) for one in both} == {
                (letter.topic, letter.partition, letter.offset, restricted)
            }

    async def test_tombstone_can_be_replayed(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            refusing(it, "gone")
            headers = envelope(CounterChanged, "c", 3, "gone").headers()
            await it.producer.deliver(COUNTERS.full_name(toys.prefix), key=b"c", value=None, headers=headers)
            letter = await one_letter(toys)
            refusing(it)
            await replayed(toys, it, letter)
            await eventually(lambda: it.ears.heard == [("c", None)], "the tombstone is heard")
            assert await it.ears.copies.is_grave("c")

    async def test_too_large_record_leaves_a_pointer_and_can_be_replayed(
        self,
        toys: ChassisHarness,
    ) -> None:
        await set_max_record_bytes(toys, COUNTS, 1_100_000)
        async with listener(toys) as it:
            refusing(it, "huge")
            huge = Counted(counter_id="c", by=1, value=1, note="x" * 1_020_000).model_dump_json().encode()
            headers = envelope(Counted, "c", 1, "huge").headers()
            await it.producer.deliver(COUNTS.full_name(toys.prefix), key=b"c", value=huge, headers=headers)
            await count(toys, it, "neighbour", 2)
            await eventually(lambda: it.ears.events == ["neighbour"], "its neighbour is heard")
            letter = await one_letter(toys)
            assert letter.restricted
            refusing(it)
            await replayed(toys, it, letter)
            await eventually(lambda: it.ears.events == ["neighbour", "huge"], "it is heard after all")


class TestUnusableRetries:
    async def test_pointer_to_a_missing_record_is_skipped(self, toys: ChassisHarness) -> None:
        async with listener(toys) as it:
            pointer = [("dl-topic", COUNTS.name.encode()), ("dl-partition", b"0"), ("dl-offset", b"1000")]
            topic = retries_of(SERVICE).full_name(toys.prefix)
            await it.producer.deliver(topic, key=None, value=b"", headers=[*pointer, ("dl-pointer", b"true")])
            await count(toys, it, "next")
            await eventually(lambda: it.ears.events == ["next"], "the next one is heard")
            assert await letters(toys) == []

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
        self, toys: ChassisHarness, headers: list[tuple[str, bytes]]
    ) -> None:
        """The records after it are handled."""
        async with listener(toys) as it:
            topic = retries_of(SERVICE).full_name(toys.prefix)
            await it.producer.deliver(topic, key=b"k", value=b"v", headers=headers)
            await count(toys, it, "next")
            await eventually(lambda: it.ears.events == ["next"], "the next one is heard")
            assert (await one_letter(toys)).code == "bad_retry"

    async def test_invalid_position_raises_lookup_error(self, toys: ChassisHarness) -> None:
        for place in ("nonsense", "1", "1-2-3", "0-5", "99-0"):
            with pytest.raises(LookupError):
                await dead_letters.read_dead_letter(toys.connection, toys.prefix, SERVICE, place)
