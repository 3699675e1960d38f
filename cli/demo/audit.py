"""What lies in the four databases and in the Maildir, read from the side: not what a service says of itself."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from chassis.storage.mongo import Document, Mongo
from cli import connections, local_stack
from contracts.catalogue import SERVICES

_PUBLIC_STATES = ("proposed", "lapsed", "formed", "chartered", "paused", "ended")


@dataclass(frozen=True)
class Audit:
    """Pairings are counted in every step that they reached; ``states`` by the one they are in. What belongs to a
    pairing of somebody who was erased is not counted: no service knows it any longer.
    """

    members: int
    enrolled: int
    rounds: int
    proposed: int
    lapsed: int
    formed: int
    chartered: int
    ended: int
    sessions_held: int
    checkins: int
    partner_changes: int
    notifications_sent: int
    states: Mapping[str, int]
    published_notifications: int
    """Those messages of which there is an event: not the ones from which something private could be concluded."""
    mails_sent: int
    """Messages that the notifier has handed over by e-mail."""
    mails: int | None
    """Different mails in the Maildir; None where mail goes to a server that somebody named."""


async def read_audit(data: Path) -> Audit:
    databases = {name: connections.open_database(data, name) for name in SERVICES}
    try:
        return await _read_databases(data, databases)
    finally:
        for database in databases.values():
            database.close()


async def _read_databases(data: Path, databases: Mapping[str, Mongo]) -> Audit:
    persons = await _find_all(databases["profiles"], "persons", {"hr": {"$ne": None}})
    pairings = [
        one
        for one in await _find_all(databases["matcher"], "pairings", {"gone": False})
        if one["state"] in _PUBLIC_STATES
    ]
    rounds = await _find_all(databases["matcher"], "rounds", {"state": "published"})
    known = {one["_id"] for one in pairings}
    courses = [one for one in await _find_all(databases["feedback"], "courses", {}) if one["_id"] in known]
    notes = await _find_all(databases["notifier"], "notifications", {"state": "sent"})
    return Audit(
        members=len(persons),
        enrolled=sum(any(at["state"] in ("enrolled", "ready") for at in one["enrolments"]) for one in persons),
        rounds=len(rounds),
        proposed=len(pairings),
        lapsed=sum(one["state"] == "lapsed" for one in pairings),
        formed=sum(one["formed_at"] is not None for one in pairings),
        chartered=sum(one["charter_at"] is not None for one in pairings),
        ended=sum(one["state"] == "ended" for one in pairings),
        sessions_held=sum(meeting["state"] == "held" for one in courses for meeting in one["sessions"]),
        checkins=sum(asked["completed_at"] is not None for one in courses for asked in one["checkins"]),
        partner_changes=sum(one["partner_change_at"] is not None for one in courses),
        notifications_sent=len(notes),
        states=Counter(str(one["state"]) for one in pairings),
        published_notifications=sum(one["sequence"] > 0 for one in notes),
        mails_sent=sum(one["channel"] == "email" for one in notes),
        mails=await asyncio.to_thread(_count_mails, local_stack.maildir(data))
        if local_stack.keeps_mail_local()
        else None,
    )


async def _find_all(database: Mongo, collection: str, wanted: Document) -> list[Any]:
    return [document async for document in database.collection(collection).find(wanted, {"outbox": 0, "recent": 0})]


def _count_mails(folder: Path) -> int:
    """By Message-ID and recipient, as the catcher keeps them."""
    parser = BytesHeaderParser()
    found = [parser.parsebytes(file.read_bytes()) for file in (folder / "new").glob("*")]
    return len({(str(mail["Message-ID"]), str(mail["To"])) for mail in found})
