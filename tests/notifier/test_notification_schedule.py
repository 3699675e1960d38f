"""The rows of the schedule are the only declaration of a notification: handlers and texts follow from them."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from contracts.envelope import Envelope, EventData
from contracts.feedback import PartnerChangeRequested
from contracts.privacy import ErasureRequested
from services.notifier.domain.notification_schedule import DAY, SCHEDULE, ScheduleRow, event_types
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
