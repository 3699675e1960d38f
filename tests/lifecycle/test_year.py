"""A year of three hundred people with the real rules of matcher, feedback and notifier.

The year is simulated once (see `in_memory_platform.py` and `simulated_people.py`). Each test checks one property of all
events and messages. The expectations use the events alone, and other code than the services. A day begins with the
first minute of its date, also when clocks change.
"""

import asyncio
import json
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import uuid_utils

from chassis.core.ids import derived_id
from contracts.programmes import ProgrammeSettings
from services.notifier.domain.notification import Notification
from services.notifier.domain.notification_schedule import ROW_BY_PURPOSE
from tests.lifecycle.in_memory_platform import LATEST, SWEEP, Arrived, InMemoryPlatform, first_sweep
from tests.lifecycle.simulated_people import (
    CLOCKS_CHANGE,
    COORDINATORS,
    DAY,
    PROGRAMME,
    WEEK,
    People,
    SimulatedPerson,
    settings,
)

BEGIN = datetime(2026, 1, 5, 7, tzinfo=UTC)
END = datetime(2027, 1, 5, 7, tzinfo=UTC)
SETTINGS: ProgrammeSettings = settings()
CAP = SETTINGS.care.messages_per_week
MINUTE = timedelta(minutes=1)
SIDES = ("senior", "junior")

UNUSED: dict[str, str] = {"contact_changed": "the contact stays the same; tests/notifier changes it"}
"""Rows of the schedule that this year does not use, with the reason."""

ON_EVENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "round.computed": (("round_to_review", "coordinators"),),
    "pairing.proposed": (("proposal", "both"), ("answer_reminder", "both")),
    "pairing.lapsed": (("proposal_closed", "both"),),
    "request.opened": (("request", "asked"),),
    "request.lapsed": (("request_lapsed", "asker"), ("request_closed", "asked")),
    "request.withdrawn": (("request_closed", "asked"),),
    "member.unmatched": (("no_partner", "member_id"),),
    "pairing.formed": (("partners", "both"), ("charter_reminder", "both"), ("booking_reminder", "senior")),
    "pairing.chartered": (("agreed", "both"),),
    "pairing.paused": (("paused", "both"),),
    "pairing.resumed": (("resumed", "both"),),
    "pairing.renewed": (("renewed", "both"),),
    "pairing.ended": (("ended", "both"),),
    "session.scheduled": (("meeting_planned", "both"), ("meeting_soon", "both"), ("meeting_time", "assistants")),
    "session.cancelled": (("meeting_off", "both"), ("meeting_time_off", "assistants")),
    "session.missed": (("meeting_missed", "both"),),
    "session.held": (("meeting_held", "both"),),
    "checkin.due": (("checkin", "side"), ("checkin_reminder", "side")),
    "contact.needed": (("help_offered", "both"), ("pair_needs_a_person", "coordinators")),
}
"""The expected messages and recipients of each event; the senior books in this programme."""
ON_EACH_END = ("half_way", "closing_soon")  # once for each planned end that a running pairing has had
MOVING = ("pairing.formed", "pairing.chartered", "pairing.resumed", "pairing.renewed")


@dataclass(frozen=True)
class YearEvent:
    at: datetime
    type: str
    id: str
    data: dict[str, Any]

    def time(self, name: str) -> datetime:
        return datetime.fromisoformat(self.data[name])

    @property
    def pairing(self) -> str:
        return str(self.data["pairing_id"])


@dataclass(frozen=True)
class ExpectedMessage:
    """One expected message to one recipient."""

    cause: str
    reader: str
    purpose: str
    at: datetime  # of its event
    event: YearEvent

    @property
    def id(self) -> str:
        return derived_id("notification", self.cause, self.reader, self.purpose)


