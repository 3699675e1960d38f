"""A recipient's preferences and weekly slots: no order of notifications exceeds the cap."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidCommand
from services.notifier.domain.notification_schedule import Kind
from services.notifier.domain.recipient import (
    WEEK,
    ChannelPreference,
    QuietHoursPreference,
    Recipient,
    erase_recipient,
    next_free_slot,
    release_weekly_slot,
    set_preferences,
    take_weekly_slot,
)

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
KINDS: list[Kind] = ["essential", "nudge"]

attempts = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5000), st.sampled_from(KINDS)), max_size=40)


class TestWeeklySlots:
    @given(attempts, st.integers(1, 5))
    def test_never_exceed_the_cap_within_seven_days(self, tries: list[tuple[int, int, Kind]], cap: int) -> None:
        recipient: Recipient | None = None
        sent_at: dict[str, datetime] = {}
        now = START
        for number, minutes, kind in tries:
            now += timedelta(minutes=minutes)
            done = take_weekly_slot(recipient, "m1", f"n{number}", kind, cap, now)
            if done is not None:
                recipient = done[0]
                sent_at[f"n{number}"] = now
            for end in sent_at.values():
                assert sum(end - WEEK < at <= end for at in sent_at.values()) <= cap

    @given(attempts, st.integers(1, 5), st.sampled_from(KINDS))
    def test_a_slot_is_free_exactly_at_the_computed_time(
        self, tries: list[tuple[int, int, Kind]], cap: int, kind: Kind
    ) -> None:
        recipient: Recipient | None = None
        now = START
        for number, minutes, other_kind in tries:
            now += timedelta(minutes=minutes)
            done = take_weekly_slot(recipient, "m1", f"n{number}", other_kind, cap, now)
            recipient = done[0] if done else recipient
        free = next_free_slot(recipient, "new", kind, cap, now)
        assert take_weekly_slot(recipient, "m1", "new", kind, cap, free) is not None
        if free > now:
            assert take_weekly_slot(recipient, "m1", "new", kind, cap, free - timedelta(seconds=1)) is None

    def test_nudges_leave_one_slot_for_essential_ones(self) -> None:
        recipient: Recipient | None = None
        for number in range(2):
            done = take_weekly_slot(recipient, "m1", f"n{number}", "nudge", 3, START)
            assert done is not None
            recipient = done[0]
        assert take_weekly_slot(recipient, "m1", "n3", "nudge", 3, START) is None
        assert take_weekly_slot(recipient, "m1", "n3", "essential", 3, START) is not None

    def test_a_repeated_notification_takes_one_slot(self) -> None:
        recipient: Recipient | None = None
        for days in range(5):
            done = take_weekly_slot(recipient, "m1", "n1", "essential", 1, START + timedelta(days=days))
            assert done is not None
            recipient = done[0]
            assert len(recipient.places) == 1
        assert take_weekly_slot(recipient, "m1", "n2", "essential", 1, START + timedelta(days=5)) is None
        back = release_weekly_slot(recipient, "n1")
        assert back is not None
        assert take_weekly_slot(back[0], "m1", "n2", "essential", 1, START + timedelta(days=5)) is not None
        assert release_weekly_slot(back[0], "n1") is None


class TestPreferences:
    def test_essential_purposes_always_reach_the_inbox(self) -> None:
        with pytest.raises(InvalidCommand) as rejection:
            set_preferences(None, "m1", {"proposal": ChannelPreference(inbox=False)}, None)
        assert rejection.value.code == "inbox_is_needed"
        with pytest.raises(InvalidCommand) as rejection:
            set_preferences(None, "m1", {"weather": ChannelPreference()}, None)
        assert rejection.value.code == "unknown_purpose"
        recipient, sent_at = set_preferences(
            None, "m1", {"proposal": ChannelPreference(email=False)}, QuietHoursPreference(from_hour=22, until_hour=6)
        )
        assert sent_at == []
        assert not recipient.channels_for("proposal").email
        assert recipient.channels_for("ended") == ChannelPreference()


class TestErasedRecipient:
    def test_keeps_nothing(self) -> None:
        recipient, _ = set_preferences(
            None, "m1", {"ended": ChannelPreference(email=False)}, QuietHoursPreference(from_hour=22, until_hour=6)
        )
        erased = erase_recipient(recipient)
        assert erased is not None
        assert erased[0] == Recipient(member_id="")
        assert erase_recipient(erased[0]) is None
