"""A pairing's story in words, from its events.

``story`` takes what was read of ``pairings.v1``, ``feedback.v1`` and ``notifications.v1``, in any order and more than
once, and returns what happened by business time: one step for each thing that happened, with who was told of it folded
in. It says no more than these events do: that somebody answered, never what; that a pairing ended, never by whom.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from cli.formatting import FACTS, day, listed, ordinal
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

Telling: TypeAlias = PairingEvent | FeedbackEvent | NotificationEvent

_ENDS = {
    "completed": "The time that they had planned is over: completed.",
    "ended_early": "They finished.",
    "not_started": "It ended before they had met.",
}
_TRACEPARENT_PARTS = 4
_CHANNELS = {"email": "by e-mail", "inbox": "in the inbox", "chat": "by chat"}
_LATER = {"half_way": "Half of their time is over."}
"""Said long after the event that is named as its cause: a step of its own."""
_TO_OTHERS = {
    "pair_needs_a_person": "whoever coordinates",
    "meeting_time": "an assistant",
    "meeting_time_off": "an assistant",
}
"""Purposes whose readers are not the two."""


@dataclass(frozen=True)
class Happened:
    """One event as it was read. ``trace_id``: of the leg that it belongs to."""

    id: str
    data: Telling
    trace_id: str | None = None

    @classmethod
    def of(cls, envelope: Envelope, data: Telling) -> "Happened":
        parts = (envelope.traceparent or "").split("-")
        return cls(envelope.id, data, parts[1] if len(parts) == _TRACEPARENT_PARTS else None)


@dataclass(frozen=True)
class Told:
    """What became of one message to one reader."""

    at: datetime
    type: str
    purpose: str
    channel: str
    member_id: str
    trace_id: str | None


@dataclass(frozen=True)
class Step:
    """One thing that happened. ``events``: the ids of those that it is made from, the first one's time and trace."""

    at: datetime
    type: str
    words: str
    trace_id: str | None
    events: tuple[str, ...]
    told: tuple[Told, ...] = ()
    told_words: str = ""

    def as_data(self) -> dict[str, Any]:
        """For a script."""
        return {
            "time": iso(self.at),
            "type": self.type,
            "words": self.words,
            "trace_id": self.trace_id,
            "events": list(self.events),
            "told": self.told_words or None,
            "messages": [
                {
                    "time": iso(one.at),
                    "type": one.type,
                    "purpose": one.purpose,
                    "channel": one.channel,
                    "member_id": one.member_id,
                    "trace_id": one.trace_id,
                }
                for one in self.told
            ],
        }


def story(events: Iterable[Happened], names: Mapping[str, str]) -> list[Step]:
    """What happened, in order of business time. ``names``: of members, as far as they may be told."""
    known = list({one.id: one for one in events}.values())
    known.sort(key=lambda one: (one.data.happened_at, one.data.recorded_at, one.id))
    teller = _Teller(names, _asked_by_milestone(known))
    steps = [step for one in known if (step := teller.step(one)) is not None]
    return _with_messages(steps, [one for one in known if isinstance(one.data, NotificationEvent)], teller)


