"""Business time and machine time, as every process of an installation reads them.

*Machine* time is for leases, back-off, sweeps and tokens. *Business* time is for deadlines and cadences, and may run
faster than real time (in the demo and in tests).

Business time is piecewise linear in machine time. One file holds an append-only list of segments (anchor, business
time, speed, end), and all processes read it, also after a restart. Speed 0 is a pause. After the end of a segment
business time stands still, whether or not the process that set it still runs. Without a file, business time is machine
time.
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
    """A stretch of business time: it starts at ``business`` when machine time is ``anchor`` and runs ``speed`` times
    as fast. With ``until`` it stands still from that business time on.
    """

    anchor: datetime
    business: datetime
    speed: float
    until: datetime | None = None

    def business_time(self, machine: datetime) -> datetime:
        elapsed = timedelta(seconds=(machine - self.anchor).total_seconds() * self.speed)
        business = self.business + elapsed
        return business if self.until is None else min(business, self.until)


@dataclass(frozen=True)
class Timeline:
    """Business time as a function of machine time. Before the first segment, the two are the same."""

    segments: tuple[Segment, ...] = ()

    def business_time(self, machine: datetime) -> datetime:
        index = bisect_right(self.segments, machine, key=lambda segment: segment.anchor)
        return self.segments[index - 1].business_time(machine) if index else machine

    def next_segment(
        self, machine: datetime, speed: float, business: datetime | None = None, until: datetime | None = None
    ) -> Segment:
        """The segment that changes the speed at ``machine``: without a jump, or with a jump to ``business``.

        Raises ``ValueError`` when the speed is negative or infinite, when the anchor lies before the last one, or when
        business time would run backwards.
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
    """Reads both clocks. Every process of one installation is given the same ``path``."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._file_version: tuple[int, int, int] | None = None  # inode, size and time of change
        self._read_bytes = 0  # bytes of the file that the timeline holds
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
        """All segments so far. Reads only the lines that were added since the last call."""
        if self._path is None:
            return self._timeline
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return self._timeline
        version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if version != self._file_version:
            is_another_file = self._file_version is None or version[0] != self._file_version[0]
            if is_another_file or stat.st_size < self._read_bytes:
                self._read_bytes, self._timeline = 0, Timeline()
            added = _read_whole_lines(self._path, self._read_bytes)
            self._read_bytes += len(added)
            self._timeline = Timeline((*self._timeline.segments, *map(_parse_segment, added.splitlines())))
            self._file_version = version
        return self._timeline

    def set_speed(self, speed: float, business: datetime | None = None, *, until: datetime | None = None) -> Segment:
        """Let business time run at ``speed`` from now on, for every process that shares the file.

        ``business``: jump to this business time. ``until``: stand still from this business time on; at once when it
        has passed. Raises ``ValueError`` without a file, and as ``Timeline.next_segment`` does.
        """
        if self._path is None:
            raise ValueError("business time is machine time here: no clock file is configured")
        with self._path.open("a+b") as file:
            # The lock holds until the file is closed, so that two writers cannot append segments out of order.
            fcntl.flock(file, fcntl.LOCK_EX)
            _truncate_partial_line(file)
            segment = self.timeline().next_segment(self.machine_now(), speed, business, until)
            line = {
                "anchor": segment.anchor.isoformat(),
                "business": segment.business.isoformat(),
                "speed": segment.speed,
            } | ({"until": segment.until.isoformat()} if segment.until else {})
            file.write(json.dumps(line).encode() + b"\n")  # one short write
        return segment


def _truncate_partial_line(file: BinaryIO) -> None:
    """Cut off an unfinished last line, which a crash left. Otherwise the next line would be unreadable too."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)


def _read_whole_lines(path: Path, start: int) -> bytes:
    """The content of the file from ``start`` on, without a last line that is still being written."""
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    return content[: content.rfind(b"\n") + 1]


def _parse_segment(line: bytes) -> Segment:
    entry = json.loads(line)
    return Segment(
        datetime.fromisoformat(entry["anchor"]),
        datetime.fromisoformat(entry["business"]),
        float(entry["speed"]),
        datetime.fromisoformat(entry["until"]) if "until" in entry else None,
    )
