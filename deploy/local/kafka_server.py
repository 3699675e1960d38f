"""One Apache Kafka node, with broker and controller in one process: settings, storage format, command line."""

import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local import private_files
from deploy.local.errors import ServerError
from deploy.local.java import class_sharing_options, java_env, java_home
from deploy.local.process import changed_environment, tail

_HEAP = ("-Xmx384m", "-XX:TieredStopAtLevel=1")
_FORMAT_DEADLINE_S = 60


def settings(folder: Path, port: int, controller_port: int) -> dict[str, str]:
    """Settings of the node: loopback only, one replica, small internal topics, no automatic topic creation."""
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
        # Tests create and delete thousands of partitions, so their index files must be small and soon unmapped.
        "log.index.size.max.bytes": "1048576",
        "log.segment.delete.delay.ms": "1000",
        # After a change of its settings, the cleaner briefly has two buffers, and both must fit the heap.
        "log.cleaner.dedupe.buffer.size": "33554432",
    }


def prepare(
    folder: Path, jars: Sequence[Path], port: int, controller_port: int, extra: Mapping[str, str], log: Path
) -> list[str]:
    """Write the settings, format a new folder, and return the command that runs the node.

    The cluster id is generated once, at the first format.
    """
    private_files.make_folder(folder)
    chosen = {**settings(folder, port, controller_port), **extra}
    file = folder / "server.properties"
    private_files.write_text(file, "".join(f"{key}={value}\n" for key, value in chosen.items()))
    if not (folder / "logs" / "meta.properties").exists():
        _format(folder, jars, file, log)
    return [*_java("kafka", jars), "kafka.Kafka", str(file)]


def cluster_id(folder: Path) -> str:
    """The id of the cluster whose data is in the folder. It distinguishes our broker from another one on its port."""
    lines = (folder / "logs" / "meta.properties").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))


def _java(name: str, jars: Sequence[Path]) -> list[str]:
    return [
        str(java_home() / "bin" / "java"),
        *_HEAP,
        *class_sharing_options(name),
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
    )  # a "-" at the beginning would look like an option
    tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", new_id, "-c", str(file)]
    command = [*_java("kafka-format", jars), *tool]
    with os.fdopen(private_files.open_log(log), "ab") as output:
        try:
            done = subprocess.run(
                command,
                env=changed_environment(java_env()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_FORMAT_DEADLINE_S,
                umask=private_files.UMASK,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"Kafka did not format {folder} within {_FORMAT_DEADLINE_S} s.\n{tail(log)}") from error
    if done.returncode != 0:
        raise ServerError(f"Kafka could not format {folder}; remove that folder and start again.\n{tail(log)}")
