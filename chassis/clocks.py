"""Two clocks. *Machine* time is for leases, back-off, sweeps and tokens; *business* time is for deadlines and cadences.

Business time is piecewise linear in machine time: an append-only list of (anchor, business time, speed), shared by all
processes and restarts through one file. Speed 0 is a pause. Without a file, business time is machine time.
"""

import fcntl
import json
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Segment:
    """From the machine time ``anchor`` on, business time starts at ``business`` and runs ``speed`` times as fast."""

    anchor: datetime
    business: datetime
    speed: float

    def at(self, machine: datetime) -> datetime:
        return self.business + timedelta(seconds=(machine - self.anchor).total_seconds() * self.speed)


@dataclass(frozen=True)
class Timeline:
    """Business time as a function of machine time; before the first segment, and without one, the two are the same."""

    segments: tuple[Segment, ...] = ()

    def at(self, machine: datetime) -> datetime:
        place = bisect_right(self.segments, machine, key=lambda segment: segment.anchor)
        return self.segments[place - 1].at(machine) if place else machine

    def then(self, machine: datetime, speed: float, business: datetime | None = None) -> Segment:
        """The segment that changes the speed at ``machine`` without a jump, or with one to ``business``.

        Raises ``ValueError`` when the speed is negative, the anchor lies before the last one, or business time would
        run backwards.
        """
        if not 0 <= speed < float("inf"):
            raise ValueError("the speed of business time must be 0 or more")
        if self.segments and machine < self.segments[-1].anchor:
            raise ValueError("a new segment cannot begin before the last one")
        start = business or self.at(machine)
        if self.segments and start < self.at(machine):
            raise ValueError("business time cannot run backwards")
        return Segment(machine, start, speed)


class Clock:
    """Reads both clocks; every process of one installation names the same ``path``."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._timeline = Timeline()

    def machine(self) -> datetime:
        return datetime.now(UTC)

    def now(self) -> datetime:
        """Business time, in UTC."""
        return self.timeline().at(self.machine())

    def timeline(self) -> Timeline:
        """The segments so far; read again only when the file has changed."""
        if self._path is None:
            return self._timeline
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return self._timeline
        if (seen := (stat.st_size, stat.st_mtime_ns)) != self._seen:
            self._timeline = Timeline(tuple(_read(self._path)))
            self._seen = seen
        return self._timeline

    def set(self, speed: float, business: datetime | None = None) -> Segment:
        """Let business time run at ``speed`` from now on, for every process that shares the file."""
        if self._path is None:
            raise ValueError("business time is machine time here: no clock file is configured")
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed: the list stays in order, whoever else sets the speed
            _drop_half_a_line(file)
            segment = self.timeline().then(self.machine(), speed, business)
            line = {
                "anchor": segment.anchor.isoformat(),
                "business": segment.business.isoformat(),
                "speed": segment.speed,
            }
            file.write(json.dumps(line).encode() + b"\n")  # one short write
        return segment


def _drop_half_a_line(file: BinaryIO) -> None:
    """Cut off what a crash left unfinished at the end: the next line would become unreadable by it."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)


def _read(path: Path) -> list[Segment]:
    segments = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # still being written
        entry = json.loads(line)
        segments.append(
            Segment(
                datetime.fromisoformat(entry["anchor"]),
                datetime.fromisoformat(entry["business"]),
                float(entry["speed"]),
            )
        )
    return segments
