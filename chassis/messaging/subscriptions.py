"""The subscriptions of a service: which events feed its projections, and which functions react to which events.

A service declares one ``HandlerRegistry`` in its ``handlers.py``. The consumer reads the topics and calls the handlers.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

from chassis.core.commands import Op
from chassis.storage.projections import Projection
from contracts.envelope import Envelope, EventData, Topic

C = TypeVar("C")
E = TypeVar("E", bound=EventData)


@dataclass(frozen=True)
class ReceivedEvent(Generic[E]):
    """An event as it was received."""

    envelope: Envelope
    data: E

    def op(self, name: str) -> Op:
        """The operation of the handler ``name`` on this event. The name is stored, so it never changes."""
        return Op.handling(self.envelope, name)


@dataclass(frozen=True)
class ReceivedTombstone:
    """A tombstone as it was received: the aggregate ``key`` no longer exists."""

    envelope: Envelope
    key: str


Reaction: TypeAlias = Callable[[Any, C], Awaitable[None]]


class HandlerRegistry(Generic[C]):
    """``C`` is the service's context, for example its collections and clock; every reaction receives it."""

    def __init__(self) -> None:
        self._types: dict[str, type[EventData]] = {}
        self._topics: dict[str, Topic] = {}
        self._projections: dict[str, Callable[[C], Projection[Any]]] = {}
        self._reactions: dict[str, list[Reaction[C]]] = {}
        self._tombstone_reactions: dict[str, list[Reaction[C]]] = {}
        self._unfreezing_reactions: dict[str, list[Reaction[C]]] = {}

    def project(self, type: type[E], get_projection: Callable[[C], Projection[E]]) -> None:
        """Keep the newest state of each aggregate of this type in a projection. A tombstone leaves a grave."""
        self._register_type(type)
        self._projections[type.TYPE] = get_projection

    def on(
        self, *types: type[E]
    ) -> Callable[[Callable[[ReceivedEvent[E], C], Awaitable[None]]], Callable[[ReceivedEvent[E], C], Awaitable[None]]]:
        """Call the function for each event of these types, at least once.

        It also runs for an event that is older than the projection's state. So it must be idempotent: its operations
        are named after the event's id. On a compacted topic an event only means "check this aggregate again"; the
        function must not compare it with an older state. For errors, see ``chassis.messaging.consumer.is_transient``.
        """

        def register(
            function: Callable[[ReceivedEvent[E], C], Awaitable[None]],
        ) -> Callable[[ReceivedEvent[E], C], Awaitable[None]]:
            for type in types:
                self._register_type(type)
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
            self._register_type(type)
            self._tombstone_reactions.setdefault(type.TYPE, []).append(function)
            return function

        return register

    def on_unfreezing(
        self, type: type[E]
    ) -> Callable[[Callable[[ReceivedEvent[E], C], Awaitable[None]]], Callable[[ReceivedEvent[E], C], Awaitable[None]]]:
        """Call the function when an operator unfreezes the copy of an aggregate: for what else remembers a sequence."""

        def register(
            function: Callable[[ReceivedEvent[E], C], Awaitable[None]],
        ) -> Callable[[ReceivedEvent[E], C], Awaitable[None]]:
            self._unfreezing_reactions.setdefault(type.TYPE, []).append(function)
            return function

        return register

    def topics(self) -> list[Topic]:
        """The topics of all types, without those that only an earlier version wrote."""
        return sorted({topic for type in self._types.values() for topic in type.topics()}, key=_name_of)

    def former_topics(self) -> list[Topic]:
        """The topics that only an earlier version wrote; an installation that began later has none of them."""
        former = {type.FORMER_TOPIC for type in self._types.values()} - {None, *self.topics()}
        return sorted({topic for topic in former if topic is not None}, key=_name_of)

    def find_topic(self, name: str) -> Topic | None:
        """The topic of this name, without the prefix, if a handler reads it."""
        return self._topics.get(name)

    def find_type(self, name: str) -> type[EventData] | None:
        return self._types.get(name)

    def find_projection(self, name: str, context: C) -> Projection[Any] | None:
        get_projection = self._projections.get(name)
        return get_projection(context) if get_projection else None

    def has_projection(self, name: str) -> bool:
        """Whether events of the type ``name`` feed a projection."""
        return name in self._projections

    def find_unfreezing_reactions(self, name: str) -> Sequence[Reaction[C]]:
        return self._unfreezing_reactions.get(name, ())

    def find_reactions(self, event: ReceivedEvent[Any] | ReceivedTombstone) -> Sequence[Reaction[C]]:
        """The functions to call for an event; none when it only feeds a projection."""
        reactions = self._tombstone_reactions if isinstance(event, ReceivedTombstone) else self._reactions
        return cast("Sequence[Reaction[C]]", reactions.get(event.envelope.type, ()))

    def _register_type(self, type: type[EventData]) -> None:
        self._types[type.TYPE] = type
        self._topics |= {topic.name: topic for topic in type.topics()}
        if type.FORMER_TOPIC is not None:
            self._topics[type.FORMER_TOPIC.name] = type.FORMER_TOPIC


def _name_of(topic: Topic) -> str:
    return topic.name
