"""A pairing's story in words, from its events.

``story`` takes what was read of ``pairings.v1``, ``feedback.v1`` and ``notifications.v1``, in any order and more than
once, and returns what happened by business time: one step for each thing that happened, with who was told of it folded
in. It says no more than these events do: that somebody answered, never what; that a pairing ended, never by whom.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from cli.formatting import FACT_TEXTS, format_day, format_ordinal, join_words
from contracts.envelope import Envelope, iso
from contracts.feedback import (
    CheckinCompleted,
    CheckinDue,
    CheckinEvent,
    ContactNeeded,
    FeedbackEvent,
    PartnerChangeRequested,
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
    "completed": "The time that they had planned is over: completed.",
    "ended_early": "They finished.",
    "not_started": "It ended before they had met.",
}
_TRACEPARENT_PARTS = 4
_CHANNEL_TEXTS = {"email": "by e-mail", "inbox": "in the inbox", "chat": "by chat"}
_DELAYED_PURPOSES = {"half_way": "Half of their time is over."}
"""Said long after the event that is named as its cause: a step of its own."""
_OTHER_READERS = {
    "pair_needs_a_person": "whoever coordinates",
    "meeting_time": "an assistant",
    "meeting_time_off": "an assistant",
}
"""Purposes whose readers are not the two."""


@dataclass(frozen=True)
class ReadEvent:
    """One event as it was read. ``trace_id``: of the leg that it belongs to."""

    id: str
    data: StoryEvent
    trace_id: str | None = None

    @classmethod
    def of(cls, envelope: Envelope, data: StoryEvent) -> "ReadEvent":
        parts = (envelope.traceparent or "").split("-")
        return cls(envelope.id, data, parts[1] if len(parts) == _TRACEPARENT_PARTS else None)


@dataclass(frozen=True)
class MessageResult:
    """What became of one message to one reader."""

    at: datetime
    type: str
    purpose: str
    channel: str
    member_id: str
    trace_id: str | None


@dataclass(frozen=True)
class StoryStep:
    """One thing that happened. ``events``: the ids of those that it is made from, the first one's time and trace."""

    at: datetime
    type: str
    words: str
    trace_id: str | None
    events: tuple[str, ...]
    messages: tuple[MessageResult, ...] = ()
    messages_text: str = ""

    def to_json(self) -> dict[str, Any]:
        """For a script."""
        return {
            "time": iso(self.at),
            "type": self.type,
            "words": self.words,
            "trace_id": self.trace_id,
            "events": list(self.events),
            "told": self.messages_text or None,
            "messages": [
                {
                    "time": iso(one.at),
                    "type": one.type,
                    "purpose": one.purpose,
                    "channel": one.channel,
                    "member_id": one.member_id,
                    "trace_id": one.trace_id,
                }
                for one in self.messages
            ],
        }


def build_story(events: Iterable[ReadEvent], names: Mapping[str, str]) -> list[StoryStep]:
    """What happened, in order of business time. ``names``: of members, as far as they may be told."""
    known = list({one.id: one for one in events}.values())
    known.sort(key=lambda one: (one.data.happened_at, one.data.recorded_at, one.id))
    teller = _Narrator(names, _group_checkins_due(known))
    steps = [step for one in known if (step := teller.build_step(one)) is not None]
    return _attach_messages(steps, [one for one in known if isinstance(one.data, NotificationEvent)], teller)


