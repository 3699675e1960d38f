"""Two clocks. *Machine* time is for leases, back-off, sweeps and tokens; *business* time is for deadlines and cadences.

Business time is piecewise linear in machine time: an append-only list of (anchor, business time, speed, end), shared by
all processes and restarts through one file. Speed 0 is a pause, and so is what follows an end, whether or not whoever
set it still runs. Without a file, business time is machine time.
"""

import fcntl
import json
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from contracts.moment import Moment


@dataclass(frozen=True)
class Segment:
    """From the machine time ``anchor`` on, business time starts at ``business`` and runs ``speed`` times as fast.

    Where it has an end, it stands still there.
    """

    anchor: datetime
    business: datetime
    speed: float
    until: datetime | None = None

    def business_time(self, machine: datetime) -> datetime:
        running = self.business + timedelta(seconds=(machine - self.anchor).total_seconds() * self.speed)
        return running if self.until is None else min(running, self.until)


@dataclass(frozen=True)
class Timeline:
    """Business time as a function of machine time; before the first segment, and without one, the two are the same."""

    segments: tuple[Segment, ...] = ()

    def business_time(self, machine: datetime) -> datetime:
        place = bisect_right(self.segments, machine, key=lambda segment: segment.anchor)
        return self.segments[place - 1].business_time(machine) if place else machine

    def next_segment(
        self, machine: datetime, speed: float, business: datetime | None = None, until: datetime | None = None
    ) -> Segment:
        """The segment that changes the speed at ``machine`` without a jump, or with one to ``business``.

        Raises ``ValueError`` when the speed is negative, the anchor lies before the last one, or business time would
        run backwards.
        """
        if not 0 <= speed < float("inf"):
            raise ValueError("the speed of business time must be 0 or more")
        if self.segments and machine < self.segments[-1].anchor:
            raise ValueError("a new segment cannot begin before the last one")
        start = business or self.business_time(machine)
        if self.segments and start < self.business_time(machine):
            raise ValueError("business time cannot run backwards")
        return Segment(machine, start, speed, None if until is None else max(start, until))


class Clock:
    """Reads both clocks; every process of one installation names the same ``path``."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._known = 0  # bytes of the file that the timeline holds
        self._timeline = Timeline()

    def machine_now(self) -> datetime:
        return datetime.now(UTC)

    def now(self) -> datetime:
        """Business time, in UTC."""
        return self.timeline().business_time(self.machine_now())

    def moment(self) -> Moment:
        """Both times of the same instant, for one decision."""
        machine = self.machine_now()
        return Moment(now=self.timeline().business_time(machine), recorded_at=machine)

    def timeline(self) -> Timeline:
        """The segments so far; only what was added since the last time is read."""
        if self._path is None:
            return self._timeline
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return self._timeline
        seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if seen != self._seen:
            if self._seen is None or seen[0] != self._seen[0] or stat.st_size < self._known:  # another file
                self._known, self._timeline = 0, Timeline()
            added = _whole_lines(self._path, self._known)
            self._known += len(added)
            self._timeline = Timeline((*self._timeline.segments, *map(_segment, added.splitlines())))
            self._seen = seen
        return self._timeline

    def set_speed(self, speed: float, business: datetime | None = None, *, until: datetime | None = None) -> Segment:
        """Let business time run at ``speed`` from now on, for every process that shares the file.

        With ``until`` it stands still from that business time on, at once where that has passed.
        """
        if self._path is None:
            raise ValueError("business time is machine time here: no clock file is configured")
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed: the list stays in order, whoever else sets the speed
            _drop_half_a_line(file)
            segment = self.timeline().next_segment(self.machine_now(), speed, business, until)
            line = {
                "anchor": segment.anchor.isoformat(),
                "business": segment.business.isoformat(),
                "speed": segment.speed,
            } | ({"until": segment.until.isoformat()} if segment.until else {})
            file.write(json.dumps(line).encode() + b"\n")  # one short write
        return segment


def _drop_half_a_line(file: BinaryIO) -> None:
    """Cut off what a crash left unfinished at the end: the next line would become unreadable by it."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)


def _whole_lines(path: Path, start: int) -> bytes:
    """What the file holds from there on, but for a last line that is still being written."""
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    return content[: content.rfind(b"\n") + 1]


def _segment(line: bytes) -> Segment:
    entry = json.loads(line)
    return Segment(
        datetime.fromisoformat(entry["anchor"]),
        datetime.fromisoformat(entry["business"]),
        float(entry["speed"]),
        datetime.fromisoformat(entry["until"]) if "until" in entry else None,
    )
