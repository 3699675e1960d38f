"""Ends the children of a program that has ended: `python -m deploy.local.bound_children`, started only by `process`.

Its input is a pipe whose other end only that program holds. Each line is the pid of a child and its creation time. The
system closes the pipe when the program ends, also after SIGKILL. Then every child that still runs is killed with its
session. This works on every system, and needs no cooperation of the children, which may be JVMs.
"""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from deploy.local.process import Process


def main(lines: Iterable[str]) -> None:
    """Kill the children without a stop request: nobody needs the data of a bound child after its parent."""
    for child in [_parsed(line) for line in lines]:
        if child.running:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _parsed(line: str) -> Process:
    pid, created = line.split()
    return Process("", int(pid), float(created), Path(os.devnull))


if __name__ == "__main__":
    main(sys.stdin)
