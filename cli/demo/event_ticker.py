"""Prints the events that the subscriber receives: the first few of each type in full, the others as a count."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.markup import escape

from cli.console import out
from cli.demo.subscriber import SeenEvent
from contracts.privacy import ERASURE_COMPLETIONS, ERASURE_REQUESTS

_SHOWN_PER_TYPE = 3
_TOPICS_PER_SIDE = 2
_ABOUT_ERASURE = tuple(topic.name for topic in (ERASURE_REQUESTS, *ERASURE_COMPLETIONS))
_SHOWN_TOPICS = ("pairings.v1", "rounds.v1", "programmes.v1", "feedback.v1", "notifications.v1", *_ABOUT_ERASURE)
_COLOURS = {"proposed": "cyan", "lapsed": "yellow", "formed": "green", "ended": "magenta"}


class EventTicker:
    """Prints events. The subscriber's thread calls it while the demo prints from its own thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: Counter[str] = Counter()
        self._more: Counter[str] = Counter()

    def show(self, event: SeenEvent) -> None:
        if event.topic not in _SHOWN_TOPICS or event.data is None:
            return
        with self._lock:
            if self._shown[event.type] >= _SHOWN_PER_TYPE:
                self._more[event.type] += 1
                return
            self._shown[event.type] += 1
            out.print(_format_line(event, event.data))

    def pause(self) -> None:
        """Print the number of events that were not shown, and show the next ones in full again."""
        with self._lock:
            if self._more:
                more = ", ".join(f"{number} more {_short_type(kind)}" for kind, number in sorted(self._more.items()))
                out.print(f"  [dim]{'':18}... and {more}[/]")
            self._shown.clear()
            self._more.clear()


def _format_line(event: SeenEvent, data: Mapping[str, Any]) -> str:
    kind = _short_type(event.type)
    when = datetime.fromisoformat(data["happened_at"]) if "happened_at" in data else None
    colour = _COLOURS.get(kind.rpartition(".")[2], "blue")
    time_text = when.strftime("%a %d %b %Y %H:%M") if when else ""
    return f"  [dim]{time_text:21}[/] [{colour}]{kind:18}[/] {escape(_describe_event(event, data))}"


def _describe_event(event: SeenEvent, data: Mapping[str, Any]) -> str:
    short_id = event.subject[-6:]
    match event.topic:
        case "pairings.v1":
            sides = {participant["side"]: participant["department_id"] for participant in data["participants"]}
            return f"{short_id}  {sides.get('senior')} with {sides.get('junior')}: {_format_topics(data['focus'])}"
        case "rounds.v1":
            return f"{short_id}  {data['seniors']} seniors, {data['juniors']} juniors, {data['pairs']} pairs"
        case "programmes.v1":
            return f"{event.subject}  {data['state']}, version {data['version']}"
        case "feedback.v1":
            return f"{short_id}  {_describe_followup(data)}"
        case "notifications.v1":
            return f"{short_id}  {data['purpose']} by {data['channel']}"
        case topic if topic in _ABOUT_ERASURE:
            return f"member {data['member_id'][-6:]} {data.get('service', '')}"
        case _:
            return short_id


def _describe_followup(data: Mapping[str, Any]) -> str:
    """Facts and counts of a feedback event. No event contains what a person answered."""
    if "session" in data:
        at = datetime.fromisoformat(data["session"]["starts_at"])
        return f"{at:%a %d %b}; so far {data['sessions_held']} held"
    if "milestone" in data:
        return f"{data['milestone']}, the {data['side']}"
    return ", ".join(data.get("facts", ())).replace("_", " ")


def _format_topics(focus: Sequence[Mapping[str, Any]]) -> str:
    """A few topics from each side."""
    shown = [
        topic
        for side in ("senior", "junior")
        for topic in [topic for topic in focus if topic["from_side"] == side][:_TOPICS_PER_SIDE]
    ]
    more = f" and {len(focus) - len(shown)} more" if len(shown) < len(focus) else ""
    return ", ".join(_format_topic(topic) for topic in shown) + more


def _format_topic(focus: Mapping[str, Any]) -> str:
    """A topic with an arrow from the person who knows it to the one who learns it. The senior is on the left."""
    return f"{focus['topic_id']} {'->' if focus['from_side'] == 'senior' else '<-'}"


def _short_type(kind: str) -> str:
    return kind.removeprefix("mentoring.").removesuffix(".v1")
