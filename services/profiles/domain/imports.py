"""An import: ``received -> running -> done | failed``, or ``waiting_for_release`` where it would touch many pairings.

Its file lies in chunks, stored before the upload is acknowledged; ``cursor`` is the last line whose row has had its
effect, so that whoever goes on after a crash knows where.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from contracts.envelope import Instant
from contracts.errors import CommandRejected, NotFound
from services.profiles.domain.base import State, Value
from services.profiles.domain.person import Person

LEASE = timedelta(seconds=30)  # for so long a driver owns a running import without a sign of life
RELEASE_SHARE = 0.05  # of the running pairings; touching more waits for a person
WAITS = timedelta(days=7)  # a file that nobody releases is forgotten

Count = Annotated[int, Field(ge=0)]


class Tally(Value):
    """What became of the rows. ``failed`` rows were refused; ``remarks`` counts all entries of the report."""

    rows: Count = 0
    created: Count = 0
    changed: Count = 0
    unchanged: Count = 0
    failed: Count = 0
    remarks: Count = 0

    def plus(self, other: "Tally") -> "Tally":
        return Tally(
            rows=self.rows + other.rows,
            created=self.created + other.created,
            changed=self.changed + other.changed,
            unchanged=self.unchanged + other.unchanged,
            failed=self.failed + other.failed,
            remarks=self.remarks + other.remarks,
        )


class Import(State):
    """The aggregate. ``invites_to`` None: its uploader may invite to every programme."""

    import_id: str
    source: str
    uploaded_by: str
    received_at: Instant
    upload_id: str
    chunks: Count
    size: Count
    digest: str
    invites_to: tuple[str, ...] | None = None
    state: Literal["received", "running", "waiting_for_release", "done", "failed"] = "received"
    total: Count | None = Field(None, description="rows in the file, once they were counted")
    cursor: Count = 0
    tally: Tally = Tally()
    running_pairings: Count = 0
    touched_pairings: Count = 0
    released_by: str | None = None
    failure: str | None = None
    finished_at: Instant | None = None

    @property
    def unfinished(self) -> bool:
        return self.state in ("received", "running", "waiting_for_release")


def begun(known: Import, machine: datetime) -> Import:
    """A driver takes it, or takes it over from one that has given no sign of life."""
    return known.model_copy(update={"state": "running", "lease": machine + LEASE})


def postponed(known: Import, until: datetime) -> Import:
    """Another import is being worked on: only one at a time, so that lines are drawn from one picture."""
    return known.model_copy(update={"state": "received", "lease": until})


def surveyed(known: Import, total: int, running: int, touched: int, machine: datetime) -> Import:
    """The file was read through once; it waits for a person when it would touch too many pairings."""
    waits = known.released_by is None and touched > running * RELEASE_SHARE
    return known.model_copy(
        update={
            "state": "waiting_for_release" if waits else "running",
            "lease": machine + (WAITS if waits else LEASE),
            "total": total,
            "running_pairings": running,
            "touched_pairings": touched,
        }
    )


def advanced(known: Import, cursor: int, tally: Tally, machine: datetime) -> Import:
    return known.model_copy(update={"cursor": cursor, "tally": known.tally.plus(tally), "lease": machine + LEASE})


def released(known: Import | None, by: str, newer: bool, machine: datetime) -> Import:
    """Let it go on. Raises ``CommandRejected``, also when a newer file has been imported since."""
    if known is None:
        raise NotFound("import", code="unknown_import", detail="there is no such import")
    if known.state != "waiting_for_release":
        raise CommandRejected("not_waiting", "this import does not wait for a release")
    if newer:
        raise CommandRejected("outdated", "a newer file of the same source has been imported since; upload it again")
    return known.model_copy(update={"state": "received", "released_by": by, "lease": machine})


def done(known: Import, machine: datetime) -> Import:
    return known.model_copy(update={"state": "done", "lease": None, "finished_at": machine})


def failed(known: Import, why: str, machine: datetime) -> Import:
    return known.model_copy(update={"state": "failed", "lease": None, "finished_at": machine, "failure": why})


def touches(before: Person, after: Person) -> bool:
    """Whether a change in HR's record matters to the pairings of this person: where they stand, and how long."""
    if before.hr is None or after.hr is None:
        return before.hr is not after.hr
    return (
        before.place.line != after.place.line
        or before.employment != after.employment
        or before.hr.employed_until != after.hr.employed_until
        or before.hr.organisation_id != after.hr.organisation_id
        or before.hr.department_id != after.hr.department_id
        or before.hr.level != after.hr.level
    )


def touched(pairings: Mapping[str, Sequence[str]], members: set[str]) -> int:
    """How many of the pairings (id -> members) have somebody among ``members``."""
    return sum(1 for participants in pairings.values() if any(one in members for one in participants))
