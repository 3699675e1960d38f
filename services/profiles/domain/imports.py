"""An import: ``received -> running -> done | failed | cancelled``.

There are two kinds. *people* is HR's file. It may change everybody, so only an admin sends one, or a service to which
its source is bound. When it would touch many running pairings, it applies the harmless rows and holds the others
(``waiting_for_release``), until somebody else releases it. *invitations* is a coordinator's list. It changes nothing of
a person but an invitation.

The file is stored in chunks before the upload is acknowledged. ``cursor`` is the last line whose row has taken effect,
so that another replica can continue there after a crash. A run that makes no progress is repeated a few times only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
MAX_PAIRINGS_NAMED = 1000  # touched pairings that a held import names
MAX_ATTEMPTS = 20  # runs without progress, when processes crash or a server cannot be reached
MAX_FAILED_ATTEMPTS = 3  # the same, when a run ends with an unknown error
STANDS_STILL_AFTER = timedelta(minutes=5)  # without progress, an import is reported to the operator

ImportKind = Literal["people", "invitations"]

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
    """The aggregate.

    ``sources``: the sources whose people it may change; None: all. ``organisation``: of all people, where the file has
    no column for it. ``programme_id``: where a list of invitations
    invites to. ``attempts``: runs since the last progress. ``held_lines``: rows that wait for the release.
    ``held_pairings``: the first pairings that these rows touch. ``invites_to`` was set in a former version, where
    coordinators sent HR's file. ``has_known_uploader``: whether it is known who is behind the account.
    """

    import_id: str
    kind: ImportKind = "people"
    source: str
    sources: tuple[str, ...] | None = None
    programme_id: str | None = None
    organisation: str | None = None
    uploaded_by: str
    uploader_member: str | None = None
    has_known_uploader: bool = True
    received_at: Instant
    upload_id: str
    chunks: Count
    size: Count
    digest: str
    invites_to: tuple[str, ...] | None = None
    state: Literal["received", "running", "waiting_for_release", "done", "failed", "cancelled"] = "received"
    total: Count | None = Field(None, description="rows in the file, once they were counted")
    cursor: Count = 0
    tally: RowCounts = RowCounts()
    attempts: Count = 0
    progressed_at: Instant | None = None
    running_pairings: Count = 0
    touched_pairings: Count = 0
    held_lines: tuple[int, ...] | None = None
    held_pairings: tuple[str, ...] = ()
    released_by: str | None = None
    cancelled_by: str | None = None
    failure: str | None = None
    finished_at: Instant | None = None

    @property
    def is_unfinished(self) -> bool:
        return self.state in ("received", "running", "waiting_for_release")

    def line_filter(self) -> Callable[[int], bool]:
        """Which lines the current run applies: before the release all but the held ones, after it only those."""
        held = frozenset(self.held_lines or ())
        is_released = self.held_lines is not None and self.released_by is not None
        return lambda line: (line in held) == is_released


def begin_run(current: HrImport, recorded_at: datetime) -> HrImport:
    """A replica starts it, or takes it over from a replica whose lease has passed."""
    return current.model_copy(
        update={
            "state": "running",
            "lease": recorded_at + DRIVER_LEASE,
            "attempts": current.attempts + 1,
            "progressed_at": current.progressed_at or recorded_at,
        }
    )


def renew_lease(current: HrImport, recorded_at: datetime) -> HrImport:
    return current.model_copy(update={"lease": recorded_at + DRIVER_LEASE, "progressed_at": recorded_at})


def postpone(current: HrImport, until: datetime) -> HrImport:
    """Another import is running. Only one runs at a time, because reporting lines need one consistent view."""
    return current.model_copy(
        update={"state": "received", "lease": until, "attempts": max(0, current.attempts - 1), "progressed_at": None}
    )


def record_survey(
    current: HrImport,
    *,
    total: int,
    running: int,
    touched: Mapping[str, Sequence[str]],
    lines: Mapping[str, int],
    release_from: int,
    recorded_at: datetime,
) -> HrImport:
    """The file was read once. It holds the rows that touch pairings, when these are too many.

    ``touched``: pairing -> its members whom the file would affect. ``lines``: member -> line of the row.
    """
    must_hold = current.released_by is None and needs_release(len(touched), running, release_from)
    held = {lines[member] for members in touched.values() for member in members} if must_hold else set()
    return current.model_copy(
        update={
            "lease": recorded_at + DRIVER_LEASE,
            "progressed_at": recorded_at,
            "total": total,
            "running_pairings": running,
            "touched_pairings": len(touched),
            "held_lines": tuple(sorted(held)) if must_hold else None,
            "held_pairings": tuple(sorted(touched)[:MAX_PAIRINGS_NAMED]) if must_hold else (),
        }
    )


def needs_release(touched: int, running: int, release_from: int) -> bool:
    """Whether so many touched pairings are too many: a number and a share, so that a small programme is not held."""
    return touched >= release_from and touched > running * RELEASE_SHARE


def advance_cursor(current: HrImport, cursor: int, tally: RowCounts, recorded_at: datetime) -> HrImport:
    return current.model_copy(
        update={
            "cursor": cursor,
            "tally": current.tally.plus(tally),
            "lease": recorded_at + DRIVER_LEASE,
            "attempts": 0,
            "progressed_at": recorded_at,
        }
    )


def wait_for_release(current: HrImport, recorded_at: datetime) -> HrImport:
    """All harmless rows are applied; the others wait."""
    lease = recorded_at if current.cancelled_by is not None else recorded_at + RELEASE_WAIT
    return current.model_copy(update={"state": "waiting_for_release", "lease": lease})


def release_import(
    current: HrImport | None, released_by: str, member_id: str | None, has_newer: bool, recorded_at: datetime
) -> HrImport:
    """Let the held rows continue. Raises ``CommandRejected``.

    The releasing person is not the one who uploaded the file, under whatever account. A newer file of the same source
    has made this one outdated.
    """
    if current is None:
        raise NotFound("import", code="unknown_import", detail="there is no such import")
    is_uploader = member_id is not None and member_id == current.uploader_member
    if released_by == current.uploaded_by or is_uploader:
        raise CommandRejected("own_upload", "you uploaded this file; another admin must look at it and release it")
    if not current.has_known_uploader:
        text = "nobody knows who is behind the account that uploaded this file; upload it with a declared account"
        raise CommandRejected("undeclared_upload", text)
    if current.state != "waiting_for_release":
        raise CommandRejected("not_waiting", "this import is not waiting for a release")
    if has_newer:
        raise CommandRejected("outdated", "a newer file of the same source has been imported since; upload it again")
    return current.model_copy(
        update={"state": "received", "released_by": released_by, "lease": recorded_at, "cursor": 0, "attempts": 0}
    )


def cancel_import(current: HrImport | None, cancelled_by: str, recorded_at: datetime) -> HrImport:
    """Stop an import. Rows that were applied stay. A running one ends after its current batch.

    Raises ``CommandRejected`` when it has ended already.
    """
    if current is None:
        raise NotFound("import", code="unknown_import", detail="there is no such import")
    if not current.is_unfinished:
        raise CommandRejected("finished", "this import has ended already")
    asked_to_stop = current.model_copy(update={"cancelled_by": cancelled_by})
    return asked_to_stop if current.state == "running" else mark_done(asked_to_stop, recorded_at)


def mark_done(current: HrImport, recorded_at: datetime) -> HrImport:
    """It has ended: done, or cancelled if somebody has stopped it."""
    state = "done" if current.cancelled_by is None else "cancelled"
    return current.model_copy(update={"state": state, "lease": None, "finished_at": recorded_at})


def mark_failed(current: HrImport, failure: str, recorded_at: datetime) -> HrImport:
    return current.model_copy(update={"state": "failed", "lease": None, "finished_at": recorded_at, "failure": failure})


def queue_before(current: HrImport, unfinished: Iterable[HrImport]) -> list[HrImport]:
    """The files of people that run before this one: the running one, then the others in the order of arrival."""
    if current.kind != "people":
        return []
    waiting = [
        other
        for other in unfinished
        if other.import_id != current.import_id
        and (
            other.state == "running"
            or (
                other.state == "received"
                and (other.received_at, other.import_id) < (current.received_at, current.import_id)
            )
        )
    ]
    return sorted(waiting, key=lambda other: (other.state != "running", other.received_at, other.import_id))


def stands_still(current: HrImport, recorded_at: datetime) -> bool:
    """Whether a running import makes no progress, so that an operator should look at it."""
    if current.state != "running":
        return False
    since = current.progressed_at or current.received_at
    return current.attempts >= MAX_FAILED_ATTEMPTS or recorded_at - since > STANDS_STILL_AFTER


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


def find_touched_pairings(pairings: Mapping[str, Sequence[str]], members: set[str]) -> dict[str, tuple[str, ...]]:
    """The pairings (id -> members) with at least one of ``members``, each with those of them who take part."""
    touched = {
        pairing_id: tuple(member for member in participants if member in members)
        for pairing_id, participants in pairings.items()
    }
    return {pairing_id: participants for pairing_id, participants in touched.items() if participants}