@dataclass
class Year:
    """All events and messages of the year."""

    company: InMemoryPlatform
    people: People
    errors: list[str]
    events: list[YearEvent] = field(default_factory=list)
    notes: dict[str, Notification] = field(default_factory=dict)
    letters: dict[str, list[Arrived]] = field(default_factory=dict)  # by notification

    def __post_init__(self) -> None:
        for said in self.company.log:
            if said.value is not None:
                name = said.envelope.type.removeprefix("mentoring.").removesuffix(".v1")
                self.events.append(YearEvent(said.at, name, said.envelope.id, json.loads(said.value)))
        grouped = defaultdict(list)
        for mail in self.company.post.arrived:
            grouped[mail.letter.id].append(mail)
        self.letters = dict(grouped)

    @cached_property
    def due(self) -> dict[str, ExpectedMessage]:
        """Each expected message by its id; a message for several events belongs to the first."""
        due: dict[str, ExpectedMessage] = {}
        for message in expected_messages(self):
            due.setdefault(message.id, message)
        return due

    @cached_property
    def _pairs(self) -> dict[str, list[str]]:
        return {event.pairing: list(members_of(event).values()) for event in self.of("pairing.proposed")}

    def two_of(self, event: YearEvent) -> list[str]:
        """Both members of the event's pairing, if there is one."""
        return self._pairs.get(event.data.get("pairing_id", ""), [])

    def of(self, *types: str) -> list[YearEvent]:
        return [event for event in self.events if event.type in types]

    def by_pairing(self, *types: str) -> dict[str, list[YearEvent]]:
        events: dict[str, list[YearEvent]] = defaultdict(list)
        for event in self.of(*types):
            events[event.pairing].append(event)
        return events

    def received_at(self, service: str, event: YearEvent) -> datetime:
        return self.company.services[service].heard[event.id]

    def person(self, id: str) -> SimulatedPerson | None:
        return self.people.members.get(id)

    def zone(self, id: str) -> str:
        person = self.person(id)
        return (person.zone or "UTC") if person is not None else "Europe/Berlin"

    def quiet(self, id: str, at: datetime) -> bool:
        """Whether this time is a quiet hour in the recipient's local time."""
        person, hour = self.person(id), at.astimezone(ZoneInfo(self.zone(id))).hour
        start, until = SETTINGS.care.quiet_from_hour, SETTINGS.care.quiet_until_hour
        if person is not None and person.hours is not None and person.hours_since and at >= person.hours_since:
            start, until = person.hours.from_hour, person.hours.until_hour
        return hour >= start or hour < until

    def gone_at(self, id: str) -> datetime | None:
        """The time at which the notifier read of a departure or an erasure."""
        person = self.person(id)
        if person is None or person.here:
            return None
        return min(
            self.received_at("notifier", event)
            for event in self.of("contact.changed", "erasure.requested")
            if event.data["member_id"] == id and event.data.get("employment", "left") == "left"
        )

    def is_going(self, id: str, by: datetime) -> bool:
        """Whether the member has left the programme or the company by this time, or is being erased."""
        person = self.person(id)
        assert person is not None
        left = person.state == "left" and person.since is not None and person.since <= by
        return left or any(at is not None and at <= by for at in (person.left_at, person.erased_at))


def members_of(event: YearEvent) -> dict[str, str]:
    return {participant["side"]: participant["member_id"] for participant in event.data["participants"]}


@pytest.fixture(scope="module")
def year() -> Iterator[Year]:
    with pytest.MonkeyPatch.context() as patch:
        drawn = random.Random(20260105)
        draw = lambda: UUID(int=drawn.getrandbits(128))  # noqa: E731
        patch.setattr(uuid_utils, "uuid7", draw)  # the same seed gives the same year
        yield asyncio.run(lived(seed=6))


async def lived(seed: int) -> Year:
    errors = _Errors(logging.ERROR)
    logging.getLogger().addHandler(errors)
    try:
        company = InMemoryPlatform(BEGIN, random.Random(seed))
        people = People(company, BEGIN, END)
        await people.begin_year()
        await company.live(END)
    finally:
        logging.getLogger().removeHandler(errors)
    year = Year(company, people, errors.found)
    async for stored in company.notifier.notifications.find({}):
        year.notes[stored.id] = stored.state
    return year


class _Errors(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}")


# The events of the year.


# Messages and recipients.


def expected_messages(year: Year) -> Iterator[ExpectedMessage]:
    """Every message of the year, derived from the events alone."""
    pairs = {event.pairing: members_of(event) for event in year.of("pairing.proposed")}
    for event in year.events:
        for purpose, readers in _messages_on(event):
            for reader in _readers(year, event, readers, pairs):
                yield ExpectedMessage(event.id, reader, purpose, event.at, event)
        if event.type in MOVING and event.data["planned_end"]:
            end = derived_id("planned end", event.pairing, event.data["planned_end"])
            for purpose in ON_EACH_END:
                for reader in pairs[event.pairing].values():
                    yield ExpectedMessage(end, reader, purpose, event.at, event)
        if event.type == "contact.changed":
            for enrolment in event.data["taking_part"]:
                if (purpose := {"invited": "invitation", "ready": "welcome"}.get(enrolment["state"], "")) != "":
                    since = datetime.fromisoformat(enrolment["since"]).isoformat()
                    member = event.data["member_id"]
                    cause = derived_id("taking part", enrolment["programme_id"], member, enrolment["state"], since)
                    yield ExpectedMessage(cause, member, purpose, event.at, event)


