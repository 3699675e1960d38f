"""A second server with MongoDB's protocol: SecantusDB, which has secondary indexes and ``explain``."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from deploy.local import ports
from tests.patience import patience

PROGRAM = Path(__file__).parents[2] / ".venv.second-store" / "bin" / "secantusd-py"


@contextmanager
def run_second_store(data: Path, *arguments: str) -> Iterator[str]:
    """Run the server with its data in a folder; yields its connection string. Skips the test where it is missing."""
    if not PROGRAM.exists():
        pytest.skip("the second store is not installed (./scripts/second-store)")
    port = ports.any_free()
    command = [str(PROGRAM), "--port", str(port), "--storage-path", str(data), "--log-level", "ERROR", *arguments]
    with (data.parent / f"{data.name}.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as run:
        try:
            url = f"mongodb://127.0.0.1:{port}"
            _wait_until_it_answers(url, run)
            yield url
        finally:
            run.terminate()
            run.wait(timeout=patience(2))


def _wait_until_it_answers(url: str, run: "subprocess.Popen[bytes]") -> None:
    client: MongoClient[dict[str, object]] = MongoClient(url, serverSelectionTimeoutMS=int(patience(3) * 1000))
    with client:
        try:
            client.admin.command("ping")
        except PyMongoError as error:
            raise AssertionError(f"the second store does not answer; its status is {run.poll()}") from error
