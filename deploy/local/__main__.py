"""`python -m deploy.local up | down | status | lock [--data DIR]`: start and stop the servers by hand."""

import argparse
import sys
from pathlib import Path

from deploy.local import jars, stack


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "lock"])
    parser.add_argument("--data", type=Path, default=Path(".data"), help="the folder with all data of the servers")
    parser.add_argument("--kafka-port", type=int, default=9092)
    parser.add_argument("--mongo-port", type=int, default=27017)
    arguments = parser.parse_args()
    try:
        return _run(arguments.command, arguments.data, arguments.kafka_port, arguments.mongo_port)
    except stack.ServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(command: str, data: Path, kafka_port: int, mongo_port: int) -> int:
    if command == "up":
        running = stack.start(data, kafka_port=kafka_port, mongo_port=mongo_port, report=_print)
        _print(
            f"export VICEVERSA_KAFKA={running.endpoints.kafka} VICEVERSA_MONGO={running.endpoints.mongo} "
            "VICEVERSA_MONGO_PROFILE=embedded"
        )
    elif command == "down":
        if not stack.stop(data, report=_print):
            _print("Nothing was running.")
    elif command == "lock":
        jars.write_lock()
    else:
        servers = stack.status(data)
        for server in servers:
            _print(f"{server.name:6} {server.address or '-':28} pid {server.pid or '-'}  {server.trouble or 'answers'}")
        return 0 if all(server.trouble is None for server in servers) else 3
    return 0


def _print(message: str) -> None:
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
