"""What a service hears: which topics feed its projections, and which function follows which event.

A service declares one ``Hearing`` in its ``handlers.py``; the consumer does the rest.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

from chassis.storage.projections import Projection
from contracts.envelope import Envelope, EventData, Topic

C = TypeVar("C")
E = TypeVar("E", bound=EventData)


@dataclass(frozen=True)
class ReceivedEvent(Generic[E]):
    """An event as it arrived."""

    envelope: Envelope
    data: E


@dataclass(frozen=True)
class ReceivedTombstone:
    """A tombstone as it arrived: the aggregate ``key`` is gone."""

    envelope: Envelope
    key: str


Reaction: TypeAlias = Callable[[Any, C], Awaitable[None]]


class HandlerRegistry(Generic[C]):
    """``C`` is the service's context: its collections and clock, handed to every reaction."""

    def __init__(self) -> None:
        self._types: dict[str, type[EventData]] = {}
        self._projections: dict[str, Callable[[C], Projection[Any]]] = {}
        self._reactions: dict[str, list[Reaction[C]]] = {}
        self._tombstone_reactions: dict[str, list[Reaction[C]]] = {}

    def project(self, type: type[E], into: Callable[[C], Projection[E]]) -> None:
        """Keep the newest state of each aggregate of this type's topic; its tombstones leave graves."""
        self._know(type)
        self._projections[type.TYPE] = into

    def on(
        self, *types: type[E]
    ) -> Callable[[Callable[[ReceivedEvent[E], C], Awaitable[None]]], Callable[[ReceivedEvent[E], C], Awaitable[None]]]:
        """Call the function for each event of these types.

        It runs at least once for each, also for an event that is older than what a projection holds, so it must be
        idempotent: its operations are named after the event's id. On compacted topics it asks "look at this again" and
        never compares with an older state. What it raises decides: see ``chassis.messaging.consumer.is_transient``.
        """

        def register(
            function: Callable[[ReceivedEvent[E], C], Awaitable[None]],
        ) -> Callable[[ReceivedEvent[E], C], Awaitable[None]]:
            for type in types:
                self._know(type)
                self._reactions.setdefault(type.TYPE, []).append(function)
            return function

        return register

    def on_tombstone(
        self, type: type[EventData]
    ) -> Callable[
        [Callable[[ReceivedTombstone, C], Awaitable[None]]], Callable[[ReceivedTombstone, C], Awaitable[None]]
    ]:
        """Call the function for each tombstone of this type."""

        def register(
            function: Callable[[ReceivedTombstone, C], Awaitable[None]],
        ) -> Callable[[ReceivedTombstone, C], Awaitable[None]]:
            self._know(type)
            self._tombstone_reactions.setdefault(type.TYPE, []).append(function)
            return function

        return register

    def topics(self) -> list[Topic]:
        return sorted({type.TOPIC for type in self._types.values()}, key=lambda topic: topic.name)

    def find_type(self, name: str) -> type[EventData] | None:
        return self._types.get(name)

    def find_projection(self, name: str, context: C) -> Projection[Any] | None:
        into = self._projections.get(name)
        return into(context) if into else None

    def find_reactions(self, event: ReceivedEvent[Any] | ReceivedTombstone) -> Sequence[Reaction[C]]:
        """The functions that follow it; what feeds a projection alone has none."""
        of = self._tombstone_reactions if isinstance(event, ReceivedTombstone) else self._reactions
        return cast("Sequence[Reaction[C]]", of.get(event.envelope.type, ()))

    def _know(self, type: type[EventData]) -> None:
        self._types[type.TYPE] = type
