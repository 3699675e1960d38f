"""What profiles keeps: people, imports, the keys by which HR calls people, and what it heard from others."""

import hmac
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

from chassis.core.clocks import Clock
from chassis.storage.aggregates import Aggregates, Stored
from chassis.storage.mongo import Documents, chunks, insert_missing
from chassis.storage.projections import Projection
from contracts.pairings import PairingState
from contracts.programmes import ProgrammeChanged
from services.profiles.domain.hr_record import ExternalId
from services.profiles.domain.imports import Import
from services.profiles.domain.person import Person

RUNNING = ("formed", "chartered", "paused")
ALIVE: Mapping[str, Any] = {"hr": {"$ne": None}}


class WrongSecret(Exception):
    """The configured secret is not the one with which this database's keys were made."""


class Keys:
    """Who is meant by an external id: ``{_id: HMAC(source, external id), member_id}``.

    The claim comes first and decides the member's random id; the person is created under that id afterwards.

    * Two imports claim the same external id: the unique ``_id`` lets one win, the other reads the winner's member id.
    * A crash between claim and person: the next row with that external id finds the claim and creates the person under
      the same id. So nobody can be created twice, whatever stops in between.
    * Erasure: the stub of the person is saved first; a row that still finds the claim finds the stub, and creates
      nobody. Then the claim is *buried*: ``member_id`` None stays for ever, so the nightly file cannot bring them back,
      and not even who holds the secret can tell any longer which member the external id was.

    The external id itself is never stored here. A member's id is drawn at random, unlike other ids: in the order of
    time it would tell who stood next to whom in HR's file.
    """

    def __init__(self, keys: Documents, settings: Documents, secret: bytes) -> None:
        self._keys = keys
        self._settings = settings
        self._secret = secret
        self._checked = False

    async def hasher(self) -> Callable[[str], str]:
        """Makes of an external id (``ExternalId.ref``) its key."""
        secret = await self._key()
        return lambda ref: _hmac(secret, ref)

    async def hashed(self, refs: Iterable[str]) -> dict[str, str]:
        hash = await self.hasher()
        return {ref: hash(ref) for ref in refs}

    async def find(self, refs: Iterable[str]) -> dict[str, str]:
        """The members behind these external ids (``ExternalId.ref``), as far as there are any."""
        hashes = await self.hashed(refs)
        found = await self._keys.get_many(list(hashes.values()))
        members = {ref: found[hash]["member_id"] for ref, hash in hashes.items() if hash in found}
        return {ref: member for ref, member in members.items() if member is not None}

    async def behind(self, keys: Iterable[str]) -> dict[str, str]:
        """The members behind these keys."""
        found = await self._keys.get_many(list(keys))
        return {key: kept["member_id"] for key, kept in found.items() if kept["member_id"] is not None}

    async def claim(self, refs: Iterable[str]) -> tuple[dict[str, str | None], set[str]]:
        """As ``find``, and what is new is claimed with a new member id; also returns the ids drawn by this very call.

        None: whoever that was has been erased.
        """
        hashes = await self.hashed(refs)
        found = await self._keys.get_many(list(hashes.values()))
        new = [{"_id": hash, "member_id": str(uuid4())} for hash in hashes.values() if hash not in found]
        drawn = {document["member_id"] for document in new}
        for chunk in chunks(new):
            lost = await insert_missing(self._keys.collection, chunk)
            found |= {document["_id"]: document for document in chunk}
            if lost:
                drawn -= {document["member_id"] for document in lost}
                found |= await self._keys.get_many([document["_id"] for document in lost])
        return {ref: found[hash]["member_id"] for ref, hash in hashes.items()}, drawn

    async def assign(self, external_id: ExternalId, member_id: str) -> bool:
        """Claim an external id for somebody who exists; False when it is another's, or was an erased person's."""
        hash = _hmac(await self._key(), external_id.ref)
        lost = await insert_missing(self._keys.collection, [{"_id": hash, "member_id": member_id}])
        if not lost:
            return True
        found = await self._keys.get(hash)
        return found is not None and found["member_id"] == member_id

    async def bury(self, hashes: Sequence[str]) -> None:
        await self._keys.put_many([{"_id": hash, "member_id": None} for hash in hashes])

    async def _key(self) -> bytes:
        """The secret, once it is known to be the one by which this database was made. Raises ``WrongSecret``.

        With another one nobody would be recognised, and the next import would create everybody a second time.
        """
        if not self._checked:
            check = _hmac(self._secret, "check")
            await insert_missing(self._settings.collection, [{"_id": "hmac_key", "check": check}])
            kept = await self._settings.get("hmac_key")
            if kept is None or not hmac.compare_digest(kept["check"], check):
                raise WrongSecret("VICEVERSA_HMAC_KEY is not the one with which this database's keys were made")
            self._checked = True
        return self._secret


