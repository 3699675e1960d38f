"""Counts the documents in the four databases and the mails in the Maildir directly, without asking a service."""

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
    """Counts of stored documents.

    Pairings are counted in every step that they have reached; ``states`` counts them by current state. Data about a
    pairing of an erased person is not counted, because no service stores it any longer.
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
    """Messages with a public event. Messages that could reveal something private have none."""
    mails_sent: int
    """Messages that the notifier has sent by e-mail."""
    mails: int | None
    """Different mails in the Maildir; None when mail goes to a configured server."""


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
        document
        for document in await _find_all(databases["matcher"], "pairings", {"gone": False})
        if document["state"] in _PUBLIC_STATES
    ]
    rounds = await _find_all(databases["matcher"], "rounds", {"state": "published"})
    pairing_ids = {document["_id"] for document in pairings}
    followups = [
        document for document in await _find_all(databases["feedback"], "courses", {}) if document["_id"] in pairing_ids
    ]
    notes = await _find_all(databases["notifier"], "notifications", {"state": "sent"})
    return Audit(
        members=len(persons),
        enrolled=sum(
            any(enrolment["state"] in ("enrolled", "ready") for enrolment in document["enrolments"])
            for document in persons
        ),
        rounds=len(rounds),
        proposed=len(pairings),
        lapsed=sum(document["state"] == "lapsed" for document in pairings),
        formed=sum(document["formed_at"] is not None for document in pairings),
        chartered=sum(document["charter_at"] is not None for document in pairings),
        ended=sum(document["state"] == "ended" for document in pairings),
        sessions_held=sum(meeting["state"] == "held" for document in followups for meeting in document["sessions"]),
        checkins=sum(checkin["completed_at"] is not None for document in followups for checkin in document["checkins"]),
        partner_changes=sum(document["partner_change_at"] is not None for document in followups),
        notifications_sent=len(notes),
        states=Counter(str(document["state"]) for document in pairings),
        published_notifications=sum(document["sequence"] > 0 for document in notes),
        mails_sent=sum(document["channel"] == "email" for document in notes),
        mails=await asyncio.to_thread(_count_mails, local_stack.maildir(data))
        if local_stack.keeps_mail_local()
        else None,
    )


async def _find_all(database: Mongo, collection: str, filter: Document) -> list[Any]:
    return [document async for document in database.collection(collection).find(filter, {"outbox": 0, "recent": 0})]


def _count_mails(folder: Path) -> int:
    """The number of mails, by Message-ID and recipient, as the mail catcher stores them."""
    parser = BytesHeaderParser()
    mails = [parser.parsebytes(file.read_bytes()) for file in (folder / "new").glob("*")]
    return len({(str(mail["Message-ID"]), str(mail["To"])) for mail in mails})