def _messages_on(event: YearEvent) -> list[tuple[str, str]]:
    """Purpose and readers. When the end of a pairing cancels a meeting, nobody needs a new time."""
    messages = ON_EVENTS.get(event.type, ())
    return [(purpose, readers) for purpose, readers in messages if purpose != "meeting_off" or not event.data["by_end"]]


def _readers(year: Year, event: YearEvent, readers: str, pairs: dict[str, dict[str, str]]) -> list[str]:
    if readers == "coordinators":
        return list(COORDINATORS)
    if readers in ("asked", "asker", "member_id"):
        return [event.data[readers]]
    two = pairs[event.pairing]
    if readers == "assistants":
        people = [year.person(id) for id in two.values()]
        return sorted({delegate for person in people if person is not None for delegate in person.delegates})
    if readers == "side":
        return [two[event.data["side"]]]
    return [two["senior"]] if readers == "senior" else list(two.values())


class TestYear:
    async def test_a_year_has_every_kind_of_event_and_lost_none(self, year: Year) -> None:
        assert year.errors == []
        happened = Counter(event.type for event in year.events)
        assert happened["pairing.formed"] > 80
        for type in ("pairing.ended", "pairing.lapsed", "session.held", "checkin.completed", "contact.needed"):
            assert happened[type] > 30, type
        for type in (
            "pairing.paused",
            "pairing.renewed",
            "session.missed",
            "partner.change.requested",
            "outcome.recorded",
        ):
            assert happened[type] >= 5, type
        assert {event.data["origin"] for event in year.of("pairing.formed")} == {"round", "coordinator", "request"}
        assert {"completed", "ended_early", "not_started"} <= {
            event.data["end_kind"] for event in year.of("pairing.ended")
        }
        erased = [person.id for person in year.people.members.values() if person.erased_at is not None]
        done = {(event.data["member_id"], event.data["service"]) for event in year.of("erasure.completed")}
        assert done == {(id, service) for id in erased for service in year.company.services}
        assert erased
        for service in year.company.services.values():
            assert not service.coming
            for aggregates in service.chassis.all_aggregates():
                assert await aggregates.count({"outbox_since": {"$ne": None}}) == 0
        assert set(year.company.post.troubles) == {"later", "refused", "in doubt"}

    def test_every_row_of_the_schedule_is_used(self, year: Year) -> None:
        used = {note.purpose for note in year.notes.values() if note.state == "sent"}
        assert used | set(UNUSED) == set(ROW_BY_PURPOSE)
        assert not used & set(UNUSED)


# Times of messages.


def _when(year: Year, note: Notification) -> datetime | None:
    """The time that the row of the schedule gives."""
    return _moment(note.purpose, year.due[note.notification_id].event)


def _moment(purpose: str, event: YearEvent) -> datetime | None:
    row = ROW_BY_PURPOSE[purpose]
    kind = next(type for type in row.events if f"mentoring.{event.type}.v1" == type.TYPE)
    return row.due_time(kind.model_validate(event.data), SETTINGS)


def leaves(year: Year, reader: str, ready: datetime) -> datetime:
    """The first sweep at this time or later that is outside quiet hours."""
    at = first_sweep(ready)
    while year.quiet(reader, at):  # sweep by sweep, without an assumption about the length of a night
        at += SWEEP
    return at