@dataclass
class _Narrator:
    """Puts one event after the other into words, and remembers what later words depend on.

    ``asked``: for each check-in, the events that asked for it; one step tells of them all.
    """

    names: Mapping[str, str]
    checkins_due: Mapping[str, Sequence[ReadEvent]]
    participants: tuple[str, ...] = ()
    meetings: dict[str, SessionEvent] = field(default_factory=dict)
    answered_milestones: set[str] = field(default_factory=set)

    def build_step(self, one: ReadEvent) -> StoryStep | None:
        """None where there is nothing to tell, or another step tells of it."""
        words, events = self._describe(one), [one.id]
        if isinstance(one.data, CheckinDue):
            events = [other.id for other in self.checkins_due[one.data.milestone]]
        return StoryStep(one.data.happened_at, one.data.TYPE, words, one.trace_id, tuple(events)) if words else None

    def _describe(self, one: ReadEvent) -> str | None:
        match one.data:
            case PairingEvent() as data:
                self.participants = tuple(person.member_id for person in data.participants)
                return self._describe_pairing(data)
            case SessionEvent() as data:
                words = self._describe_meeting(data)
                self.meetings[data.session.session_id] = data
                return words
            case CheckinEvent() as data:
                return self._describe_checkin(one.id, data)
            case ContactNeeded(facts=facts):
                return f"Help was offered, because {join_words([FACT_TEXTS[fact] for fact in facts])}."
            case PartnerChangeRequested():
                return "Another partner was wished for; by which of the two is told to nobody."
        return None

    def _describe_pairing(self, data: PairingEvent) -> str | None:
        match data:
            case PairingProposed():
                how = {"request": ", as one of them had asked", "coordinator": ", by whoever coordinates"}
                by = how.get(data.origin, "")
                return f"Proposed to {self._name_both()}{by}; they may answer until {format_day(data.answer_by)}."
            case PairingLapsed():
                return "It did not come about: not everybody said yes in time."
            case PairingFormed():
                return (
                    f"Both said yes. Planned until {format_day(data.planned_end)}."
                    if data.planned_end
                    else "Both said yes."
                )
            case PairingChartered():
                return "They agreed on goals, dates and confidentiality."
            case PairingPaused():
                return "On hold for a while."
            case PairingResumed():
                return "They go on."
            case PairingRenewed():
                until = f" until {format_day(data.planned_end)}" if data.planned_end else ""
                return f"They go on{until}, as both wished."
            case PairingEnded():
                return _END_TEXTS.get(data.end_kind or "", "It ended.")
        return None

    def _describe_meeting(self, data: SessionEvent) -> str:
        before, when = self.meetings.get(data.session.session_id), format_day(data.session.starts_at)
        match data:
            case SessionScheduled() if before is not None:
                return f"The meeting of {format_day(before.session.starts_at)} was moved to {when}."
            case SessionScheduled():
                first = not self.meetings and not data.sessions_held
                return f"{'First' if first else 'Next'} meeting planned for {when}."
            case SessionHeld():
                on = "" if data.session.starts_at.date() == data.happened_at.date() else f", on {when}"
                after_all = " after all" if isinstance(before, SessionMissed | SessionCancelled) else ""
                return f"They met{after_all}, for the {format_ordinal(data.sessions_held)} time{on}."
            case SessionCancelled():
                return f"The meeting of {when} was called off."
        return f"Nobody came to the meeting of {when}, or not both; it had not been called off."

    def _describe_checkin(self, id: str, data: CheckinEvent) -> str | None:
        when = _milestone_text(data.milestone)
        if isinstance(data, CheckinCompleted):
            who = "The other one" if data.milestone in self.answered_milestones else "One of the two"
            self.answered_milestones.add(data.milestone)
            return f"{who} has answered how it goes ({when})."
        asked = self.checkins_due[data.milestone]
        if asked[0].id != id:
            return None
        sides = {one.data.side for one in asked if isinstance(one.data, CheckinEvent)}
        return f"{'Both were' if len(sides) > 1 else 'One of the two was'} asked how it goes ({when})."

    def _name_both(self) -> str:
        known = [self.names[id] for id in self.participants if id in self.names]
        return join_words(known) if len(known) == len(self.participants) else "both"

    def describe_messages(self, messages: Sequence[MessageResult]) -> str:
        """Who was told, and how; of what was left out on purpose nothing is said."""
        said = [one for one in messages if one.type == NotificationSent.TYPE]
        failed = [one for one in messages if one.type == NotificationFailed.TYPE]
        channels = list(dict.fromkeys(one.channel for one in said))
        parts = [
            f"{self._describe_readers(said, channel)} told {_CHANNEL_TEXTS.get(channel, channel)}"
            for channel in channels
        ]
        if failed:
            parts.append(f"a message to {join_words(self._name_readers(failed))} did not arrive")
        return "; ".join(parts)

    def _describe_readers(self, said: Sequence[MessageResult], channel: str) -> str:
        found = self._name_readers([one for one in said if one.channel == channel])
        return f"{join_words(found)} {'was' if len(found) == 1 and found != ['both'] else 'were'}"

    def _name_readers(self, messages: Sequence[MessageResult]) -> list[str]:
        """In words: both, one of them by name, or somebody else by their part in it."""
        own = list(dict.fromkeys(one.member_id for one in messages if one.purpose not in _OTHER_READERS))
        others = list(dict.fromkeys(_OTHER_READERS[one.purpose] for one in messages if one.purpose in _OTHER_READERS))
        if len(own) > 1:
            return ["both", *others]
        return [*(self.names.get(id, "one of the two") for id in own), *others]


def _group_checkins_due(known: Iterable[ReadEvent]) -> Mapping[str, Sequence[ReadEvent]]:
    found: dict[str, list[ReadEvent]] = {}
    for one in known:
        if isinstance(one.data, CheckinDue):
            found.setdefault(one.data.milestone, []).append(one)
    return found


def _attach_messages(steps: Sequence[StoryStep], messages: Sequence[ReadEvent], teller: _Narrator) -> list[StoryStep]:
    """Each message with the step that caused it; one that has a time, or whose cause is gone, as a step of its own."""
    caused: dict[str, list[MessageResult]] = {}
    alone: dict[tuple[str, str], list[tuple[ReadEvent, MessageResult]]] = {}
    of = {id: step.events[0] for step in steps for id in step.events}
    for one in messages:
        data = one.data
        assert isinstance(data, NotificationEvent)
        told = MessageResult(data.happened_at, data.TYPE, data.purpose, data.channel, data.member_id, one.trace_id)
        if data.purpose not in _DELAYED_PURPOSES and data.cause_id in of:
            caused.setdefault(of[data.cause_id], []).append(told)
        else:
            alone.setdefault((data.cause_id, data.purpose), []).append((one, told))
    found = [
        replace(step, messages=tuple(told), messages_text=teller.describe_messages(told))
        for step in steps
        for told in [caused.get(step.events[0], [])]
    ]
    for (_, purpose), group in alone.items():
        first, those = group[0][0], tuple(one for _, one in group)
        words = _DELAYED_PURPOSES.get(purpose, f"A message: {purpose.replace('_', ' ')}.")
        ids = tuple(one.id for one, _ in group)
        said = those[0]
        found.append(StoryStep(said.at, said.type, words, first.trace_id, ids, those, teller.describe_messages(those)))
    return sorted(found, key=lambda step: step.at)


def _milestone_text(name: str) -> str:
    match name.split("_"):
        case ["day", "0"]:
            return "at the beginning"
        case ["day", number]:
            return f"after {number} days"
    return "at the end"
