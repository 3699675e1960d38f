"""The relay publishes what was saved, in every replica, right after the save; a sweep picks up what a crash left.

The load-bearing invariants:

* of one aggregate, events are sent in the order of its outbox, and an outbox entry goes only after its record was
  acknowledged by all in-sync replicas;
* the outbox is emptied, and ``outbox_since`` goes, only where the version is still the one that was read; otherwise
  exactly the acknowledged ids are taken out, since a later save has events, and a relay, of its own.

More than one replica may publish the same event; subscribers know it by its id, and the guardian sees to it that the
last record of a compacted topic is right all the same.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from aiokafka.errors import KafkaError, KafkaTimeoutError
from pymongo import UpdateOne

from chassis.core.clocks import Clock
from chassis.observability import metrics
from chassis.observability.telemetry import send_span
from chassis.storage import outbox
from chassis.storage.aggregates import RELAY_LEASE, Aggregates
from chassis.storage.mongo import MAX_BULK_OPERATIONS, Document, PyMongoError, chunks

log = logging.getLogger(__name__)

REMEMBERED_EVENTS = 100_000  # acknowledged event ids kept, so that a second push of a document sends only what is new
MAX_BACKLOG = 5_000  # documents waiting or in hand; bulk work pauses there, so that each is done within its lease
PUBLISH_BATCH = 1_000  # documents in one go


class RecordSender(Protocol):
    """Whoever brings records to the broker: the producer."""

    async def send(
        self, topic: str, *, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[Any]":
        """Hand one record over; the future is done when all in-sync replicas have it."""
        ...

    async def renew(self) -> None:
        """Start afresh after an error that this producer cannot recover from."""
        ...


@dataclass(frozen=True)
class _Acknowledged:
    """One aggregate whose events have been acknowledged and are to leave its outbox."""

    aggregates: Aggregates[Any]
    document: Document
    ids: tuple[str, ...]


@dataclass(frozen=True)
class _PublishedBatch:
    """A batch after it was sent: the places of all of it, and what of it is to be cleaned up."""

    places: tuple[tuple[str, str], ...]
    sent: list[_Acknowledged]


class Relay:
    """Publishes for all aggregates of one service; ``run`` drives it until it is cancelled."""

    def __init__(
        self, producer: RecordSender, service: str, prefix: str, clock: Clock, lease: timedelta = RELAY_LEASE
    ) -> None:
        self._producer = producer
        self._service = service
        self._prefix = prefix
        self._clock = clock
        self.lease = lease
        self._waiting: OrderedDict[tuple[str, str], tuple[Aggregates[Any], Document]] = OrderedDict()
        self._wake = asyncio.Event()
        self._sent: asyncio.Queue[_PublishedBatch] = asyncio.Queue(maxsize=8)
        self._acknowledged: OrderedDict[str, None] = OrderedDict()
        self._in_hand: Counter[tuple[str, str]] = Counter()  # documents that were taken and are not cleaned up yet
        self._idle = asyncio.Event()
        self._idle.set()
        self._room = asyncio.Event()
        self._room.set()

    def push(self, aggregates: Aggregates[Any], documents: Sequence[Document]) -> None:
        """Publish what lies in these outboxes, soon. Of one document the newest version waits, whoever pushed last."""
        for document in documents:
            if not document["outbox"]:
                continue
            place = (aggregates.name, document["_id"])
            waiting = self._waiting.get(place)
            if waiting is None or waiting[1]["version"] <= document["version"]:
                self._waiting[place] = (aggregates, document)
        if self._waiting:
            self._idle.clear()
            self._wake.set()
        if len(self._waiting) + len(self._in_hand) >= MAX_BACKLOG:
            self._room.clear()

    def has(self, aggregates: Aggregates[Any], id: str) -> bool:
        """Whether this process is about to publish, or to clean up, that document."""
        place = (aggregates.name, id)
        return place in self._waiting or place in self._in_hand

    async def wait_for_room(self) -> None:
        """Wait until the backlog is small enough for more bulk work."""
        await self._room.wait()

    async def wait_until_idle(self) -> None:
        """Wait until all that was pushed is published and cleaned up."""
        await self._idle.wait()

    async def run(self) -> None:
        self._in_hand.clear()  # what an earlier run left half done, the sweep finds
        self._room.set()
        self._sent = asyncio.Queue(maxsize=8)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish())
            tasks.create_task(self._clean())

    async def _publish(self) -> None:
        while True:
            await self._wake.wait()
            taken = dict(self._waiting.popitem(last=False) for _ in range(min(PUBLISH_BATCH, len(self._waiting))))
            batch = list(taken.values())
            self._in_hand.update(taken.keys())
            if not self._waiting:
                self._wake.clear()
            sent, failure = await self.publish(batch)
            if failure is not None:
                # Nothing is lost: the events lie in their documents, and the sweep comes by after the lease.
                log.error(
                    "%d of %d could not be published; the sweep will try again",
                    len(batch) - len(sent),
                    len(batch),
                    exc_info=failure,
                )
            await self._sent.put(_PublishedBatch(tuple(taken), sent))
            if isinstance(failure, KafkaError | ConnectionError):
                await self._producer.renew()

    async def _clean(self) -> None:
        while True:
            published = await self._sent.get()
            try:
                await self.clean(published.sent)
            except PyMongoError:
                log.exception("published events could not be taken out of their outboxes; the sweep will try again")
            self._in_hand -= Counter(published.places)
            if len(self._waiting) + len(self._in_hand) < MAX_BACKLOG:
                self._room.set()
            if not self._in_hand and not self._waiting:
                self._idle.set()

    async def publish(
        self, batch: Sequence[tuple[Aggregates[Any], Document]]
    ) -> tuple[list[_Acknowledged], BaseException | None]:
        """Send the events of these documents and wait for the broker.

        Returns the documents of which every event is acknowledged, and an error if there was one. What fails in one
        aggregate holds up its own later events, which must not overtake, and nobody else's.
        """
        flying: list[tuple[_Acknowledged, list[tuple[str, asyncio.Future[Any]]]]] = []
        failed: dict[int, BaseException] = {}
        for n, (aggregates, document) in enumerate(batch):
            futures: list[tuple[str, asyncio.Future[Any]]] = []
            one = _Acknowledged(aggregates, document, tuple(entry["id"] for entry in document["outbox"]))
            flying.append((one, futures))
            try:
                for entry in document["outbox"]:
                    if entry["id"] not in self._acknowledged:
                        futures.append((entry["id"], await self._send(entry)))
            except Exception as error:  # noqa: BLE001 - it is returned
                failed[n] = error
                if isinstance(error, KafkaTimeoutError | ConnectionError):
                    break  # the broker, and not this document; the others need not wait for it one by one
        for n, (_, futures) in enumerate(flying):
            for (id, _), result in zip(
                futures, await asyncio.gather(*(f for _, f in futures), return_exceptions=True), strict=True
            ):
                if isinstance(result, BaseException):
                    failed[n] = result
                else:
                    self._remember(id)
        sent = [one for n, (one, _) in enumerate(flying) if n not in failed]
        return sent, next(iter(failed.values()), None)

    async def _send(self, entry: outbox.Entry) -> "asyncio.Future[Any]":
        topic = self._prefix + entry["topic"]
        envelope = outbox.envelope(entry, self._service)
        with send_span(topic, envelope) as traceparent:
            if traceparent != envelope.traceparent:
                envelope = replace(envelope, traceparent=traceparent)
            return await self._producer.send(
                topic, key=entry["key"].encode(), value=outbox.value(entry), headers=envelope.headers()
            )

    def _remember(self, id: str) -> None:
        self._acknowledged[id] = None
        if len(self._acknowledged) > REMEMBERED_EVENTS:
            self._acknowledged.popitem(last=False)

    async def clean(self, sent: Sequence[_Acknowledged]) -> None:
        """Take the acknowledged events, and only those, out of their outboxes."""
        by_collection: dict[str, list[_Acknowledged]] = {}
        for one in sent:
            by_collection.setdefault(one.aggregates.name, []).append(one)
        for group in by_collection.values():
            collection = group[0].aggregates.collection
            for chunk in chunks(group, MAX_BULK_OPERATIONS):
                result = await collection.bulk_write([_clean_as_read(one) for one in chunk], ordered=False)
                if result.matched_count != len(chunk):  # some were saved again meanwhile: their own relay goes on
                    await collection.bulk_write([_clean_ids(one) for one in chunk], ordered=False)

    async def sweep(self, aggregates: Aggregates[Any], limit: int = 1000) -> int:
        """Claim and push what waits for longer than its lease; returns how many."""
        now = self._clock.machine_now()
        claimed, waiting = 0, 0
        oldest = None
        # The oldest first: what a crash left must not stand behind those whose own relay is at work.
        cursor = aggregates.collection.find({"outbox_since": {"$lte": now}}).sort("outbox_since", 1).limit(limit)
        async for document in cursor:
            if document["outbox_since"] is None:
                continue  # published while it was being read; not every server reads from one moment
            waiting += 1
            oldest = min(oldest or document["outbox_since"], document["outbox_since"])
            if document["relay_until"] > now or self.has(aggregates, document["_id"]):
                continue
            if not document["outbox"]:  # all published, but a later save kept its outbox_since
                await aggregates.collection.update_one(
                    {"_id": document["_id"], "version": document["version"]}, {"$set": {"outbox_since": None}}
                )
                continue
            claim = await aggregates.collection.update_one(
                {"_id": document["_id"], "version": document["version"]}, {"$set": {"relay_until": now + self.lease}}
            )
            if claim.matched_count:
                self.push(aggregates, [document])
                claimed += 1
        metrics.set_outbox_size(aggregates.name, waiting)
        metrics.set_outbox_age(aggregates.name, (now - oldest).total_seconds() if oldest else 0.0)
        return claimed


def _clean_as_read(one: _Acknowledged) -> UpdateOne:
    # At the version that was read, the outbox holds what was read, all of it acknowledged, or less.
    return UpdateOne(
        {"_id": one.document["_id"], "version": one.document["version"]},
        {"$set": {"outbox": [], "outbox_since": None}},
    )


def _clean_ids(one: _Acknowledged) -> UpdateOne:
    return UpdateOne({"_id": one.document["_id"]}, {"$pull": {"outbox": {"id": {"$in": list(one.ids)}}}})