class TestMessages:
    def test_one_message_for_each_cause_reader_and_purpose(self, year: Year) -> None:
        """Each recipient gets everything that concerns them, and nothing else."""
        due = year.due
        assert set(year.notes) <= set(due)
        opened = year.of("programme.changed")[1].at + LATEST
        for id in set(due) - set(year.notes):
            message = due[id]
            before = (
                message.event.type == "contact.changed" and message.at < opened
            )  # no invitation before the programme opens
            of_pair = [year.person(member) for member in year.two_of(message.event)]
            forgotten = any(person is not None and person.erased_at is not None for person in of_pair)
            unheard = message.at > END - LATEST
            moment = _moment(message.purpose, message.event) if ROW_BY_PURPOSE[message.purpose].once_per_end else None
            passed = moment is not None and moment < message.at  # an earlier planned end has already caused the message
            assert before or unheard or forgotten or passed or year.gone_at(message.reader) is not None, message
        for id, note in year.notes.items():
            assert note.purpose == due[id].purpose
            assert note.member_id in (due[id].reader, None)

    def test_a_mail_arrives_once_or_twice_when_in_doubt(self, year: Year) -> None:
        doubtful = year.company.post.doubtful
        for id, copies in year.letters.items():
            note = year.notes[id]
            assert len(copies) <= (2 if id in doubtful else 1)
            assert len({copy.letter.to for copy in copies}) == 1
            assert note.member_id is None or copies[0].letter.to == f"{note.member_id}@halden.example"
            assert note.state == "sent" or id in doubtful or note.state == "suppressed"
        by_mail = [id for id, note in year.notes.items() if (note.state, note.channel) == ("sent", "email")]
        assert all(id in year.letters for id in by_mail)
        assert len(by_mail) > 2_000

    def test_the_result_of_each_message_is_published_once(self, year: Year) -> None:
        said = year.of("notification.sent", "notification.failed", "notification.suppressed")
        assert max(Counter(event.data["notification_id"] for event in said).values()) == 1
        for event in said:
            note = year.notes[event.data["notification_id"]]
            assert note.row.is_public
            assert event.type == f"notification.{note.state}" or note.member_id is None
            assert event.data["purpose"] == note.purpose

    def test_no_mail_arrives_in_the_readers_quiet_hours(self, year: Year) -> None:
        nights = 0
        for id, copies in year.letters.items():
            reader = copies[0].letter.to.partition("@")[0]
            for copy in copies:
                assert not year.quiet(reader, copy.at), (year.notes[id], copy.at)
            nights += year.quiet(reader, year.notes[id].created_at)
        assert nights > 300  # the number of messages delayed over a night

    def test_no_seven_days_exceed_the_programmes_mail_limit(self, year: Year) -> None:
        by_reader: dict[str, list[datetime]] = defaultdict(list)
        for copies in year.letters.values():
            by_reader[copies[0].letter.to].append(copies[0].at)
        full = 0
        for times in by_reader.values():
            for end in times:
                week = sum(end - WEEK < at <= end for at in times)
                assert week <= CAP
                full += week == CAP
        assert full > 20
        assert "cap" in {note.reason for note in year.notes.values()}

    def test_leavers_and_erased_members_get_no_message(self, year: Year) -> None:
        gone = {id: at for id in year.people.members if (at := year.gone_at(id)) is not None}
        assert len(gone) > 15
        for copies in year.letters.values():
            reader = copies[0].letter.to.partition("@")[0]
            assert reader not in gone or copies[-1].at <= gone[reader]
        for note in year.notes.values():
            if note.member_id in gone and note.state == "sent" and note.said_at is not None:
                assert note.said_at <= gone[note.member_id], note
        forgotten = {person.id for person in year.people.members.values() if person.erased_at is not None}
        assert not forgotten & {note.member_id for note in year.notes.values()}

    def test_absent_members_get_essential_messages_alone(self, year: Year) -> None:
        away = 0
        for note in year.notes.values():
            person = year.person(note.member_id or "")
            if person is None or note.said_at is None or person.away_since is None or note.row.kind == "essential":
                continue
            today = note.said_at.astimezone(ZoneInfo(year.zone(person.id))).date()
            absence = person.away[0]
            if note.created_at > person.away_since + LATEST and absence.since <= today <= (absence.until or today):
                assert note.state != "sent", note
                away += note.reason == "away"
        assert away > 20

    def test_each_mail_leaves_with_the_first_allowed_sweep(self, year: Year) -> None:
        """It leaves later only if the weekly limit was reached or the mail server had deferred it."""
        post, by_reader = year.company.post, defaultdict(list)
        for attempt in year.company.post.attempts:
            by_reader[attempt.letter.to].append(attempt.at)
        for stored_note in year.notes.values():  # the answered side also uses the reminder's slot
            if (
                stored_note.row.unless is not None
                and stored_note.reason == "not_needed"
                and stored_note.said_at is not None
            ):
                by_reader[f"{stored_note.member_id}@halden.example"].append(stored_note.said_at)
        exact = 0
        for id, copies in year.letters.items():
            reader, note = copies[0].letter.to.partition("@")[0], year.notes[id]
            if id in post.put_off | post.doubtful or note.member_id is None:
                continue
            ready = max(note.created_at, _when(year, note) or note.created_at)
            expected = {leaves(year, reader, at) for at in (ready, ready + MINUTE / 60)}
            if copies[0].at in expected:
                exact += 1
                continue
            first = max(expected)
            others = sum(first - WEEK < at <= first for at in by_reader[copies[0].letter.to])
            assert others >= CAP, (note, first, copies[0].at)
        assert exact > 0.9 * len(year.letters)

    @pytest.mark.parametrize("zone", CLOCKS_CHANGE)
    def test_a_mail_due_in_a_clock_change_waits_for_morning(self, year: Year, zone: str) -> None:
        """Another test shows that mail leaves with the first morning sweep; this one shows that such mail exists."""
        for night in CLOCKS_CHANGE[zone]:
            hour = night.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
            arrived = [
                copies[0].at
                for id, copies in year.letters.items()
                if year.zone(copies[0].letter.to.partition("@")[0]) == zone and _when(year, year.notes[id]) == hour
            ]
            assert arrived, night
            assert all(hour <= at < hour + timedelta(hours=12) for at in arrived)


