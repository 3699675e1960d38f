"""The JVM's archives of classes: used where they can be, and never in anybody's way."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local import java

LEFT: dict[str, Callable[[bytes], bytes]] = {
    "half of it": lambda whole: whole[: len(whole) // 2],
    "all but the beginning": lambda whole: bytes(4096) + whole[4096:],
    "an empty file": lambda _: b"",
}
"""What somebody may find whose JVM was killed while it wrote the archive; the beginning is written last."""


def test_none_is_asked_for_without_the_runtimes_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = tmp_path / "lib" / "server"
    archives.mkdir(parents=True)
    monkeypatch.setattr(java, "java_home", lambda: tmp_path)
    assert java.quick_start("kafka") == []
    (archives / "classes.jsa").touch()
    assert f"-XX:SharedArchiveFile={archives / 'kafka.jsa'}" in java.quick_start("kafka")


needs_the_runtimes_own = pytest.mark.skipif(
    not java.quick_start("any"), reason="the runtime's own archive is missing: scripts/bootstrap makes it"
)


def run(archive: Path) -> tuple[str, str]:
    """What a small program says, and what it complains of."""
    command = [str(java.java_home() / "bin" / "java"), *java.mapped(archive), "--list-modules"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout, done.stderr


@needs_the_runtimes_own
@pytest.mark.parametrize("left", LEFT)
def test_whatever_was_left_of_one_it_is_made_anew_without_a_word(left: str, tmp_path: Path) -> None:
    archive = tmp_path / "any.jsa"
    said = run(archive)
    whole = archive.read_bytes()
    archive.write_bytes(LEFT[left](whole))
    assert run(archive) == said
    assert abs(archive.stat().st_size - len(whole)) < 0.1 * len(whole)


@needs_the_runtimes_own
def test_one_whose_rest_never_reached_the_disk_is_not_believed(tmp_path: Path) -> None:
    archive = tmp_path / "any.jsa"
    run(archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    assert "java.base@" in run(archive)[0]
