"""The relay publishes saved events: every replica right after its own save, and a sweep after a crash.

What always holds:

* The events of one aggregate are sent in the order of its outbox. An entry leaves the outbox only after all in-sync
  replicas have acknowledged its record.
* The outbox is emptied, and ``outbox_since`` cleared, only while the version is still the one that was read. Otherwise
  only the acknowledged ids are removed, since a later save has events, and a relay, of its own.

Two replicas may publish the same event. Subscribers recognise it by its id, and the guardian keeps the last record of
each key right.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol, TypeAlias

from aiokafka.errors import KafkaError, KafkaTimeoutError
from pymongo import UpdateOne

from chassis.core.clocks import Clock
from chassis.observability import metrics
from chassis.observability.telemetry import send_span
from chassis.storage import outbox
from chassis.storage.aggregates import RELAY_LEASE, Aggregates
from chassis.storage.mongo import Document, PyMongoError, chunks
from contracts.envelope import current_topic

log = logging.getLogger(__name__)

REMEMBERED_EVENTS = 100_000  # acknowledged event ids, so that a second push of a document sends only new events
MAX_BACKLOG = 5_000  # documents waiting or in progress; bulk work pauses there, so that leases do not run out
PUBLISH_BATCH = 1_000  # documents
MAX_UNCLEANED_BATCHES = 8  # published batches that may wait for their clean-up
SWEEP_LIMIT = 1_000  # documents that one sweep reads


_DocumentKey: TypeAlias = tuple[str, str]  # name of the collection, id of the document


class RecordSender(Protocol):
    """Sends records to the broker; in production the ``Producer``."""

    async def send(
        self, topic: str, *, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[Any]":
        """Hand over one record. The future is done when all in-sync replicas have the record."""
        ...

    async def renew(self) -> None:
        """Replace the producer after an error from which it cannot recover."""
        ...


@dataclass(frozen=True)
class _AcknowledgedOutbox:
    """One document whose events are acknowledged and must leave its outbox."""

    aggregates: Aggregates[Any]
    document: Document
    ids: tuple[str, ...]


@dataclass(frozen=True)
class _PublishedBatch:
    """A batch after sending: the keys of all its documents, and the outboxes to clean up."""

    keys: tuple[_DocumentKey, ...]
    sent: list[_AcknowledgedOutbox]


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
        self._waiting: OrderedDict[_DocumentKey, tuple[Aggregates[Any], Document]] = OrderedDict()
        self._has_work = asyncio.Event()
        self._published: asyncio.Queue[_PublishedBatch] = asyncio.Queue(maxsize=MAX_UNCLEANED_BATCHES)
        self._acknowledged: OrderedDict[str, None] = OrderedDict()
        self._in_progress: Counter[_DocumentKey] = Counter()  # documents taken and not cleaned up yet
        self._idle = asyncio.Event()
        self._idle.set()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def push(self, aggregates: Aggregates[Any], documents: Sequence[Document]) -> None:
        """Queue these documents for publication. Of one document, only the newest version stays in the queue."""
        for document in documents:
            if not document["outbox"]:
                continue
            key = (aggregates.name, document["_id"])
            waiting = self._waiting.get(key)
            if waiting is None or waiting[1]["version"] <= document["version"]:
                self._waiting[key] = (aggregates, document)
        if self._waiting:
            self._idle.clear()
            self._has_work.set()
        if len(self._waiting) + len(self._in_progress) >= MAX_BACKLOG:
            self._has_room.clear()

    def is_pending(self, aggregates: Aggregates[Any], id: str) -> bool:
        """Whether this process will publish or clean up that document."""
        key = (aggregates.name, id)
        return key in self._waiting or key in self._in_progress

    async def wait_for_room(self) -> None:
        """Wait until the backlog is small enough for more bulk work."""
        await self._has_room.wait()

    async def wait_until_idle(self) -> None:
        """Wait until every pushed document is published and cleaned up."""
        await self._idle.wait()

    async def run(self) -> None:
        """Publish and clean up until cancelled."""
        self._in_progress.clear()  # the sweep finds the documents that an earlier run left unfinished
        self._has_room.set()
        self._published = asyncio.Queue(maxsize=MAX_UNCLEANED_BATCHES)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish())
            tasks.create_task(self._clean())

    async def _publish(self) -> None:
        while True:
            await self._has_work.wait()
            taken = dict(self._waiting.popitem(last=False) for _ in range(min(PUBLISH_BATCH, len(self._waiting))))
            batch = list(taken.values())
            self._in_progress.update(taken.keys())
            if not self._waiting:
                self._has_work.clear()
            sent, failure = await self.publish(batch)
            if failure is not None:
                # Nothing is lost: the events are in their documents, and the sweep publishes them after the lease.
                log.error(
                    "%d of %d could not be published; the sweep will try again",
                    len(batch) - len(sent),
                    len(batch),
                    exc_info=failure,
                )
            await self._published.put(_PublishedBatch(tuple(taken), sent))
            if isinstance(failure, KafkaError | ConnectionError):
                await self._producer.renew()

    async def _clean(self) -> None:
        while True:
            published = await self._published.get()
            try:
                await self.clean(published.sent)
            except PyMongoError:
                log.exception("published events could not be removed from their outboxes; the sweep will try again")
            self._in_progress -= Counter(published.keys)
            if len(self._waiting) + len(self._in_progress) < MAX_BACKLOG:
                self._has_room.set()
            if not self._in_progress and not self._waiting:
                self._idle.set()

    async def publish(
        self, batch: Sequence[tuple[Aggregates[Any], Document]]
    ) -> tuple[list[_AcknowledgedOutbox], BaseException | None]:
        """Send the events of these documents and wait for the broker.

        Returns the documents whose events are all acknowledged, and the first error if there was one. A failed event
        holds back the later events of its aggregate, which must not overtake it, but no other aggregate's.
        """
        in_flight: list[tuple[_AcknowledgedOutbox, list[tuple[str, asyncio.Future[Any]]]]] = []
        failed: dict[int, BaseException] = {}
        for n, (aggregates, document) in enumerate(batch):
            futures: list[tuple[str, asyncio.Future[Any]]] = []
            ids = tuple(entry["id"] for entry in document["outbox"])
            in_flight.append((_AcknowledgedOutbox(aggregates, document, ids), futures))
            try:
                for entry in document["outbox"]:
                    if entry["id"] not in self._acknowledged:
                        futures.append((entry["id"], await self._send(entry)))
            except Exception as error:  # noqa: BLE001 - it is returned
                failed[n] = error
                if isinstance(error, KafkaTimeoutError | ConnectionError):
                    break  # the broker fails, not this document; the others need not wait for it one by one
        for n, (_, futures) in enumerate(in_flight):
            results = await asyncio.gather(*(future for _, future in futures), return_exceptions=True)
            for (id, _), result in zip(futures, results, strict=True):
                if isinstance(result, BaseException):
                    failed[n] = result
                else:
                    self._remember(id)
        sent = [acknowledged for n, (acknowledged, _) in enumerate(in_flight) if n not in failed]
        return sent, next(iter(failed.values()), None)

    async def _send(self, entry: outbox.Entry) -> "asyncio.Future[Any]":
        topic = self._prefix + current_topic(entry["type"], entry["topic"], self._service)
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

    async def clean(self, sent: Sequence[_AcknowledgedOutbox]) -> None:
        """Remove the acknowledged events, and only those, from their outboxes."""
        by_collection: dict[str, list[_AcknowledgedOutbox]] = {}
        for acknowledged in sent:
            by_collection.setdefault(acknowledged.aggregates.name, []).append(acknowledged)
        for group in by_collection.values():
            collection = group[0].aggregates.collection
            for chunk in chunks(group, group[0].aggregates.profile.bulk_operations):
                result = await collection.bulk_write(
                    [_empty_outbox(acknowledged) for acknowledged in chunk], ordered=False
                )
                if result.matched_count != len(chunk):  # some documents were saved again in between
                    await collection.bulk_write([_remove_ids(acknowledged) for acknowledged in chunk], ordered=False)

    async def sweep(self, aggregates: Aggregates[Any], limit: int = SWEEP_LIMIT) -> int:
        """Claim and push documents whose lease has run out; returns how many."""
        machine = self._clock.machine_now()
        claimed, waiting = 0, 0
        oldest = None
        # The oldest first, so that the leftovers of a crash do not wait behind documents that are being published.
        cursor = aggregates.collection.find({"outbox_since": {"$lte": machine}}).sort("outbox_since", 1).limit(limit)
        async for document in cursor:
            if document["outbox_since"] is None:
                continue  # published during the read; not every server reads a snapshot
            waiting += 1
            oldest = min(oldest or document["outbox_since"], document["outbox_since"])
            if document["relay_until"] > machine or self.is_pending(aggregates, document["_id"]):
                continue
            if not document["outbox"]:  # all published, but a later save kept outbox_since
                await aggregates.collection.update_one(
                    {"_id": document["_id"], "version": document["version"]}, {"$set": {"outbox_since": None}}
                )
                continue
            claim = await aggregates.collection.update_one(
                {"_id": document["_id"], "version": document["version"]},
                {"$set": {"relay_until": machine + self.lease}},
            )
            if claim.matched_count:
                self.push(aggregates, [document])
                claimed += 1
        metrics.set_outbox_size(aggregates.name, waiting)
        metrics.set_outbox_age(aggregates.name, (machine - oldest).total_seconds() if oldest else 0.0)
        return claimed


def _empty_outbox(acknowledged: _AcknowledgedOutbox) -> UpdateOne:
    # While the version is unchanged, the outbox holds at most the entries that were read; all are acknowledged.
    return UpdateOne(
        {"_id": acknowledged.document["_id"], "version": acknowledged.document["version"]},
        {"$set": {"outbox": [], "outbox_since": None}},
    )


def _remove_ids(acknowledged: _AcknowledgedOutbox) -> UpdateOne:
    ids = list(acknowledged.ids)
    return UpdateOne({"_id": acknowledged.document["_id"]}, {"$pull": {"outbox": {"id": {"$in": ids}}}})