# Pairings.


@cache
def first_moment(day: date, zone: str) -> datetime:
    """The first minute in which the local calendar shows this day or a later one."""
    at = datetime.combine(day, datetime.min.time(), UTC) - timedelta(hours=15)
    while at.astimezone(ZoneInfo(zone)).date() < day:
        at += 30 * MINUTE
    while (at - MINUTE).astimezone(ZoneInfo(zone)).date() >= day:
        at -= MINUTE
    return at


def lost_days(stops: list[tuple[datetime, datetime]], zone: str) -> set[date]:
    """Each day on which the pairing was on hold, even if only for an hour."""
    days: set[date] = set()
    for since, until in stops:
        day = since.astimezone(ZoneInfo(zone)).date()
        while day <= until.astimezone(ZoneInfo(zone)).date():
            days.add(day)
            day += DAY
    return days


def working_day_over(formed: datetime, days: int, zones: list[str], stops: list[tuple[datetime, datetime]]) -> datetime:
    """The time at which the given number of working days is over for both members."""
    ends = []
    for zone in zones:
        day, lost, left = formed.astimezone(ZoneInfo(zone)).date(), lost_days(stops, zone), days
        while left:
            day += DAY
            left -= day not in lost and day.weekday() < 5
        ends.append(first_moment(day + DAY, zone))
    return max(ends)


def stops_of(events: list[YearEvent]) -> list[tuple[datetime, datetime]]:
    """The intervals on hold. A pause without an end lasts until the end of the year."""
    stops: list[tuple[datetime, datetime]] = []
    since: datetime | None = None
    for event in events:
        if event.type == "pairing.paused":
            since = event.time("happened_at")
        elif since is not None and event.type in ("pairing.resumed", "pairing.ended"):
            stops.append((since, event.time("happened_at")))
            since = None
    return stops if since is None else [*stops, (since, END)]


def asked_at(formed: datetime, days: int, zone: str, stops: list[tuple[datetime, datetime]]) -> datetime:
    """Nine o'clock local time after the given number of days, on that day or on the next working day."""
    day, lost = formed.astimezone(ZoneInfo(zone)).date(), lost_days(stops, zone)
    while days:
        day += DAY
        days -= day not in lost
    while day.weekday() >= 5 or day in lost:
        day += DAY
    at = first_moment(day, zone)
    while at.astimezone(ZoneInfo(zone)).hour < 9:
        at += MINUTE
    return at


