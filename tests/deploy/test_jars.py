"""Only jars that are exactly those of the committed lock are used."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import jars
from deploy.local.errors import ServerError

CONTENT = b"content of the jar in the lock"
PATH = "org/example/thing/1.0/thing-1.0.jar"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VICEVERSA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    digest = hashlib.sha256(CONTENT).hexdigest()
    path = tmp_path / "jars.lock.toml"
    path.write_text(
        f'[toy]\njars = [{{ coordinate = "org.example:thing:1.0", sha256 = "{digest}", bytes = {len(CONTENT)} }}]\n'
    )
    return path


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a Maven repository on this machine serves."""
    folder = tmp_path / "repository"
    (folder / PATH).parent.mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, format: str, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("VICEVERSA_MAVEN_REPOSITORY", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()


class TestClassPath:
    def test_a_jar_is_fetched_once_and_then_cached(self, lock: Path, repository: Path, own_cache: Path) -> None:
        (repository / PATH).write_bytes(CONTENT)
        first = jars.class_path("toy", lock=lock, quiet=True)
        (repository / PATH).unlink()
        assert jars.class_path("toy", lock=lock, quiet=True) == first == [own_cache / "jars" / "thing-1.0.jar"]

    def test_a_fetched_jar_with_a_wrong_checksum_is_refused(
        self, lock: Path, repository: Path, own_cache: Path
    ) -> None:
        (repository / PATH).write_bytes(b"tampered")
        with pytest.raises(ServerError) as refusal:
            jars.class_path("toy", lock=lock, quiet=True)
        for part in (
            "org.example:thing:1.0",
            hashlib.sha256(CONTENT).hexdigest(),
            hashlib.sha256(b"tampered").hexdigest(),
        ):
            assert part in str(refusal.value)
        assert list((own_cache / "jars").iterdir()) == []

    def test_a_jar_changed_in_the_cache_is_refused(self, lock: Path, own_cache: Path) -> None:
        path = own_cache / "jars" / "thing-1.0.jar"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"changed on disk")
        with pytest.raises(
            ServerError, match=r"(?s)org\.example:thing:1\.0.*expected.*actual.*Delete .*thing-1\.0\.jar"
        ):
            jars.class_path("toy", lock=lock, quiet=True)

    def test_a_jar_missing_from_the_repository_is_reported(self, lock: Path, repository: Path) -> None:
        with pytest.raises(ServerError, match=r"has no org\.example:thing:1\.0"):
            jars.class_path("toy", lock=lock, quiet=True)

    def test_without_a_network_the_error_gives_advice(self, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_MAVEN_REPOSITORY", "http://127.0.0.1:9/")
        with pytest.raises(ServerError, match=r"(?s)cannot be reached.*needs the network once"):
            jars.class_path("toy", lock=lock, quiet=True)


class TestJarLock:
    def test_the_lock_has_checksums_and_names_no_host(self) -> None:
        assert "://" not in jars.LOCK.read_text()
        for server, roots in jars.ROOTS.items():
            listed = jars.read_lock(server)
            assert set(roots) <= {jar.coordinate for jar in listed}
            assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in listed)
