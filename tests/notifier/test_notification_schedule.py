"""The rows of the schedule are the only declaration of a notification: handlers and texts follow from them."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from contracts.envelope import Envelope, EventData
from contracts.examples import examples
from contracts.feedback import PartnerChangeRequested, SessionCancelled
from contracts.pairings import PairingEvent, PairingFormed
from contracts.privacy import ErasureRequested
from services.notifier.domain.notification_schedule import (
    DAY,
    ROW_BY_PURPOSE,
    SCHEDULE,
    ScheduleRow,
    SendingFacts,
    event_types,
    is_meeting_unchanged,
)
from services.notifier.handlers import handler_of, register_schedule, registry
from services.notifier.store import Notifier


def handlers_for(handlers: HandlerRegistry[Notifier], event_type: type[EventData]) -> list[object]:
    envelope = Envelope(
        id="e1",
        type=event_type.TYPE,
        source="/viceversa/somebody",
        subject="x",
        time=datetime(2026, 3, 2, tzinfo=UTC),
        sequence=1,
        correlationid="x",
    )
    return list(handlers.find_reactions(ReceivedEvent(envelope, cast("Any", None))))


NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def cancelled(**changes: object) -> SessionCancelled:
    fields = {"pairing_id": "p1", "programme_id": "g1", "happened_at": NOON, "recorded_at": NOON}
    return SessionCancelled.model_validate(
        fields | {"session": {"session_id": "s1", "state": "cancelled", "starts_at": NOON}} | changes
    )


class TestMeetings:
    def test_each_of_several_is_reminded(self) -> None:
        formed = cast("PairingEvent", examples()[PairingFormed])
        times = (NOON, NOON + DAY / 2)
        feedback = cancelled(scheduled_at=times, next_session_at=NOON)
        for starts_at in times:
            assert is_meeting_unchanged(SendingFacts(pairing=formed, feedback=feedback, starts_at=starts_at))
        moved = SendingFacts(pairing=formed, feedback=feedback, starts_at=NOON + DAY)
        assert not is_meeting_unchanged(moved)

    def test_events_of_a_former_version_name_only_the_next(self) -> None:
        formed = cast("PairingEvent", examples()[PairingFormed])
        feedback = cancelled(next_session_at=NOON)
        assert is_meeting_unchanged(SendingFacts(pairing=formed, feedback=feedback, starts_at=NOON))

    def test_called_off_by_the_end_asks_for_no_new_time(self) -> None:
        row = ROW_BY_PURPOSE["meeting_off"]
        assert row.created_if(cancelled())
        assert not row.created_if(cancelled(by_end=True))


class TestRegistration:
    @pytest.mark.parametrize("event_type", list(event_types()), ids=lambda event_type: event_type.TYPE)
    def test_each_event_of_a_row_has_its_handler_once(self, event_type: type[EventData]) -> None:
        assert handlers_for(registry, event_type).count(handler_of(event_type)) == 1

    def test_a_new_row_is_enough_for_a_new_notification(self) -> None:
        handlers: HandlerRegistry[Notifier] = HandlerRegistry()
        row = ScheduleRow("new_purpose", (PartnerChangeRequested,), "both", "nudge", DAY)
        register_schedule(handlers, (*SCHEDULE, row))
        assert handlers_for(handlers, PartnerChangeRequested) == [handler_of(PartnerChangeRequested)]

    def test_a_row_for_an_unsupported_event_stops_the_start(self) -> None:
        row = ScheduleRow("new_purpose", (ErasureRequested,), "both", "nudge", DAY)
        with pytest.raises(TypeError, match=r"erasure\.requested"):
            register_schedule(HandlerRegistry(), (row,))

    def test_every_row_for_a_member_names_the_state_reached(self) -> None:
        assert all((row.audience == "the member") == (row.member_state is not None) for row in SCHEDULE)
