"""Feedback reports an erasure only when no pairing of the member is left here."""

from datetime import UTC, datetime

from chassis.aggregates import Op
from chassis.hearing import Heard
from chassis.projections import Row
from chassis.service import Chassis
from chassis.settings import Settings
from contracts.envelope import Envelope
from contracts.pairings import PairingState, Participant
from contracts.people import ErasureCompleted, ErasureRequested
from deploy.local import stack
from services.feedback.__main__ import build
from services.feedback.domain import LOOK_AGAIN, looked, requested
from services.feedback.handlers import when_an_erasure_is_requested_begin_to_forget

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def test_asked_twice_it_begins_once() -> None:
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


def pairing(senior: str, junior: str) -> PairingState:
    return PairingState(
        pairing_id="pair",
        state="formed",
        happened_at=NOW,
        recorded_at=NOW,
        programme_id="p1",
        programme_version=1,
        origin="round",
        participants=(
            Participant(member_id=senior, side="senior", organisation_id="halden", department_id="it"),
            Participant(member_id=junior, side="junior", organisation_id="halden", department_id="it"),
        ),
        proposed_at=NOW,
        answer_by=NOW,
    )


async def test_it_waits_for_the_tombstones_of_the_pairings(servers: stack.Endpoints, prefix: str) -> None:
    chassis = Chassis("feedback", Settings(mongo=servers.mongo, topic_prefix=prefix))  # type: ignore[arg-type]
    parts = build(chassis)
    feedback = parts.context
    await chassis.prepare_database()
    await feedback.pairings.apply([Row("pair", 1, pairing("m1", "m2"))])
    asked = ErasureRequested(member_id="m1", requested_at=NOW)
    envelope = Envelope(
        id="x1", type=asked.TYPE, source="/viceversa/profiles", subject="m1", time=NOW, sequence=3, correlationid="m1"
    )
    for _ in range(2):
        await when_an_erasure_is_requested_begin_to_forget(Heard(envelope, asked), feedback)
    for sweep in parts.sweeps:
        await sweep.once(chassis.clock)
    waiting = await feedback.erasures.get("m1")
    assert waiting is not None
    assert waiting.state.completed_at is None
    await feedback.pairings.apply([Row("pair", 2, None)])
    await feedback.erasures.update(
        "m1", Op("a second goes by"), lambda known: (known.model_copy(update={"lease": NOW}), []) if known else None
    )
    for sweep in parts.sweeps:
        await sweep.once(chassis.clock)
    done = await feedback.erasures.get("m1")
    assert done is not None
    assert done.state.completed_at is not None
    kept = [document async for document in chassis.mongo.collection("pairings").find({})]
    assert "m1" not in str(kept)
    chassis.mongo.close()
