"""An erasure begins once, and is reported only when nothing is held any longer."""

from datetime import UTC, datetime

from contracts.privacy import ErasureCompleted
from services.feedback.domain.erasure import LOOK_AGAIN, looked, requested

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def test_asked_twice_it_begins_once_and_waits_until_nothing_is_held() -> None:
    begun = requested(None, "m1", NOW, NOW)
    assert begun is not None
    assert requested(begun[0], "m1", NOW, NOW) is None
    waiting = looked(begun[0], gone=False, now=NOW, machine=NOW)
    assert waiting is not None
    assert (waiting[0].lease, waiting[1]) == (NOW + LOOK_AGAIN, [])
    done = looked(waiting[0], gone=True, now=NOW, machine=NOW)
    assert done is not None
    assert done[1] == [ErasureCompleted(member_id="m1", service="feedback", completed_at=NOW)]
    assert looked(done[0], gone=True, now=NOW, machine=NOW) is None
