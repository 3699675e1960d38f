"""The history of a pairing in words, built from its events.

``build_story`` takes events of ``pairings.v1``, ``feedback.v1`` and ``notifications.v1``, in any order and possibly
repeated. It returns one step for each thing that happened, by business time, with the messages that it caused. The
story reveals no more than these open events: that a pairing ended, but not by whom. It tells of no check-in and of no
request for another partner, since each of the two would know that it was the other one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from cli.formatting import FACT_TEXTS, format_day, format_last_day, format_ordinal, join_words
from contracts.envelope import Envelope, iso
from contracts.feedback import (
    ContactNeeded,
    FeedbackEvent,
    SessionCancelled,
    SessionEvent,
    SessionHeld,
    SessionMissed,
    SessionScheduled,
)
from contracts.notifications import NotificationEvent, NotificationFailed, NotificationSent
from contracts.pairings import (
    PairingChartered,
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingLapsed,
    PairingPaused,
    PairingProposed,
    PairingRenewed,
    PairingResumed,
)

StoryEvent: TypeAlias = PairingEvent | FeedbackEvent | NotificationEvent

_END_TEXTS = {
    "completed": "Completed: the planned time is over.",
    "ended_early": "They finished early.",
    "not_started": "It ended before they had met.",
}
_TRACEPARENT_PARTS = 4
_CHANNEL_TEXTS = {"email": "by e-mail", "inbox": "in the inbox", "chat": "by chat"}
_DELAYED_PURPOSES = {"half_way": "Half of their time is over."}
"""Messages that are sent long after the event that caused them, with their texts. Each is a step of its own."""
_OTHER_READERS = {
    "pair_needs_a_person": "the coordinator",
    "meeting_time": "an assistant",
    "meeting_time_off": "an assistant",
}
"""Purposes of messages to people outside the pair, with the role of these readers."""


@dataclass(frozen=True)
class ReadEvent:
    """One event as it was read. ``trace_id`` is the trace in which it happened."""

    id: str
    data: StoryEvent
    trace_id: str | None = None

    @classmethod
    def of(cls, envelope: Envelope, data: StoryEvent) -> "ReadEvent":
        parts = (envelope.traceparent or "").split("-")
        return cls(envelope.id, data, parts[1] if len(parts) == _TRACEPARENT_PARTS else None)


@dataclass(frozen=True)
class MessageResult:
    """The result of one message to one reader."""

    at: datetime
    type: str
    purpose: str
    channel: str
    member_id: str
    trace_id: str | None


@dataclass(frozen=True)
class StoryStep:
    """One thing that happened. ``events``: ids of the events behind it; time and trace are those of the first one."""

    at: datetime
    type: str
    words: str
    trace_id: str | None
    events: tuple[str, ...]
    messages: tuple[MessageResult, ...] = ()
    messages_text: str = ""

    def to_json(self) -> dict[str, Any]:
        """The step as JSON data, for a script."""
        return {
            "time": iso(self.at),
            "type": self.type,
            "words": self.words,
            "trace_id": self.trace_id,
            "events": list(self.events),
            "told": self.messages_text or None,
            "messages": [
                {
                    "time": iso(message.at),
                    "type": message.type,
                    "purpose": message.purpose,
                    "channel": message.channel,
                    "member_id": message.member_id,
                    "trace_id": message.trace_id,
                }
                for message in self.messages
            ],
        }


def build_story(events: Iterable[ReadEvent], names: Mapping[str, str]) -> list[StoryStep]:
    """The steps in order of business time. ``names``: member id -> name, for the visible members."""
    distinct = list({event.id: event for event in events}.values())
    distinct.sort(key=lambda event: (event.data.happened_at, event.data.recorded_at, event.id))
    narrator = _Narrator(names)
    steps = [step for event in distinct if (step := narrator.build_step(event)) is not None]
    return _attach_messages(steps, [event for event in distinct if isinstance(event.data, NotificationEvent)], narrator)


@dataclass
class _Narrator:
    """Turns one event after the other into words, and stores the facts on which later texts depend."""

    names: Mapping[str, str]
    participants: tuple[str, ...] = ()
    meetings: dict[str, SessionEvent] = field(default_factory=dict)

    def build_step(self, event: ReadEvent) -> StoryStep | None:
        """The step for an event; None when it needs no step."""
        text = self._describe(event)
        return StoryStep(event.data.happened_at, event.data.TYPE, text, event.trace_id, (event.id,)) if text else None

    def _describe(self, event: ReadEvent) -> str | None:
        match event.data:
            case PairingEvent() as data:
                self.participants = tuple(person.member_id for person in data.participants)
                return self._describe_pairing(data)
            case SessionEvent() as data:
                text = self._describe_meeting(data)
                self.meetings[data.session.session_id] = data
                return text
            case ContactNeeded(facts=facts):
                return f"Help was offered, because {join_words([FACT_TEXTS[fact] for fact in facts])}."
        return None

    def _describe_pairing(self, data: PairingEvent) -> str | None:
        match data:
            case PairingProposed():
                how = {"request": ", at the request of one of them", "coordinator": ", by the coordinator"}
                by = how.get(data.origin, "")
                return f"Proposed to {self._name_both()}{by}; they may answer until {format_last_day(data.answer_by)}."
            case PairingLapsed():
                return "It was not formed: not both accepted in time."
            case PairingFormed():
                return (
                    f"Both accepted. Planned until {format_day(data.planned_end)}."
                    if data.planned_end
                    else "Both accepted."
                )
            case PairingChartered():
                return "They agreed on goals, dates and confidentiality."
            case PairingPaused():
                return "On hold for a while."
            case PairingResumed():
                return "They continue."
            case PairingRenewed():
                until = f" until {format_day(data.planned_end)}" if data.planned_end else ""
                return f"They continue{until}, as both wanted."
            case PairingEnded():
                return _END_TEXTS.get(data.end_kind or "", "It ended.")
        return None

    def _describe_meeting(self, data: SessionEvent) -> str:
        before, date_text = self.meetings.get(data.session.session_id), format_day(data.session.starts_at)
        match data:
            case SessionScheduled() if before is not None:
                return f"The meeting of {format_day(before.session.starts_at)} was moved to {date_text}."
            case SessionScheduled():
                first = not self.meetings and not data.sessions_held
                return f"{'First' if first else 'Next'} meeting planned for {date_text}."
            case SessionHeld():
                date_suffix = "" if data.session.starts_at.date() == data.happened_at.date() else f", on {date_text}"
                after_all = " after all" if isinstance(before, SessionMissed | SessionCancelled) else ""
                return f"They met{after_all}, for the {format_ordinal(data.sessions_held)} time{date_suffix}."
            case SessionCancelled():
                return f"The meeting of {date_text} was called off."
        return f"Nobody came to the meeting of {date_text}, or not both; it had not been called off."

    def _name_both(self) -> str:
        names = [self.names[id] for id in self.participants if id in self.names]
        return join_words(names) if len(names) == len(self.participants) else "both"

    def describe_messages(self, messages: Sequence[MessageResult]) -> str:
        """The readers and channels of the messages. Suppressed messages are not mentioned."""
        sent = [message for message in messages if message.type == NotificationSent.TYPE]
        failed = [message for message in messages if message.type == NotificationFailed.TYPE]
        channels = list(dict.fromkeys(message.channel for message in sent))
        parts = [
            f"{self._describe_readers(sent, channel)} told {_CHANNEL_TEXTS.get(channel, channel)}"
            for channel in channels
        ]
        if failed:
            parts.append(f"a message to {join_words(self._name_readers(failed))} did not arrive")
        return "; ".join(parts)

    def _describe_readers(self, sent: Sequence[MessageResult], channel: str) -> str:
        readers = self._name_readers([message for message in sent if message.channel == channel])
        return f"{join_words(readers)} {'was' if len(readers) == 1 and readers != ['both'] else 'were'}"

    def _name_readers(self, messages: Sequence[MessageResult]) -> list[str]:
        """The readers in words: both, one of them by name, or somebody else by role."""
        members = list(
            dict.fromkeys(message.member_id for message in messages if message.purpose not in _OTHER_READERS)
        )
        others = list(
            dict.fromkeys(_OTHER_READERS[message.purpose] for message in messages if message.purpose in _OTHER_READERS)
        )
        if len(members) > 1:
            return ["both", *others]
        return [*(self.names.get(id, "one of the two") for id in members), *others]


def _attach_messages(
    steps: Sequence[StoryStep], notifications: Sequence[ReadEvent], narrator: _Narrator
) -> list[StoryStep]:
    """Add each message to the step that caused it.

    A delayed message, or one whose cause is not among the steps, becomes a step of its own.
    """
    caused: dict[str, list[MessageResult]] = {}
    separate: dict[tuple[str, str], list[tuple[ReadEvent, MessageResult]]] = {}
    step_of = {id: step.events[0] for step in steps for id in step.events}
    for event in notifications:
        data = event.data
        assert isinstance(data, NotificationEvent)
        message = MessageResult(data.happened_at, data.TYPE, data.purpose, data.channel, data.member_id, event.trace_id)
        if data.purpose not in _DELAYED_PURPOSES and data.cause_id in step_of:
            caused.setdefault(step_of[data.cause_id], []).append(message)
        else:
            separate.setdefault((data.cause_id, data.purpose), []).append((event, message))
    result = [
        replace(step, messages=tuple(message), messages_text=narrator.describe_messages(message))
        for step in steps
        for message in [caused.get(step.events[0], [])]
    ]
    for (_, purpose), group in separate.items():
        first, group_messages = group[0][0], tuple(event for _, event in group)
        text = _DELAYED_PURPOSES.get(purpose, f"A message: {purpose.replace('_', ' ')}.")
        ids = tuple(event.id for event, _ in group)
        first_message = group_messages[0]
        result.append(
            StoryStep(
                first_message.at,
                first_message.type,
                text,
                first.trace_id,
                ids,
                group_messages,
                narrator.describe_messages(group_messages),
            )
        )
    return sorted(result, key=lambda step: step.at)
