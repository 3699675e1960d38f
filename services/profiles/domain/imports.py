"""An import: ``received -> running -> done | failed``; ``waiting_for_release`` when it would touch many pairings.

The file is stored in chunks before the upload is acknowledged. ``cursor`` is the last line whose row has taken effect,
so that another replica can continue there after a crash.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant
from contracts.errors import CommandRejected, NotFound
from services.profiles.domain.base import ProfilesState
from services.profiles.domain.person import Person

DRIVER_LEASE = timedelta(seconds=30)  # a replica owns a running import for this long after its last renewal
RELEASE_SHARE = 0.05  # share of the running pairings; an import that touches more of them needs a release
RELEASE_WAIT = timedelta(days=7)  # a file that nobody releases in this time is deleted

Count = Annotated[int, Field(ge=0)]


class RowCounts(FrozenModel):
    """The results of the rows. ``failed`` rows were refused; ``remarks`` counts all entries of the report."""

    rows: Count = 0
    created: Count = 0
    changed: Count = 0
    unchanged: Count = 0
    failed: Count = 0
    remarks: Count = 0

    def plus(self, other: "RowCounts") -> "RowCounts":
        return RowCounts(
            rows=self.rows + other.rows,
            created=self.created + other.created,
            changed=self.changed + other.changed,
            unchanged=self.unchanged + other.unchanged,
            failed=self.failed + other.failed,
            remarks=self.remarks + other.remarks,
        )


class HrImport(ProfilesState):
    """The aggregate. ``invites_to``: programmes to which its uploader may invite; None: to every programme."""

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
    tally: RowCounts = RowCounts()
    running_pairings: Count = 0
    touched_pairings: Count = 0
    released_by: str | None = None
    failure: str | None = None
    finished_at: Instant | None = None

    @property
    def is_unfinished(self) -> bool:
        return self.state in ("received", "running", "waiting_for_release")


def take_over(current: HrImport, recorded_at: datetime) -> HrImport:
    """A replica starts it, renews its lease, or takes it over from a replica whose lease has passed."""
    return current.model_copy(update={"state": "running", "lease": recorded_at + DRIVER_LEASE})


def postpone(current: HrImport, until: datetime) -> HrImport:
    """Another import is running. Only one runs at a time, because reporting lines need one consistent view."""
    return current.model_copy(update={"state": "received", "lease": until})


def record_survey(current: HrImport, total: int, running: int, touched: int, recorded_at: datetime) -> HrImport:
    """The file was read once. The import waits for a release when it would touch too many pairings."""
    must_wait = current.released_by is None and touched > running * RELEASE_SHARE
    return current.model_copy(
        update={
            "state": "waiting_for_release" if must_wait else "running",
            "lease": recorded_at + (RELEASE_WAIT if must_wait else DRIVER_LEASE),
            "total": total,
            "running_pairings": running,
            "touched_pairings": touched,
        }
    )


def advance_cursor(current: HrImport, cursor: int, tally: RowCounts, recorded_at: datetime) -> HrImport:
    return current.model_copy(
        update={"cursor": cursor, "tally": current.tally.plus(tally), "lease": recorded_at + DRIVER_LEASE}
    )


def release_import(current: HrImport | None, released_by: str, has_newer: bool, recorded_at: datetime) -> HrImport:
    """Let it continue. Raises ``CommandRejected`` when it does not wait, or when a newer file was imported since."""
    if current is None:
        raise NotFound("import", code="unknown_import", detail="there is no such import")
    if current.state != "waiting_for_release":
        raise CommandRejected("not_waiting", "this import is not waiting for a release")
    if has_newer:
        raise CommandRejected("outdated", "a newer file of the same source has been imported since; upload it again")
    return current.model_copy(update={"state": "received", "released_by": released_by, "lease": recorded_at})


def mark_done(current: HrImport, recorded_at: datetime) -> HrImport:
    return current.model_copy(update={"state": "done", "lease": None, "finished_at": recorded_at})


def mark_failed(current: HrImport, failure: str, recorded_at: datetime) -> HrImport:
    return current.model_copy(update={"state": "failed", "lease": None, "finished_at": recorded_at, "failure": failure})


def affects_pairings(before: Person, after: Person) -> bool:
    """Whether a change in HR's record matters to the pairings of this person: position, level or employment."""
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


def count_touched_pairings(pairings: Mapping[str, Sequence[str]], members: set[str]) -> int:
    """The number of pairings (id -> members) with at least one of ``members``."""
    return sum(1 for participants in pairings.values() if any(member in members for member in participants))
