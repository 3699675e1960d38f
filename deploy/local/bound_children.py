"""Ends the children of a program that is gone: `python -m deploy.local.bound_children`, started by `process` alone.

Its input is a pipe whose other end only the program holds. Each line is the pid of a child and when that was created.
The system closes the pipe when the program ends, also by SIGKILL. Then whatever still runs is killed with its session.
That needs no call that only one system has, and asks nothing of the children, which may be JVMs.
"""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from deploy.local.process import Process


def main(lines: Iterable[str]) -> None:
    """Killed, not asked to stop: a bound child keeps nothing that anybody wants after its parent."""
    for child in [_parsed(line) for line in lines]:
        if child.running:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _parsed(line: str) -> Process:
    pid, created = line.split()
    return Process("", int(pid), float(created), Path(os.devnull))


if __name__ == "__main__":
    main(sys.stdin)
