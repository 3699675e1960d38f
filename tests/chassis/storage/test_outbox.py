"""What an event in the outbox tells of its cause."""

from datetime import UTC, datetime
from typing import ClassVar

import pytest

from chassis.storage.outbox import Draft
from contracts.envelope import Envelope, EventData, Topic

OPEN = Topic("murmurs.v1", "time")
RESTRICTED = Topic("secrets.v1", "time", readers=("toys",))


class MurmurHeard(EventData):
    TYPE: ClassVar[str] = "toys.murmur.heard.v1"
    TOPIC: ClassVar[Topic] = OPEN
    KEY: ClassVar[str] = "id"
    id: str = "one"


class SecretTold(MurmurHeard):
    TYPE: ClassVar[str] = "toys.secret.told.v1"
    TOPIC: ClassVar[Topic] = RESTRICTED


class TestCause:
    @pytest.mark.parametrize(
        ("cause", "effect", "is_named"),
        [
            (MurmurHeard, MurmurHeard, True),
            (MurmurHeard, SecretTold, True),
            (SecretTold, SecretTold, True),
            (SecretTold, MurmurHeard, False),
        ],
    )
    def test_an_open_event_names_no_restricted_cause(
        self, cause: type[MurmurHeard], effect: type[MurmurHeard], *, is_named: bool
    ) -> None:
        """Else an end by a wish of one of the two would differ from every other end."""
        envelope = Envelope("e-1", cause.TYPE, "/toys", "one", datetime(2026, 3, 2, tzinfo=UTC), 1, "one")
        [entry] = Draft("toys", datetime(2026, 3, 2, tzinfo=UTC), envelope).entries([effect()], 0, 0)
        assert (entry["causationid"] is not None) == is_named
