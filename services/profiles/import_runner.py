"""Drives an import from its upload to its end, and goes on where a crash stopped it.

Two passes over the file. The *survey* checks every row, claims an id for each person and draws the reporting lines from
the whole picture, so that a manager may stand below their reports in the file and each person is saved and said once,
complete. Then the rows have their effect, a batch at a time, each batch followed by the cursor in the ``Import``. Last,
the lines of people who are not in the file are drawn again where somebody above them has moved.

What a kill at any point leaves behind is harmless: claims are found again, a row whose effect was saved is recognised
by its operation (``import id/line``) and counted as what it had been, entries of the report have derived ids, and the
lease of the ``Import`` makes some replica go on. Imports are worked on one at a time, since lines are drawn from one
picture of the organisation.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime, timedelta
from typing import TypeAlias

from chassis.core.ids import derived_id, new_id
from chassis.storage.aggregates import Change, Op, SaveResult, Stored, stored_instant
from chassis.storage.mongo import chunks
from contracts.envelope import OutgoingEvent
from contracts.errors import CommandRejected
from services.profiles.domain import imports
from services.profiles.domain.csv_records import Record, Splitter
from services.profiles.domain.enrolment import Invitation, Programmes
from services.profiles.domain.file_survey import Survey
from services.profiles.domain.import_rows import OPTIONAL, REQUIRED, Issue, Row, RowReader, header_of, is_blank
from services.profiles.domain.imports import Import, Tally
from services.profiles.domain.line import DEPTH, line_of, loops
from services.profiles.domain.person import Decision, Person, changed, record, stand
from services.profiles.store import ALIVE, Hierarchy, Profiles

BATCH = 1000  # rows between two looks at the cursor
POSTPONED = timedelta(seconds=1)
RENEWED = timedelta(seconds=10)  # a third of the lease
ABANDONED = timedelta(days=1)  # uploads that became no import


Step: TypeAlias = tuple[Import, list[OutgoingEvent]]


class Superseded(Exception):
    """Another replica has taken this import over; its driver stops here."""


async def drive(stored: Stored[Import], profiles: Profiles) -> None:
    """The next step of an import whose lease has passed; ``Sweep`` calls it."""
    known, machine = stored.state, profiles.clock.machine_now()
    if known.state == "waiting_for_release":
        await finish(stored.id, known, "not_released", profiles)
        return
    if await _others_first(known, profiles):
        await _hand_back(known, profiles)
        return

    def begin(now: Import | None) -> Step | None:
        mine = now is not None and now.state in ("received", "running") and now.lease == known.lease
        return (imports.begun(now, machine), []) if now is not None and mine else None

    taken = await profiles.imports.update(stored.id, Op(f"lease/{stored_instant(known.lease)}/begin"), begin)
    if not taken.changed or taken.repeated:
        return
    if await _others_running(known, profiles):  # both began at the same moment: both step back
        await _hand_back(taken.require_state(), profiles)
        return
    try:
        await _Driver(profiles, taken.require_state()).work()
    except Superseded:
        return


async def finish(id: str, known: Import, failure: str | None, profiles: Profiles) -> None:
    """Close an import and delete its file; ``failure`` None: it is done."""
    machine = profiles.clock.machine_now()

    def close(now: Import | None) -> Step | None:
        if now is None or not now.unfinished:
            return None
        return (imports.failed(now, failure, machine) if failure else imports.done(now, machine)), []

    await profiles.imports.update(id, Op(f"finish/{failure or 'done'}"), close)
    await profiles.uploads.delete(known.upload_id)
    used = [stored.state.upload_id for stored in await profiles.unfinished_imports()]
    await profiles.uploads.delete_abandoned(stored_instant(machine - ABANDONED) or "", used)


async def _others_running(known: Import, profiles: Profiles) -> bool:
    others = await profiles.unfinished_imports()
    return any(one.state.state == "running" and one.id != known.import_id for one in others)


async def _others_first(known: Import, profiles: Profiles) -> bool:
    """Whether another import is being worked on, or came before this one."""
    mine = (known.received_at, known.import_id)
    others = [one.state for one in await profiles.unfinished_imports() if one.id != known.import_id]
    return any(
        one.state == "running" or (one.state == "received" and (one.received_at, one.import_id) < mine)
        for one in others
    )


async def _hand_back(known: Import, profiles: Profiles) -> None:
    until = profiles.clock.machine_now() + POSTPONED

    def postpone(now: Import | None) -> Step | None:
        return (imports.postponed(now, until), []) if now is not None and now.lease == known.lease else None

    await profiles.imports.update(known.import_id, Op(f"lease/{stored_instant(known.lease)}/postpone"), postpone)


class _Driver:
    """One driver of one import."""

    def __init__(self, profiles: Profiles, known: Import) -> None:
        self._profiles = profiles
        self._known = known
        self._programmes: Programmes = {}
        self._renewed = profiles.clock.machine_now()
        self._drawn: set[str] = set()  # members whose ids this driver has drawn: nobody is stored under them yet

    async def work(self) -> None:
        self._programmes = await self._profiles.all_programmes()
        paired = await self._profiles.running_pairings()
        survey, watched = await self._survey({member for pair in paired.values() for member in pair})
        if survey.failure is not None:
            await self._report(list(survey.header.issues))
            await finish(self._known.import_id, self._known, survey.failure, self._profiles)
            return
        await self._know_others(survey)
        touched = imports.touched(paired, await self._touched(survey, watched))
        await self._save(
            f"survey/{self._known.released_by or ''}",
            lambda now, machine: imports.surveyed(now, survey.total, len(paired), touched, machine),
        )
        if self._known.state == "waiting_for_release":
            return
        await self._apply(survey)
        if survey.unusable or await self._profiles.persons.count(ALIVE) != len(survey.lines):
            await self._redraw()
        await finish(self._known.import_id, self._known, None, self._profiles)

    async def _survey(self, watch: set[str]) -> tuple[Survey, dict[str, Row]]:
        """Read the file through once. Also returns the rows of the members in ``watch``."""
        survey = Survey(await self._profiles.keys.hasher())
        watched: dict[str, Row] = {}
        reader: RowReader | None = None
        async for batch in self._batches():
            if reader is None:
                survey.header = header_of(batch.pop(0))
                reader = RowReader(survey.header, self._known.source)
                if survey.failure is not None:
                    break
            rows = [row for one in batch if isinstance(row := reader.read(one), Row)]
            members, drawn = await self._profiles.keys.claim([row.hr.external_id.ref for row in rows])
            self._drawn |= drawn
            survey.add(rows, members)
            survey.total += len(batch)
            watched |= {id: row for row in rows if (id := members[row.hr.external_id.ref]) in watch and id is not None}
            await self._alive()
        return survey, watched

    async def _know_others(self, survey: Survey) -> None:
        """Look up who is mentioned and not in the file, and the managers above them."""
        mentioned = survey.mentioned_elsewhere()
        found = await self._profiles.keys.find(mentioned) if mentioned else {}
        people = await self._with_managers(found.values(), survey)
        survey.know({ref: id for ref, id in found.items() if id in people or id in survey.lines}, people)
        if survey.unusable:
            known = await self._profiles.persons.get_many(list(survey.unusable))
            former = {id: stored.state.place.manager for id, stored in known.items()}
            managers = [id for id in former.values() if id is not None]
            survey.fall_back(former, await self._with_managers(managers, survey))

    async def _with_managers(self, members: Iterable[str], survey: Survey) -> dict[str, Person]:
        """These living people and the managers above them, as far up as lines reach or the file begins."""
        people: dict[str, Person] = {}
        wanted = set(members) - survey.lines.keys()
        for _ in range(DEPTH + 1):
            if not wanted:
                break
            found = await self._profiles.persons.get_many(list(wanted))
            people |= {id: stored.state for id, stored in found.items() if stored.state.hr is not None}
            above = {stored.state.place.manager for stored in found.values()}
            wanted = {id for id in above if id is not None} - survey.lines.keys() - people.keys()
        return people

    async def _touched(self, survey: Survey, watched: dict[str, Row]) -> set[str]:
        """The members of running pairings to whom this file would make a difference."""
        before = await self._profiles.persons.get_many(list(watched))
        found = set()
        for id, row in watched.items():
            decided = self._decision(survey, id, row)(before[id].state) if id in before else None
            if decided is not None and imports.touches(before[id].state, decided[0]):
                found.add(id)
        return found

    async def _apply(self, survey: Survey) -> None:
        """Let the rows after the cursor have their effect."""
        reader = RowReader(survey.header, self._known.source)
        if self._known.cursor == 0:
            await self._report(list(survey.header.issues))
        header_line: int | None = None
        async for records in self._batches():
            header_line = records[0].line if header_line is None else header_line
            batch = [one for one in records if one.line > max(header_line, self._known.cursor)]
            if not batch:
                continue
            changes, issues, refused = self._changes(survey, [reader.read(one) for one in batch])
            results = await self._profiles.persons.update_many(changes)
            tally = _tally(results, rows=len(batch), refused=refused, remarks=len(issues))
            await self._report(issues)
            cursor, before = batch[-1].line, self._known.cursor
            await self._save(
                f"rows/{cursor}",
                lambda now, machine, c=cursor, t=tally: imports.advanced(now, c, t, machine),  # type: ignore[misc]
                cursor=before,
            )

    def _changes(self, survey: Survey, rows: list[Row | list[Issue]]) -> tuple[list[Change[Person]], list[Issue], int]:
        """What a batch of rows comes to: changes, entries of the report, and how many rows were refused."""
        changes: list[Change[Person]] = []
        issues: list[Issue] = []
        refused = 0
        for row in rows:
            if isinstance(row, list):
                issues += row
                refused += 1
                continue
            member = survey.members[row.hr.external_id.ref]
            if member is None:
                continue
            if (again := survey.repeats(member, row)) is not None:
                issues.append(again)
                refused += 1
                continue
            issues += [*row.remarks, *survey.remarks(member, row), *self._invitation_remarks(row)]
            op = Op(f"{self._known.import_id}/{row.line}")
            changes.append(Change(member, op, self._decision(survey, member, row), fresh=member in self._drawn))
        return changes, issues, refused

    def _decision(self, survey: Survey, member: str, row: Row) -> Callable[[Person | None], Decision]:
        place = survey.place(member, row)
        invitation, programmes, now = self._invitation(row), self._programmes, self._profiles.clock.now()
        return lambda person: record(person, member, row.hr, place, invitation, programmes, now)

    def _invitation(self, row: Row) -> Invitation | None:
        allowed = self._known.invites_to
        wanted = row.invitation
        return wanted if wanted and (allowed is None or wanted.programme_id in allowed) else None

    def _invitation_remarks(self, row: Row) -> list[Issue]:
        if row.invitation is None:
            return []
        if self._invitation(row) is None:
            text = "the programme is coordinated by others; the person is not invited"
            return [Issue(row.line, "programme", "not_your_programme", text, refused=False)]
        if row.invitation.programme_id not in self._programmes:
            text = "there is no such programme yet; the invitation counts once there is"
            return [Issue(row.line, "programme", "unknown_programme", text, refused=False)]
        return []

    async def _redraw(self) -> None:
        """Draw the lines of everybody again from where they now stand, and save those that differ.

        Level-triggered: it compares what is stored with what follows from it, so it may be repeated at any time.
        Managers who were named before they were known are found here.
        """
        picture = await self._profiles.hierarchy()
        found = await self._profiles.keys.behind(set(picture.wanted.values())) if picture.wanted else {}
        come = {id: manager for id, key in picture.wanted.items() if (manager := found.get(key)) in picture.lines}
        manager_of = picture.manager_of | come
        manager_of |= {id: picture.manager_of[id] for id in loops(manager_of).keys() & come.keys()}
        moved = {id: line for id, old in picture.lines.items() if (line := line_of(id, manager_of)) != old}
        for some in chunks(list(moved)):
            changes = [
                Change(
                    id, Op(derived_id(self._known.import_id, "line", *moved[id])), self._stands(id, picture, moved[id])
                )
                for id in some
            ]
            for result in await self._profiles.persons.update_many(changes):
                if isinstance(result, Exception) and not isinstance(
                    result, CommandRejected
                ):  # refused: erased meanwhile
                    raise result
            await self._alive()

    def _stands(self, id: str, picture: Hierarchy, line: tuple[str, ...]) -> Callable[[Person | None], Decision]:
        before, now = picture.manager_of[id], self._profiles.clock.now()

        def move(person: Person) -> Person:
            if person.place.manager != before:
                return person  # moved since, by an erasure, which has closed the line itself
            manager = line[0] if line else None
            wanted = None if manager != before else person.place.wanted
            return stand(person, person.place.model_copy(update={"manager": manager, "line": line, "wanted": wanted}))

        return lambda person: changed(person, move, self._programmes, now)

    async def _batches(self) -> AsyncIterator[list[Record]]:
        """The records of the file, a batch at a time, beginning with the header; blank lines are passed over."""
        splitter = Splitter(in_one_line=REQUIRED + OPTIONAL)
        batch: list[Record] = []
        async for piece in self._profiles.uploads.read(self._known.upload_id, self._known.chunks):
            for one in splitter.feed(piece):
                if not is_blank(one):
                    batch.append(one)
                if len(batch) >= BATCH:
                    yield batch
                    batch = []
                    await asyncio.sleep(0)
        batch += [one for one in splitter.close() if not is_blank(one)]
        if batch:
            yield batch

    async def _report(self, issues: list[Issue]) -> None:
        places: dict[int, int] = {}
        documents = []
        for issue in issues:
            place = places[issue.line] = places.get(issue.line, 0) + 1
            documents.append(
                {
                    "_id": f"{self._known.import_id}/{issue.line:09}/{place:03}",
                    "import_id": self._known.import_id,
                    "line": issue.line,
                    "column": issue.column,
                    "code": issue.code,
                    "message": issue.message,
                    "refused": issue.refused,
                }
            )
        if documents:
            await self._profiles.report.put_many(documents)

    async def _alive(self) -> None:
        """Renew the lease now and then. Raises ``Superseded``."""
        machine = self._profiles.clock.machine_now()
        if machine - self._renewed >= RENEWED:
            await self._save(f"renew/{new_id()}", imports.begun, cursor=self._known.cursor)

    async def _save(
        self,
        step: str,
        change: Callable[[Import, datetime], Import],
        cursor: int | None = None,
    ) -> None:
        """Save a step of this driver. Raises ``Superseded`` when another one has gone on meanwhile."""
        machine = self._profiles.clock.machine_now()
        expected = self._known.cursor if cursor is None else cursor

        def decide(now: Import | None) -> Step:
            if now is None or now.state != "running" or now.cursor != expected:
                raise Superseded
            return change(now, machine), []

        saved = await self._profiles.imports.update(self._known.import_id, Op(step), decide)
        self._known, self._renewed = saved.require_state(), machine


def _tally(results: list[SaveResult[Person] | Exception], *, rows: int, refused: int, remarks: int) -> Tally:
    """Count a batch. A row that was recognised counts as what it had been: created, if nothing came after it."""
    created = changed_ = 0
    for result in results:
        if isinstance(result, Exception):
            raise result
        if result.changed:
            created += result.version == 1
            changed_ += result.version != 1
    unchanged = rows - refused - created - changed_
    return Tally(rows=rows, created=created, changed=changed_, unchanged=unchanged, failed=refused, remarks=remarks)