class TestDeadlines:
    def test_an_unanswered_proposal_is_reminded_exactly_once(self, year: Year) -> None:
        """The reminder is due after two thirds of the proposal's time."""
        answers = {(event.pairing, event.data["side"]): event for event in reversed(year.of("answer.given"))}
        over = {event.pairing: event for event in reversed(year.of("pairing.formed", "pairing.lapsed"))}
        reminded = 0
        for proposed in year.of("pairing.proposed"):
            due = proposed.time("proposed_at") + (proposed.time("answer_by") - proposed.time("proposed_at")) * 2 / 3
            if due > END - DAY:
                continue
            for side, member in members_of(proposed).items():
                id = derived_id("notification", proposed.id, member, "answer_reminder")
                ends = [
                    candidate.at
                    for candidate in (answers.get((proposed.pairing, side)), over.get(proposed.pairing))
                    if candidate
                ]
                person = year.person(member)
                assert person is not None
                if any(abs(at - due) < LATEST + SWEEP for at in ends) or person.erased_at or year.gone_at(member):
                    continue  # too close in time to decide here, or covered by another test
                note = year.notes[id]
                if min(ends, default=END) < due:
                    assert (note.state, note.shown_at) == ("suppressed", None)
                else:
                    assert note.shown_at == first_sweep(due), note
                    reminded += 1
        assert reminded > 30

    def test_an_unanswered_proposal_lapses_after_its_time(self, year: Year) -> None:
        """It lapses with the first sweep after its deadline, and never before."""
        over = {event.pairing: event for event in reversed(year.of("pairing.formed", "pairing.lapsed"))}
        declined = {event.pairing: event.at for event in year.of("answer.given") if event.data["answer"] == "declined"}
        lapsed = 0
        for proposed in year.of("pairing.proposed"):
            answer_by, end = proposed.time("answer_by"), over.get(proposed.pairing)
            zones = [year.zone(member) for member in members_of(proposed).values()]
            assert answer_by == working_day_over(proposed.time("proposed_at"), 10, zones, [])
            if end is None:
                assert answer_by > END - SWEEP
            elif end.at == first_sweep(answer_by):
                assert end.type == "pairing.lapsed"
                lapsed += 1
            else:
                assert end.at < answer_by
                somebody_goes = any(year.is_going(member, end.at) for member in members_of(proposed).values())
                assert end.type == "pairing.formed" or declined.get(proposed.pairing) == end.at or somebody_goes
        for pairing, _ in year.people.unanswered:
            assert pairing not in over or over[pairing].type == "pairing.lapsed"
        assert lapsed > 20

    def test_a_missing_first_meeting_is_noticed_after_its_day(
        self,
        year: Year,
    ) -> None:
        """It must be booked by the end of working day 10 and held by the end of working day 20.

        The later of the two time zones counts; pauses do not count.
        """
        lives = year.by_pairing("pairing.formed", "pairing.paused", "pairing.resumed", "pairing.ended")
        meetings = year.by_pairing("session.scheduled", "session.held", "session.missed", "session.cancelled")
        needed = year.by_pairing("contact.needed")
        noticed: Counter[tuple[str, bool]] = Counter()
        for pairing, events in lives.items():
            formed, two = events[0].time("formed_at"), members_of(events[0])
            zones = [year.zone(member) for member in two.values()]
            stops = stops_of(events)
            over = next((event.at for event in events if event.type == "pairing.ended"), END)
            for fact, days in (("no_first_meeting_booked", 10), ("no_first_meeting_held", 20)):
                deadline = working_day_over(formed, days, zones, stops)
                first = next((meeting.at for meeting in needed[pairing] if fact in meeting.data["facts"]), None)
                if deadline > min(over, END) - LATEST - SWEEP or any(
                    year.is_going(member, deadline + LATEST) for member in two.values()
                ):
                    assert first is None or first >= deadline
                    continue
                before = [meeting for meeting in meetings[pairing] if meeting.at < deadline]
                if fact == "no_first_meeting_booked":
                    state = {meeting.data["session"]["session_id"]: meeting.type for meeting in before}
                    met = any(kind != "session.cancelled" for kind in state.values())
                else:
                    met = any(meeting.type == "session.held" for meeting in before)
                if met:
                    assert first is None or first > deadline + SWEEP, (pairing, fact)  # called off later
                else:
                    assert first == first_sweep(deadline) or first in [
                        meeting.at for meeting in meetings[pairing] if deadline <= meeting.at <= deadline + SWEEP
                    ], (pairing, fact, deadline, first)
                    noticed[fact, any(since < deadline for since, _ in stops)] += 1
        assert noticed["no_first_meeting_booked", False] > 15
        assert noticed["no_first_meeting_held", False] > 10
        assert noticed["no_first_meeting_held", True] >= 3  # moved by a pause

    def test_each_milestone_asks_each_side_once(self, year: Year) -> None:
        """The questions come in the morning of a working day."""
        counts = Counter(
            (event.pairing, event.data["side"], event.data["milestone"]) for event in year.of("checkin.due")
        )
        assert set(counts.values()) == {1}
        lives = year.by_pairing("pairing.formed", "pairing.paused", "pairing.resumed", "pairing.ended")
        for event in year.of("checkin.due"):
            milestone, due = event.data["milestone"], event.time("due_at")
            member = members_of(lives[event.pairing][0])[event.data["side"]]
            if milestone == "day_0":
                assert due == lives[event.pairing][0].time("formed_at")
            elif milestone == "end":
                assert due == next(change for change in lives[event.pairing] if change.type == "pairing.ended").time(
                    "ended_at"
                )
            else:
                stops = [stop for stop in stops_of(lives[event.pairing]) if stop[0] < due]
                resumed = [until for _, until in stops]
                formed = lives[event.pairing][0].time("formed_at")
                assert due == asked_at(formed, int(milestone.removeprefix("day_")), year.zone(member), stops)
                assert due <= event.at <= due + SWEEP or event.at in resumed
        for pairing, life in lives.items():
            until = next((change.at for change in life if change.type == "pairing.ended"), END)
            running = until - life[0].time("formed_at")
            held_up = sum((stop[1] - stop[0] + 2 * DAY for stop in stops_of(life)), start=timedelta(0))
            going = any(year.is_going(member, END) for member in members_of(life[0]).values())
            for days in (0, 30, 90):
                if running - held_up > (days + 4) * DAY and not going:
                    assert all(counts[pairing, side, f"day_{days}"] == 1 for side in SIDES), (pairing, days)
        assert {"day_0", "day_30", "day_90", "end"} <= {milestone for _, _, milestone in counts}

    async def test_one_outcome_and_answers_deleted_after_3_months(self, year: Year) -> None:
        outcomes = Counter(event.pairing for event in year.of("outcome.recorded"))
        assert set(outcomes.values()) == {1}
        deleted, ended = 0, year.of("pairing.ended")
        courses = await year.company.feedback.followups.get_many([event.pairing for event in ended])
        for event in ended:
            stored = courses.get(event.pairing)
            if stored is None or stored.state.terms is None or stored.state.gone:
                continue
            if event.at < END - 31 * DAY:
                assert outcomes[event.pairing] == 1
            if event.at < END - 93 * DAY:
                assert (stored.state.answers, stored.state.pulses) == ({}, ())
                deleted += 1
        assert deleted > 20


