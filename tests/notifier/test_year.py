"""A year of 300 people by the domain alone: caps, nights, absences and departures hold whatever happens to whom."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from heapq import heapify, heappop, heappush

from contracts.people import Absence, ContactChanged
from contracts.programmes import Care
from services.notifier.domain import notification as notes
from services.notifier.domain import reader as readers
from services.notifier.domain.notification import Circumstances, Notification, Say, Suppress, WaitUntil
from services.notifier.domain.quiet import Quiet, is_quiet, zone_of
from services.notifier.domain.reader import WEEK, Channels, Reader
from services.notifier.domain.table import TABLE, Facts, Row

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Auckland", None]
CARE = Care()


@dataclass
class Year:
    """Every message of the year, as it came to its end. Sweeps come at times of their own: never just when due."""

    chance: random.Random
    contacts: dict[str, ContactChanged]
    readers: dict[str, Reader] = field(default_factory=dict)
    ended: list[Notification] = field(default_factory=list)

    def live(self, causes: Sequence[Notification]) -> None:
        """All of them in the order of time, until each has come to its end."""
        waiting = [(self._found(one.happened_at), number, one) for number, one in enumerate(causes)]
        heapify(waiting)
        while waiting:
            now, number, note = heappop(waiting)
            after = self.look(note, now)
            if after.settled:
                self.ended.append(after)
            else:
                heappush(waiting, (self._found(max(now, after.due or now)), number, after))

    def _found(self, due: datetime) -> datetime:
        return due + timedelta(minutes=self.chance.randrange(300))

    def look(self, note: Notification, now: datetime) -> Notification:
        assert note.member_id is not None
        found = Circumstances(self.contacts[note.member_id], False, CARE, Channels(), None, Facts())
        verdict = notes.judge(note, found, now, now)
        reader = self.readers.get(note.member_id)
        if verdict == Say("email"):
            kind, cap = note.row.kind, CARE.messages_per_week
            place = readers.take_place(reader, note.member_id, note.notification_id, kind, cap, now)
            if place is not None:
                self.readers[note.member_id] = place[0]
            else:
                free = readers.free_again(reader, note.notification_id, kind, cap, now)
                essential = kind == "essential" and free <= note.useful_until
                verdict = WaitUntil(free) if essential else Say("inbox") if kind == "essential" else Suppress("cap")
        done = notes.follow(note, note, verdict, now, now)
        assert done is not None
        after = done[0]
        if after.state == "sending":
            accepted = notes.accepted(after, after.attempts, now)
            assert accepted is not None
            after = accepted[0]
        return after


def people(chance: random.Random) -> dict[str, ContactChanged]:
    made = {}
    for number in range(300):
        away = date(2026, 1, 1) + timedelta(days=chance.randrange(360))
        made[f"m{number}"] = ContactChanged(
            member_id=f"m{number}",
            display_name="Al Ek",
            email="al@example.com" if number % 10 else None,
            channels=("email", "inbox") if number % 10 else ("inbox",),
            time_zone=ZONES[number % len(ZONES)],
            employment="left" if number % 29 == 0 else "active",
            away=(Absence(since=away, until=away + timedelta(days=14)),),
        )
    return made


def happening(chance: random.Random, row: Row, member: str, number: int) -> Notification:
    at = BEGIN + timedelta(minutes=chance.randrange(365 * 24 * 60))
    return Notification(
        notification_id=f"n{number}",
        member_id=member,
        purpose=row.purpose,
        cause_id=f"e{number}",
        happened_at=at,
        created_at=at,
        useful_until=at + row.relevant,
        lease=at,
    )


def test_a_year_of_three_hundred_people() -> None:
    chance = random.Random(7)
    year = Year(chance, people(chance))
    rows = [row for row in TABLE if row.while_(Facts())]  # those that ask nothing of a pairing's state
    causes = [happening(chance, chance.choice(rows), f"m{chance.randrange(300)}", number) for number in range(12_000)]
    year.live(causes)
    assert len(year.ended) == len({one.notification_id for one in year.ended}) == len(causes)
    assert all(one.reason for one in year.ended if one.state != "sent")
    mails: dict[str, list[datetime]] = defaultdict(list)
    for note in year.ended:
        contact = year.contacts[str(note.member_id)]
        assert note.said_at is not None
        if note.state != "sent":
            continue
        assert contact.employment != "left"
        assert not is_quiet(note.said_at, zone_of(contact.time_zone), Quiet(19, 8))
        assert note.happened_at <= note.said_at <= note.useful_until
        if note.channel == "email":
            mails[contact.member_id].append(note.said_at)
    for times in mails.values():
        for end in times:
            assert sum(end - WEEK < at <= end for at in times) <= CARE.messages_per_week
    reasons = {one.reason for one in year.ended}
    assert {"left", "cap", "away", None} <= reasons
    assert sum(one.state == "sent" for one in year.ended) > 8_000
