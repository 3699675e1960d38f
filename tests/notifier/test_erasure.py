"""Notifier reports an erasure only when no name and no address of the member is stored any more."""

from datetime import UTC, datetime

from chassis.core.commands import Op
from chassis.core.settings import Settings
from chassis.messaging.subscriptions import ReceivedEvent
from chassis.service import Chassis
from chassis.storage.projections import ProjectionRow
from contracts.envelope import Envelope
from contracts.privacy import ErasureRequested
from contracts.profiles import ContactChanged
from deploy.local import stack
from services.notifier.__main__ import build
from services.notifier.handlers import when_an_erasure_is_requested_begin_it

NOW = datetime(2026, 3, 2, tzinfo=UTC)


class TestErasure:
    async def test_waits_for_the_tombstone_of_the_contact(self, servers: stack.Endpoints, prefix: str) -> None:
        chassis = Chassis("notifier", Settings(mongo=servers.mongo, topic_prefix=prefix))  # type: ignore[arg-type]
        parts = build(chassis)
        notifier = parts.context
        await chassis.prepare_database()
        await notifier.contacts.apply([ProjectionRow("m1", 1, ContactChanged(member_id="m1", display_name="Al Ek"))])
        request = ErasureRequested(member_id="m1", requested_at=NOW)
        envelope = Envelope(
            id="x1",
            type=request.TYPE,
            source="/viceversa/profiles",
            subject="m1",
            time=NOW,
            sequence=3,
            correlationid="m1",
        )
        for _ in range(2):
            await when_an_erasure_is_requested_begin_it(ReceivedEvent(envelope, request), notifier)
        for sweep in parts.sweeps:
            await sweep.once(chassis.clock)
        waiting = await notifier.erasures.get("m1")
        assert waiting is not None
        assert waiting.state.completed_at is None
        await notifier.contacts.apply([ProjectionRow("m1", 2, None)])
        await notifier.erasures.update(
            "m1",
            Op("a second goes by"),
            lambda erasure: (erasure.model_copy(update={"lease": NOW}), []) if erasure else None,
        )
        for sweep in parts.sweeps:
            await sweep.once(chassis.clock)
        done = await notifier.erasures.get("m1")
        assert done is not None
        assert done.state.completed_at is not None
        stored = [document async for document in chassis.mongo.collection("contacts").find({})]
        assert "Al Ek" not in str(stored)
        chassis.mongo.close()
