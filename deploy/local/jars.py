"""The servers' jars: listed in `jars.lock.toml`, fetched once per user, with their SHA-256 checked at every start.

jgo downloads files without a check, and leaves a partial file when it is interrupted. So a jar is downloaded into a
temporary folder, checked, and only then moved to the cache. Every file in the cache is complete.
"""

import hashlib
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.errors import ServerError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK = Path(__file__).with_name("jars.lock.toml")
ROOTS = {
    "kafka": ("org.apache.kafka:kafka_2.13:4.1.0", "org.slf4j:slf4j-simple:1.7.36"),
    "store": ("de.bwaldvogel:mongo-java-server-h2-backend:1.47.0", "org.slf4j:slf4j-simple:2.0.17"),
}
_PARALLEL_DOWNLOADS = 6
_NETWORK_TIMEOUT_S = 60


@dataclass(frozen=True)
class Jar:
    group: str
    artifact: str
    version: str
    sha256: str
    size: int
    """In bytes."""

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def cache_dir() -> Path:
    """The folder with the jars for all checkouts of a user: `VICEVERSA_CACHE`, or the platform's cache folder."""
    if chosen := os.environ.get("VICEVERSA_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "viceversa"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "viceversa"


def read_lock(server: str, lock: Path = LOCK) -> list[Jar]:
    """The jars of one server in the committed lock."""
    entries = tomllib.loads(lock.read_text(encoding="utf-8"))[server]["jars"]
    return [_jar(entry["coordinate"], entry["sha256"], entry["bytes"]) for entry in entries]


def _jar(coordinate: str, sha256: str, size: int) -> Jar:
    group, artifact, version = coordinate.split(":")
    return Jar(group, artifact, version, sha256, size)


def class_path(server: str, *, lock: Path = LOCK, quiet: bool = False) -> list[Path]:
    """Paths of the server's checked jars, in the order of the lock. Missing jars are fetched first.

    Raises ServerError when a jar differs from the lock. The message names the jar, and the expected and actual hash.
    """
    jars = read_lock(server, lock)
    folder = cache_dir() / "jars"
    missing = [jar for jar in jars if not (folder / jar.name).exists()]
    if missing:
        _fetch(missing, folder, title=server, quiet=quiet)
    for jar in jars:
        _check(jar, folder / jar.name, advice=f"Delete {folder / jar.name} and start again: it will be fetched again.")
    return [folder / jar.name for jar in jars]


def _check(jar: Jar, path: Path, *, advice: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != jar.sha256:
        raise ServerError(
            f"{jar.coordinate} is not the jar named in deploy/local/jars.lock.toml, and was not used.\n"
            f"  expected sha256 {jar.sha256}\n  actual   sha256 {actual}\n{advice}"
        )


def _fetch(jars: list[Jar], folder: Path, *, title: str, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"Cannot write to {folder}: {error}. Set VICEVERSA_CACHE to a folder that you own."
        ) from error
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
    # The context is entered outside the threads, so that jgo is imported and the certificates are set only once.
    with _system_certificates(), bar, ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
        task = bar.add_task(f"Fetching {len(jars)} jars for {title}, once", total=sum(jar.size for jar in jars))
        waiting = {pool.submit(_fetch_one, jar, folder): jar for jar in jars}
        try:
            for done in as_completed(waiting):
                done.result()
                bar.advance(task, waiting[done].size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(jar: Jar, folder: Path) -> None:
    import requests

    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch:
        context = _maven(Path(scratch))
        artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
        try:
            path = artifact.resolve()
        except requests.RequestException as error:
            raise ServerError(
                f"Could not fetch {jar.coordinate}: the Maven repository cannot be reached ({_error_name(error)}).\n"
                "The first start needs the network once. Behind a company's mirror, set VICEVERSA_MAVEN_REPOSITORY to "
                f"its address. Without any network, copy {folder} from another machine."
            ) from error
        except RuntimeError as error:
            raise ServerError(
                f"The Maven repository has no {jar.coordinate}.\n"
                "If VICEVERSA_MAVEN_REPOSITORY is set, check that it mirrors Maven Central. A proxy may also refuse it."
            ) from error
        _check(
            jar,
            path,
            advice="It was fetched just now. A proxy or mirror has changed it, or the lock is wrong. Try again.",
        )
        path.replace(folder / jar.name)


def _maven(cache: Path) -> "MavenContext":
    from jgo.maven import MavenContext, PythonResolver

    mirror = os.environ.get("VICEVERSA_MAVEN_REPOSITORY")
    return MavenContext(
        resolver=PythonResolver(),
        repo_cache=cache,
        local_repos=[],
        remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
        timeout=_NETWORK_TIMEOUT_S,
    )


@contextmanager
def _system_certificates() -> Iterator[None]:
    """Inside the context, TLS trusts the certificate authorities of this machine, including a company's own."""
    import truststore

    truststore.inject_into_ssl()
    try:
        yield
    finally:
        truststore.extract_from_ssl()


def _error_name(error: Exception) -> str:
    return type(error).__name__


def write_lock(lock: Path = LOCK) -> None:
    """Resolve ROOTS again and write the lock. Use it to update a server, and read the diff."""
    lines = ["# Written by `python -m deploy.local lock`; checked at every start. Read the diff before you commit it."]
    with _system_certificates(), tempfile.TemporaryDirectory() as scratch:
        for server, roots in ROOTS.items():
            lines += ["", f"[{server}]", "jars = ["]
            lines += [_lock_line(path, coordinate) for coordinate, path in _resolve(roots, Path(scratch))]
            lines += ["]"]
    lock.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _resolve(roots: Iterable[str], scratch: Path) -> list[tuple[str, Path]]:
    from jgo.maven import Dependency

    context = _maven(scratch)
    dependencies = []
    for root in roots:
        group, artifact, version = root.split(":")
        dependencies.append(Dependency(context.project(group, artifact).at_version(version).artifact()))
    inputs, transitive = context.resolver.resolve(dependencies)
    paths = {}
    for dependency in [*inputs, *transitive]:
        item = dependency.artifact
        if item.classifier or item.packaging != "jar":
            raise ServerError(f"{item} is not a plain jar, which the lock cannot describe.")
        paths[f"{item.groupId}:{item.artifactId}:{item.version}"] = item.resolve()
    return sorted(paths.items())


def _lock_line(path: Path, coordinate: str) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f'    {{ coordinate = "{coordinate}", sha256 = "{digest}", bytes = {path.stat().st_size} }},'