def _hmac(secret: bytes, text: str) -> str:
    return hmac.new(secret, text.encode(), sha256).hexdigest()


class Uploads:
    """Files as they came in, in pieces; each attempt of an upload has an id of its own and is deleted when used."""

    def __init__(self, pieces: Documents) -> None:
        self._pieces = pieces

    async def put(self, upload_id: str, number: int, data: bytes, at: str) -> None:
        await self._pieces.put({"_id": f"{upload_id}/{number:06}", "upload_id": upload_id, "at": at, "data": data})

    async def read(self, upload_id: str, count: int) -> AsyncIterator[bytes]:
        """The pieces in order. Raises ``LookupError`` when one is missing."""
        for number in range(count):
            piece = await self._pieces.get(f"{upload_id}/{number:06}")
            if piece is None:
                raise LookupError(f"piece {number} of an upload is missing")
            yield bytes(piece["data"])

    async def delete(self, upload_id: str) -> None:
        await self._pieces.delete({"upload_id": upload_id})

    async def delete_abandoned(self, before: str, used: Sequence[str]) -> int:
        """Delete what was uploaded before that time and belongs to no import: the client or we went away half-way."""
        return await self._pieces.delete({"at": {"$lt": before}, "upload_id": {"$nin": list(used)}})


@dataclass(frozen=True)
class Profiles:
    """The service's context: its collections and clock."""

    persons: Aggregates[Person]
    imports: Aggregates[Import]
    programmes: Projection[ProgrammeChanged]
    pairings: Projection[PairingState]
    keys: Keys
    uploads: Uploads
    report: Documents
    clock: Clock

    async def all_programmes(self) -> dict[str, ProgrammeChanged]:
        """There are few of them, and whoever changes a person needs those that they take part in."""
        return {programme.programme_id: programme async for programme in self.programmes.find({})}

    async def running_pairings(self) -> dict[str, tuple[str, ...]]:
        """The members of each running pairing."""
        found = self.pairings.find({"state": {"$in": list(RUNNING)}})
        return {one.pairing_id: tuple(person.member_id for person in one.participants) async for one in found}

    async def unfinished_imports(self) -> list[Stored[Import]]:
        filter = {"state": {"$in": ["received", "running", "waiting_for_release"]}}
        return [stored async for stored in self.imports.find(filter)]

    async def mentions(self, member_id: str) -> list[Stored[Person]]:
        """Everybody whose record names this member."""
        places = ("place.manager", "place.line", "place.evaluators", "avoid", "contact.delegates")
        return [stored async for stored in self.persons.find({"$or": [{place: member_id} for place in places]})]

    async def hierarchy(self) -> "Hierarchy":
        """Where everybody alive stands; only the fields that this needs are read."""
        picture = Hierarchy({}, {}, {})
        async for document in self.persons.collection.find(dict(ALIVE), {"place": 1}):
            id, place = document["_id"], document["place"]
            picture.manager_of[id] = place["manager"]
            picture.lines[id] = tuple(place["line"])
            if place["wanted"] is not None:
                picture.wanted[id] = place["wanted"]
        return picture


@dataclass(frozen=True)
class Hierarchy:
    """``lines`` as they are stored; ``wanted``: the keys of managers who could not be used so far."""

    manager_of: dict[str, str | None]
    lines: dict[str, tuple[str, ...]]
    wanted: dict[str, str]


def search(
    *,
    name: str | None = None,
    email: str | None = None,
    programmes: Iterable[str] | None = None,
    programme: str | None = None,
    state: str | None = None,
) -> dict[str, Any]:
    """A filter on living people. ``programmes``: those that the asker coordinates; None is everybody."""
    conditions: list[dict[str, Any]] = [dict(ALIVE)]
    if name is not None:
        conditions.append({"hr.name": {"$regex": re.escape(name), "$options": "i"}})
    if email is not None:
        conditions.append({"hr.email": email.strip().lower()})
    if programmes is not None:
        conditions.append(_takes_part({one for one in programmes if programme in (None, one)}, state))
    elif programme is not None or state is not None:
        conditions.append(_takes_part({programme} if programme is not None else None, state))
    return {"$and": conditions}


def _takes_part(programmes: Collection[str] | None, state: str | None) -> dict[str, Any]:
    """In one of these programmes (None: in any), and in that state."""
    enrolment: dict[str, Any] = {} if programmes is None else {"programme_id": {"$in": sorted(programmes)}}
    return {"enrolments": {"$elemMatch": enrolment | ({"state": state} if state is not None else {})}}
