"""A reader's wishes, and the places of a week: whatever comes in whatever order, no more than the cap get through."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidCommand
from services.notifier.domain.catalogue import Kind
from services.notifier.domain.recipient import (
    WEEK,
    ChannelPreference,
    QuietHoursPreference,
    Recipient,
    forget,
    next_free_slot,
    release_weekly_slot,
    set_preferences,
    take_weekly_slot,
)

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
KINDS: list[Kind] = ["essential", "nudge"]

attempts = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5000), st.sampled_from(KINDS)), max_size=40)


@given(attempts, st.integers(1, 5))
def test_in_no_seven_days_are_there_more_messages_than_the_cap(tries: list[tuple[int, int, Kind]], cap: int) -> None:
    reader: Recipient | None = None
    said: dict[str, datetime] = {}
    now = START
    for number, minutes, kind in tries:
        now += timedelta(minutes=minutes)
        done = take_weekly_slot(reader, "m1", f"n{number}", kind, cap, now)
        if done is not None:
            reader = done[0]
            said[f"n{number}"] = now
        for end in said.values():
            assert sum(end - WEEK < at <= end for at in said.values()) <= cap


@given(attempts, st.integers(1, 5), st.sampled_from(KINDS))
def test_a_place_is_free_when_it_was_said_to_be_and_not_before(
    tries: list[tuple[int, int, Kind]], cap: int, kind: Kind
) -> None:
    reader: Recipient | None = None
    now = START
    for number, minutes, one in tries:
        now += timedelta(minutes=minutes)
        done = take_weekly_slot(reader, "m1", f"n{number}", one, cap, now)
        reader = done[0] if done else reader
    free = next_free_slot(reader, "new", kind, cap, now)
    assert take_weekly_slot(reader, "m1", "new", kind, cap, free) is not None
    if free > now:
        assert take_weekly_slot(reader, "m1", "new", kind, cap, free - timedelta(seconds=1)) is None


def test_what_asks_nothing_leaves_one_place_for_what_does() -> None:
    reader: Recipient | None = None
    for number in range(2):
        done = take_weekly_slot(reader, "m1", f"n{number}", "nudge", 3, START)
        assert done is not None
        reader = done[0]
    assert take_weekly_slot(reader, "m1", "n3", "nudge", 3, START) is None
    assert take_weekly_slot(reader, "m1", "n3", "essential", 3, START) is not None


def test_the_same_message_takes_one_place_however_often_it_is_tried() -> None:
    reader: Recipient | None = None
    for days in range(5):
        done = take_weekly_slot(reader, "m1", "n1", "essential", 1, START + timedelta(days=days))
        assert done is not None
        reader = done[0]
        assert len(reader.places) == 1
    assert take_weekly_slot(reader, "m1", "n2", "essential", 1, START + timedelta(days=5)) is None
    back = release_weekly_slot(reader, "n1")
    assert back is not None
    assert take_weekly_slot(back[0], "m1", "n2", "essential", 1, START + timedelta(days=5)) is not None
    assert release_weekly_slot(back[0], "n1") is None


def test_what_waits_for_an_answer_always_stands_in_the_inbox() -> None:
    with pytest.raises(InvalidCommand) as refused:
        set_preferences(None, "m1", {"proposal": ChannelPreference(inbox=False)}, None)
    assert refused.value.code == "inbox_is_needed"
    with pytest.raises(InvalidCommand) as refused:
        set_preferences(None, "m1", {"weather": ChannelPreference()}, None)
    assert refused.value.code == "unknown_purpose"
    reader, said = set_preferences(
        None, "m1", {"proposal": ChannelPreference(email=False)}, QuietHoursPreference(from_hour=22, until_hour=6)
    )
    assert said == []
    assert not reader.channels_for("proposal").email
    assert reader.channels_for("ended") == ChannelPreference()


def test_nothing_of_an_erased_reader_stays() -> None:
    reader, _ = set_preferences(
        None, "m1", {"ended": ChannelPreference(email=False)}, QuietHoursPreference(from_hour=22, until_hour=6)
    )
    forgotten = forget(reader)
    assert forgotten is not None
    assert forgotten[0] == Recipient(member_id="")
    assert forget(forgotten[0]) is None