@dataclass
class _Teller:
    """Puts one event after the other into words, and remembers what later words depend on.

    ``asked``: for each check-in, the events that asked for it; one step tells of them all.
    """

    names: Mapping[str, str]
    asked: Mapping[str, Sequence[Happened]]
    participants: tuple[str, ...] = ()
    meetings: dict[str, SessionEvent] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)

    def step(self, one: Happened) -> Step | None:
        """None where there is nothing to tell, or another step tells of it."""
        words, events = self._words(one), [one.id]
        if isinstance(one.data, CheckinDue):
            events = [other.id for other in self.asked[one.data.milestone]]
        return Step(one.data.happened_at, one.data.TYPE, words, one.trace_id, tuple(events)) if words else None

    def _words(self, one: Happened) -> str | None:
        match one.data:
            case PairingEvent() as data:
                self.participants = tuple(person.member_id for person in data.participants)
                return self._pairing(data)
            case SessionEvent() as data:
                words = self._meeting(data)
                self.meetings[data.session.session_id] = data
                return words
            case CheckinEvent() as data:
                return self._checkin(one.id, data)
            case ContactNeeded(facts=facts):
                return f"Help was offered, because {listed([FACTS[fact] for fact in facts])}."
            case PartnerChangeRequested():
                return "Another partner was wished for; by which of the two is told to nobody."
        return None

    def _pairing(self, data: PairingEvent) -> str | None:
        match data:
            case PairingProposed():
                how = {"request": ", as one of them had asked", "coordinator": ", by whoever coordinates"}
                by = how.get(data.origin, "")
                return f"Proposed to {self._both()}{by}; they may answer until {day(data.answer_by)}."
            case PairingLapsed():
                return "It did not come about: not everybody said yes in time."
            case PairingFormed():
                return (
                    f"Both said yes. Planned until {day(data.planned_end)}." if data.planned_end else "Both said yes."
                )
            case PairingChartered():
                return "They agreed on goals, dates and confidentiality."
            case PairingPaused():
                return "On hold for a while."
            case PairingResumed():
                return "They go on."
            case PairingRenewed():
                until = f" until {day(data.planned_end)}" if data.planned_end else ""
                return f"They go on{until}, as both wished."
            case PairingEnded():
                return _ENDS.get(data.end_kind or "", "It ended.")
        return None

    def _meeting(self, data: SessionEvent) -> str:
        before, when = self.meetings.get(data.session.session_id), day(data.session.starts_at)
        match data:
            case SessionScheduled() if before is not None:
                return f"The meeting of {day(before.session.starts_at)} was moved to {when}."
            case SessionScheduled():
                first = not self.meetings and not data.sessions_held
                return f"{'First' if first else 'Next'} meeting planned for {when}."
            case SessionHeld():
                on = "" if data.session.starts_at.date() == data.happened_at.date() else f", on {when}"
                after_all = " after all" if isinstance(before, SessionMissed | SessionCancelled) else ""
                return f"They met{after_all}, for the {ordinal(data.sessions_held)} time{on}."
            case SessionCancelled():
                return f"The meeting of {when} was called off."
        return f"Nobody came to the meeting of {when}, or not both; it had not been called off."

    def _checkin(self, id: str, data: CheckinEvent) -> str | None:
        when = _milestone(data.milestone)
        if isinstance(data, CheckinCompleted):
            who = "The other one" if data.milestone in self.answered else "One of the two"
            self.answered.add(data.milestone)
            return f"{who} has answered how it goes ({when})."
        asked = self.asked[data.milestone]
        if asked[0].id != id:
            return None
        sides = {one.data.side for one in asked if isinstance(one.data, CheckinEvent)}
        return f"{'Both were' if len(sides) > 1 else 'One of the two was'} asked how it goes ({when})."

    def _both(self) -> str:
        known = [self.names[id] for id in self.participants if id in self.names]
        return listed(known) if len(known) == len(self.participants) else "both"

    def told(self, messages: Sequence[Told]) -> str:
        """Who was told, and how; of what was left out on purpose nothing is said."""
        said = [one for one in messages if one.type == NotificationSent.TYPE]
        failed = [one for one in messages if one.type == NotificationFailed.TYPE]
        channels = list(dict.fromkeys(one.channel for one in said))
        parts = [f"{self._readers(said, channel)} told {_CHANNELS.get(channel, channel)}" for channel in channels]
        if failed:
            parts.append(f"a message to {listed(self._audience(failed))} did not arrive")
        return "; ".join(parts)

    def _readers(self, said: Sequence[Told], channel: str) -> str:
        found = self._audience([one for one in said if one.channel == channel])
        return f"{listed(found)} {'was' if len(found) == 1 and found != ['both'] else 'were'}"

    def _audience(self, messages: Sequence[Told]) -> list[str]:
        """In words: both, one of them by name, or somebody else by their part in it."""
        own = list(dict.fromkeys(one.member_id for one in messages if one.purpose not in _TO_OTHERS))
        others = list(dict.fromkeys(_TO_OTHERS[one.purpose] for one in messages if one.purpose in _TO_OTHERS))
        if len(own) > 1:
            return ["both", *others]
        return [*(self.names.get(id, "one of the two") for id in own), *others]


def _asked_by_milestone(known: Iterable[Happened]) -> Mapping[str, Sequence[Happened]]:
    found: dict[str, list[Happened]] = {}
    for one in known:
        if isinstance(one.data, CheckinDue):
            found.setdefault(one.data.milestone, []).append(one)
    return found


def _with_messages(steps: Sequence[Step], messages: Sequence[Happened], teller: _Teller) -> list[Step]:
    """Each message with the step that caused it; one that has a time, or whose cause is gone, as a step of its own."""
    caused: dict[str, list[Told]] = {}
    alone: dict[tuple[str, str], list[tuple[Happened, Told]]] = {}
    of = {id: step.events[0] for step in steps for id in step.events}
    for one in messages:
        data = one.data
        assert isinstance(data, NotificationEvent)
        told = Told(data.happened_at, data.TYPE, data.purpose, data.channel, data.member_id, one.trace_id)
        if data.purpose not in _LATER and data.cause_id in of:
            caused.setdefault(of[data.cause_id], []).append(told)
        else:
            alone.setdefault((data.cause_id, data.purpose), []).append((one, told))
    found = [
        replace(step, told=tuple(told), told_words=teller.told(told))
        for step in steps
        for told in [caused.get(step.events[0], [])]
    ]
    for (_, purpose), group in alone.items():
        first, those = group[0][0], tuple(one for _, one in group)
        words = _LATER.get(purpose, f"A message: {purpose.replace('_', ' ')}.")
        ids = tuple(one.id for one, _ in group)
        said = those[0]
        found.append(Step(said.at, said.type, words, first.trace_id, ids, those, teller.told(those)))
    return sorted(found, key=lambda step: step.at)


def _milestone(name: str) -> str:
    match name.split("_"):
        case ["day", "0"]:
            return "at the beginning"
        case ["day", number]:
            return f"after {number} days"
    return "at the end"