class TestPairs:
    def test_nobody_exceeds_their_capacity(self, year: Year) -> None:
        """Partners and proposals count together."""
        held: dict[str, set[str]] = defaultdict(set)
        most: Counter[int] = Counter()
        for event in year.of("pairing.proposed", "pairing.lapsed", "pairing.ended"):
            for member in members_of(event).values():
                if event.type != "pairing.proposed":
                    held[member].discard(event.pairing)
                    continue
                person = year.person(member)
                assert person is not None
                held[member].add(event.pairing)
                last_known = [capacity for at, capacity in person.capacities if at <= event.at - LATEST][-1:]
                lately = [capacity for at, capacity in person.capacities if event.at - LATEST < at <= event.at]
                assert len(held[member]) <= max([*last_known, *lately])
                most[len(held[member])] += 1
        assert most[2] >= 5

    def test_separated_partners_are_never_proposed_again(self, year: Year) -> None:
        pairs = Counter(tuple(members_of(event).values()) for event in year.of("pairing.proposed"))
        assert set(pairs.values()) == {1}
        separated = year.people.asked_for_another
        ended = {event.pairing: event for event in year.of("pairing.ended")}
        assert len(separated) >= 5
        assert set(separated) <= set(ended)
        again = [
            event
            for event in year.of("pairing.proposed")
            for senior, two in separated.items()
            if set(two) & set(members_of(event).values()) and event.at > ended[senior].at
        ]
        assert len(again) > 3  # most of them continue with another partner

    def test_everything_is_about_the_one_programme(self, year: Year) -> None:
        assert {event.data["programme_id"] for event in year.events if "programme_id" in event.data} <= {
            PROGRAMME,
            None,
        }
