"""One Apache Kafka node, broker and controller in one process: its settings, its format step, its command line."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.errors import ServerError
from deploy.local.java import java_env, java_home, quick_start
from deploy.local.process import changed_environment, tail

_HEAP = ("-Xmx384m", "-XX:TieredStopAtLevel=1")
_FORMAT_DEADLINE_S = 60


def settings(folder: Path, port: int, controller_port: int) -> dict[str, str]:
    """Loopback only, one replica, topics only by `provision`; small internal topics, since one node hosts them all."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(folder / "logs"),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        # Tests make and delete thousands of partitions: their index files must be small and soon unmapped.
        "log.index.size.max.bytes": "1048576",
        "log.segment.delete.delay.ms": "1000",
        # A change of the cleaner's settings makes a second buffer before the first is freed: both must fit the heap.
        "log.cleaner.dedupe.buffer.size": "33554432",
    }


def prepare(
    folder: Path, jars: Sequence[Path], port: int, controller_port: int, extra: Mapping[str, str], log: Path
) -> list[str]:
    """Writes the settings, formats the folder when it is new, and returns the command that runs the node.

    The cluster's id is drawn once, at the first format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {**settings(folder, port, controller_port), **extra}
    file = folder / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in chosen.items()), encoding="utf-8")
    if not (folder / "logs" / "meta.properties").exists():
        _format(folder, jars, file, log)
    return [*_java("kafka", jars), "kafka.Kafka", str(file)]


def cluster_id(folder: Path) -> str:
    """Which cluster's data lies in the folder, so that a stranger on our port is not taken for it."""
    lines = (folder / "logs" / "meta.properties").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))


def _java(name: str, jars: Sequence[Path]) -> list[str]:
    return [
        str(java_home() / "bin" / "java"),
        *_HEAP,
        *quick_start(name),
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-cp",
        ":".join(map(str, jars)),
    ]


def _format(folder: Path, jars: Sequence[Path], file: Path, log: Path) -> None:
    new_id = (
        urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    )  # "-" would look like an option
    tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", new_id, "-c", str(file)]
    command = [*_java("kafka-format", jars), *tool]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command,
                env=changed_environment(java_env()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_FORMAT_DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"Kafka did not format {folder} within {_FORMAT_DEADLINE_S} s.\n{tail(log)}") from error
    if done.returncode != 0:
        raise ServerError(f"Kafka could not format {folder}; remove that folder and start again.\n{tail(log)}")
