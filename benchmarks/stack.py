"""The four services as separate processes on servers of the benchmark's own, in a folder that goes with it."""

import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.environment import own_prefix
from chassis.web.dev_tokens import issue_token
from cli import local_stack
from cli.installation import Addresses
from contracts.catalogue import SERVICES
from deploy.local import process

COLUMNS = (
    "external_id",
    "name",
    "email",
    "organisation",
    "department",
    "site",
    "discipline",
    "level",
    "manager",
    "locale",
    "time_zone",
)


@dataclass(frozen=True)
class Estate:
    data: Path
    addresses: Addresses

    def url(self, service: str) -> str:
        return self.addresses.urls[service]

    def token(self, member_id: str | None, *roles: str) -> str:
        """A token for an hour."""
        return issue_token(self.data, member_id, roles, issuer=self.addresses.urls["issuer"])

    def database(self, service: str) -> str:
        return self.addresses.prefix.replace(".", "_") + service

    def peak_memory(self) -> dict[str, float]:
        """Peak memory of each service's process in MB, by the kernel."""
        return {name: round(_peak(alive.pid), 1) for name in SERVICES if (alive := process.alive(name, self.data))}


@contextmanager
def running() -> Iterator[Estate]:
    """All processes on servers of their own, or on those of VICEVERSA_KAFKA and VICEVERSA_MONGO.

    Topics, groups and databases have names of their own: an installation on the same servers is never touched.
    """
    process.bind_children()
    os.environ["VICEVERSA_TOPIC_PREFIX"] = own_prefix()
    with TemporaryDirectory(prefix="viceversa-benchmark-") as folder:
        data = Path(folder)
        addresses = local_stack.start(data, _silent)
        try:
            yield Estate(data, addresses)
        finally:
            local_stack.stop(data, _silent)


def people(count: int) -> bytes:
    """An HR file of so many people, one in eight of them somebody's manager."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for number in range(count):
        manager = f"E{number // 8}" if number else ""
        writer.writerow(
            (
                f"E{number}",
                f"Person Number {number}",
                f"person.{number}@northwind.example",
                "Northwind",
                f"Department {number % 12}",
                f"Site {number % 5}",
                f"Discipline {number % 9}",
                1 + number % 20,
                manager,
                "en",
                "Europe/Berlin",
            )
        )
    return out.getvalue().encode()


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def _silent(_: str) -> None:
    """A benchmark prints its result and nothing else."""
