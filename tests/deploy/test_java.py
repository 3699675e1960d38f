"""The JVM's class archives: used when possible, and never a cause of failure."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local import java

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half of it": lambda whole: whole[: len(whole) // 2],
    "all but the beginning": lambda whole: bytes(4096) + whole[4096:],
    "an empty file": lambda _: b"",
}
"""Archives of a JVM that was killed while it wrote one. The beginning is written last."""


needs_the_runtimes_own = pytest.mark.skipif(
    not java.class_sharing_options("any"), reason="the runtime's own archive is missing: scripts/bootstrap makes it"
)


def run_java(archive: Path) -> tuple[str, str]:
    """The standard output and standard error of a small Java program."""
    command = [str(java.java_home() / "bin" / "java"), *java.archive_options(archive), "--list-modules"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout, done.stderr


class TestClassArchives:
    def test_no_archive_is_used_without_the_runtimes_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        archives = tmp_path / "lib" / "server"
        archives.mkdir(parents=True)
        monkeypatch.setattr(java, "java_home", lambda: tmp_path)
        assert java.class_sharing_options("kafka") == []
        (archives / "classes.jsa").touch()
        assert f"-XX:SharedArchiveFile={archives / 'kafka.jsa'}" in java.class_sharing_options("kafka")

    @needs_the_runtimes_own
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_broken_archive_is_replaced_silently(self, damage: str, tmp_path: Path) -> None:
        archive = tmp_path / "any.jsa"
        output = run_java(archive)
        whole = archive.read_bytes()
        archive.write_bytes(DAMAGES[damage](whole))
        assert run_java(archive) == output
        assert abs(archive.stat().st_size - len(whole)) < 0.1 * len(whole)

    @needs_the_runtimes_own
    def test_an_archive_without_its_rest_is_not_used(self, tmp_path: Path) -> None:
        """Only the beginning of the file has reached the disk."""
        archive = tmp_path / "any.jsa"
        run_java(archive)
        whole = archive.read_bytes()
        archive.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
        assert "java.base@" in run_java(archive)[0]
