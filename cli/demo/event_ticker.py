"""What the subscriber sees, shown as it happens: the first few of each kind in full, the others counted."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.markup import escape

from cli.console import out
from cli.demo.subscriber import SeenEvent

_SHOWN_PER_TYPE = 3
_TOPICS_PER_SIDE = 2
_SHOWN_TOPICS = ("pairings.v1", "rounds.v1", "programmes.v1", "privacy.v1", "feedback.v1", "notifications.v1")
_COLOURS = {"proposed": "cyan", "lapsed": "yellow", "formed": "green", "ended": "magenta"}


class EventTicker:
    """Prints events; called from the subscriber's thread, while the story prints from its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: Counter[str] = Counter()
        self._more: Counter[str] = Counter()

    def show(self, seen: SeenEvent) -> None:
        if seen.topic not in _SHOWN_TOPICS or seen.data is None:
            return
        with self._lock:
            if self._shown[seen.type] >= _SHOWN_PER_TYPE:
                self._more[seen.type] += 1
                return
            self._shown[seen.type] += 1
            out.print(_format_line(seen, seen.data))

    def pause(self) -> None:
        """Tells how many were not shown, and shows the next ones in full again."""
        with self._lock:
            if self._more:
                more = ", ".join(f"{number} more {_short_type(kind)}" for kind, number in sorted(self._more.items()))
                out.print(f"  [dim]{'':18}... and {more}[/]")
            self._shown.clear()
            self._more.clear()


def _format_line(seen: SeenEvent, data: Mapping[str, Any]) -> str:
    kind = _short_type(seen.type)
    when = datetime.fromisoformat(data["happened_at"]) if "happened_at" in data else None
    colour = _COLOURS.get(kind.rpartition(".")[2], "blue")
    at = when.strftime("%a %d %b %Y %H:%M") if when else ""
    return f"  [dim]{at:21}[/] [{colour}]{kind:18}[/] {escape(_describe_event(seen, data))}"


def _describe_event(seen: SeenEvent, data: Mapping[str, Any]) -> str:
    name = seen.subject[-6:]
    match seen.topic:
        case "pairings.v1":
            sides = {one["side"]: one["department_id"] for one in data["participants"]}
            return f"{name}  {sides.get('senior')} with {sides.get('junior')}: {_format_topics(data['focus'])}"
        case "rounds.v1":
            return f"{name}  {data['seniors']} seniors, {data['juniors']} juniors, {data['pairs']} pairs"
        case "programmes.v1":
            return f"{seen.subject}  {data['state']}, version {data['version']}"
        case "feedback.v1":
            return f"{name}  {_describe_followup(data)}"
        case "notifications.v1":
            return f"{name}  {data['purpose']} by {data['channel']}"
        case "privacy.v1":
            return f"member {data['member_id'][-6:]} {data.get('service', '')}"
        case _:
            return name


def _describe_followup(data: Mapping[str, Any]) -> str:
    """Facts and counts: what anybody said is in no event."""
    if "session" in data:
        at = datetime.fromisoformat(data["session"]["starts_at"])
        return f"{at:%a %d %b}; so far {data['sessions_held']} held"
    if "milestone" in data:
        return f"{data['milestone']}, the {data['side']}"
    return ", ".join(data.get("facts", ())).replace("_", " ")


def _format_topics(focus: Sequence[Mapping[str, Any]]) -> str:
    """A few from each side."""
    few = [
        one
        for side in ("senior", "junior")
        for one in [one for one in focus if one["from_side"] == side][:_TOPICS_PER_SIDE]
    ]
    more = f" and {len(focus) - len(few)} more" if len(few) < len(focus) else ""
    return ", ".join(_format_topic(one) for one in few) + more


def _format_topic(focus: Mapping[str, Any]) -> str:
    """With an arrow from who knows to who learns; in a pairing the senior stands left."""
    return f"{focus['topic_id']} {'->' if focus['from_side'] == 'senior' else '<-'}"


def _short_type(kind: str) -> str:
    return kind.removeprefix("mentoring.").removesuffix(".v1")
