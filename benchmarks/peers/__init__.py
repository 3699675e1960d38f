"""Other matchers, each in a virtual environment of its own, asked through a process of its own.

`mentor-match` and `matching` install a package of the same name, so that neither can live beside the other, nor in the
project's lock. Their environments are made once, with pinned versions, in the user's cache. A peer gets its people as
JSON, and answers with pairs and with the seconds that its own solving took: starting Python and reading JSON are not
counted.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATIENCE = 600  # seconds for one answer
INSTALLATION = 180  # seconds for making an environment


class Missing(Exception):
    """The peer cannot be had here, for example without a package registry."""


@dataclass(frozen=True)
class Peer:
    """A distribution with all that it needs, pinned, and the file here that speaks to it."""

    name: str
    pins: tuple[str, ...]
    script: str


MENTOR_MATCH = Peer("mentor-match", ("mentor-match==7.0.1", "munkres==3.0.0"), "mentor_match.py")
MATCHING = Peer("matching", ("matching==1.4.3", "numpy==2.4.6"), "stable_marriage.py")


@dataclass(frozen=True)
class Answer:
    """Pairs by position of senior and junior; ``told`` is what else the peer says of them."""

    pairs: Sequence[tuple[int, int]]
    seconds: float
    told: dict[str, Any]


def ask(peer: Peer, question: dict[str, Any]) -> Answer:
    """Raises ``Missing`` where there is no such peer, ``RuntimeError`` where it fails."""
    done = subprocess.run(
        [_environment(peer), "-I", HERE / peer.script],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{peer.name} failed: {done.stderr[-2000:]}")
    answer = json.loads(done.stdout)
    return Answer([(s, j) for s, j in answer.pop("pairs")], answer.pop("seconds"), answer)


def _environment(peer: Peer) -> Path:
    """The environment's Python. It is made under another name first, so that a half-made one is never used."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "viceversa" / "benchmarks"
    pins = "+".join(pin.replace("==", "-") for pin in peer.pins)
    path = home / f"{pins}-{sysconfig.get_python_version()}"
    python = path / "bin" / "python"
    if not python.exists():
        home.mkdir(parents=True, exist_ok=True)
        _run(peer, sys.executable, "-m", "venv", "--clear", path)
        try:
            _run(peer, python, "-m", "pip", "install", "--quiet", "--no-deps", *peer.pins)
        except Missing:
            python.unlink()
            raise
    return python


def _run(peer: Peer, *command: str | Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALLATION)
    except (OSError, subprocess.SubprocessError) as error:
        answer = getattr(error, "stderr", None) or str(error)
        raise Missing(f"{peer.name} cannot be installed: {str(answer).strip()[-300:]}") from error
