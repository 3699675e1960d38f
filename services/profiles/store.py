"""The collections of profiles: people, imports, keys of external ids, uploads, and projections of other services."""

import hmac
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

from chassis.core.clocks import Clock
from chassis.storage.aggregates import Aggregates, Stored
from chassis.storage.mongo import Documents, Index, chunks, insert_missing
from chassis.storage.projections import Projection
from contracts.pairings import PairingState
from contracts.programmes import ProgrammeChanged
from services.profiles.domain.access_policy import TAKING_PART
from services.profiles.domain.hr_record import EMAIL_SIGN, ExternalId, email_ref
from services.profiles.domain.imports import HrImport, ImportKind
from services.profiles.domain.person import Person
from services.profiles.domain.unknown_topics import UnknownTopics
from services.profiles.settings import ProfilesSettings

MENTIONING_FIELDS = ("place.manager", "place.line", "place.evaluators", "avoid", "contact.delegates")
PERSON_INDEXES: list[Index] = [
    ("hr.email",),
    ("enrolments.programme_id", "enrolments.state"),
    *((field,) for field in MENTIONING_FIELDS),
]
IMPORT_INDEXES: list[Index] = [("state",), ("source", "received_at"), ("uploaded_by",)]
IMPORT_ERROR_INDEXES: list[Index] = [("import_id", "_id")]
UPLOAD_INDEXES: list[Index] = [("upload_id",), ("at",)]
PAIRING_INDEXES: list[Index] = [("state",)]
RUNNING_STATES = ("formed", "chartered", "paused")
UNKNOWN_TOPICS_ID = "unknown"  # of the only list
LIVING: Mapping[str, Any] = {"hr": {"$ne": None}}


class WrongHmacKey(Exception):
    """The configured secret is not the secret with which the keys in this database were made."""


class ExternalIdKeys:
    """Maps external ids to members: ``{_id: HMAC(source, external id), member_id}``.

    A *claim* (the document) comes first and decides the member's random id. The person is created under that id
    afterwards.

    * Two imports claim the same external id: the unique ``_id`` lets one win, and the other reads its member id.
    * A crash between claim and person: the next row with that external id finds the claim and creates the person under
      the same id. So nobody can be created twice, wherever a crash happens.
    * Erasure: the stub of the person is saved first. A row that still finds the claim also finds the stub, and creates
      nobody. Then the claim is *buried*: ``member_id`` None stays for ever, so the nightly file cannot re-create the
      person. After that, even with the secret, nobody can tell which member the external id belonged to.

    The external id itself is never stored here. Unlike other ids, a member id is random: an id in order of time would
    reveal who was next to whom in HR's file.
    """

    def __init__(self, keys: Documents, settings: Documents, secret: bytes) -> None:
        self._keys = keys
        self._settings = settings
        self._secret = secret
        self._checked = False

    async def hasher(self) -> Callable[[str], str]:
        """A function from an external id (``ExternalId.ref``) to its key."""
        secret = await self._checked_secret()
        return lambda ref: _hmac(secret, ref)

    async def hash_refs(self, refs: Iterable[str]) -> dict[str, str]:
        hash_ref = await self.hasher()
        return {ref: hash_ref(ref) for ref in refs}

    async def find_members(self, refs: Iterable[str]) -> dict[str, str]:
        """External id (``ExternalId.ref``) -> member id. Unknown ids and ids of erased people are left out."""
        keys = await self.hash_refs(refs)
        documents = await self._keys.get_many(list(keys.values()))
        members = {ref: documents[key]["member_id"] for ref, key in keys.items() if key in documents}
        return {ref: member for ref, member in members.items() if member is not None}

    async def members_by_key(self, keys: Iterable[str]) -> dict[str, str]:
        """Key -> member id. Unknown keys and keys of erased people are left out."""
        documents = await self._keys.get_many(list(keys))
        return {key: document["member_id"] for key, document in documents.items() if document["member_id"] is not None}

    async def claim(self, refs: Iterable[str]) -> tuple[dict[str, str | None], set[str]]:
        """External id -> member id, where an unknown external id is claimed with a new member id.

        The member id is None for an erased person. The second value holds the member ids that this call has drawn.
        """
        keys = await self.hash_refs(refs)
        documents = await self._keys.get_many(list(keys.values()))
        new = [{"_id": key, "member_id": str(uuid4())} for key in keys.values() if key not in documents]
        new_members = {document["member_id"] for document in new}
        for chunk in chunks(new):
            lost_claims = await insert_missing(self._keys.collection, chunk)
            documents |= {document["_id"]: document for document in chunk}
            if lost_claims:
                new_members -= {document["member_id"] for document in lost_claims}
                documents |= await self._keys.get_many([document["_id"] for document in lost_claims])
        return {ref: documents[key]["member_id"] for ref, key in keys.items()}, new_members

    async def assign(self, external_id: ExternalId, member_id: str) -> bool:
        """Claim an external id for an existing member. False when it belongs to another or to an erased person."""
        key = _hmac(await self._checked_secret(), external_id.ref)
        lost_claims = await insert_missing(self._keys.collection, [{"_id": key, "member_id": member_id}])
        if not lost_claims:
            return True
        document = await self._keys.get(key)
        return document is not None and document["member_id"] == member_id

    async def bury(self, keys: Sequence[str]) -> None:
        await self._keys.put_many([{"_id": key, "member_id": None} for key in keys])

    async def _checked_secret(self) -> bytes:
        """The secret, after a check that the keys in this database were made with it. Raises ``WrongHmacKey``.

        With another secret nobody would be recognised, and the next import would create everybody a second time.
        """
        if not self._checked:
            check = _hmac(self._secret, "check")
            await insert_missing(self._settings.collection, [{"_id": "hmac_key", "check": check}])
            document = await self._settings.get("hmac_key")
            if document is None or not hmac.compare_digest(document["check"], check):
                raise WrongHmacKey("VICEVERSA_HMAC_KEY is not the one with which this database's keys were made")
            self._checked = True
        return self._secret


def _hmac(secret: bytes, text: str) -> str:
    return hmac.new(secret, text.encode(), sha256).hexdigest()


class Uploads:
    """Uploaded files, stored in pieces. Each upload attempt has its own id and is deleted after use."""

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
        """Delete uploads from before that time which belong to no import: the client or this service stopped half-way.

        ``used`` holds the ids of uploads that must stay. Returns the number of deleted pieces.
        """
        return await self._pieces.delete({"at": {"$lt": before}, "upload_id": {"$nin": list(used)}})


@dataclass(frozen=True)
class Profiles:
    """The service's context: its collections and clock."""

    persons: Aggregates[Person]
    imports: Aggregates[HrImport]
    programmes: Projection[ProgrammeChanged]
    pairings: Projection[PairingState]
    keys: ExternalIdKeys
    uploads: Uploads
    import_errors: Documents
    unknown_topics: Aggregates[UnknownTopics]
    clock: Clock
    settings: ProfilesSettings

    async def all_programmes(self) -> dict[str, ProgrammeChanged]:
        """All programmes by id. They are few, and every change of a person needs the programmes of that person."""
        return {programme.programme_id: programme async for programme in self.programmes.find({})}

    async def running_pairings(self) -> dict[str, tuple[str, ...]]:
        """The members of each running pairing."""
        running = self.pairings.find({"state": {"$in": list(RUNNING_STATES)}})
        return {
            pairing.pairing_id: tuple(person.member_id for person in pairing.participants) async for pairing in running
        }

    async def unfinished_imports(self, kind: ImportKind | None = None) -> list[Stored[HrImport]]:
        filter: dict[str, Any] = {"state": {"$in": ["received", "running", "waiting_for_release"]}}
        if kind is not None:  # imports of a former version have no kind: they are files of people
            filter["kind"] = kind if kind != "people" else {"$in": [kind, None]}
        return [stored async for stored in self.imports.find(filter)]

    async def count_unknown_topics(self) -> Mapping[str, int]:
        """The number of people by each text that they entered and the taxonomy does not know."""
        people: Counter[str] = Counter()
        async for stored in self.persons.find({**LIVING, "topics.unknown": {"$ne": []}}):
            people.update(set(stored.state.topics.unknown))
        return people

    async def find_members(self, refs: Iterable[str]) -> dict[str, str]:
        """``ExternalId.ref`` or ``email_ref`` -> member id. An address that two people have finds nobody."""
        refs = list(refs)
        members = await self.keys.find_members(ref for ref in refs if not ref.startswith(EMAIL_SIGN))
        shared: set[str] = set()
        for chunk in chunks([ref for ref in refs if ref.startswith(EMAIL_SIGN)]):
            query = {**LIVING, "hr.email": {"$in": [ref.removeprefix(EMAIL_SIGN) for ref in chunk]}}
            async for document in self.persons.collection.find(query, {"hr.email": 1}):
                ref = email_ref(document["hr"]["email"])
                shared |= {ref} & members.keys()
                members[ref] = document["_id"]
        return {ref: member for ref, member in members.items() if ref not in shared}

    async def find_mentioning(self, member_id: str) -> list[Stored[Person]]:
        """The people whose record names this member."""
        mentions = [{field: member_id} for field in MENTIONING_FIELDS]
        return [stored async for stored in self.persons.find({"$or": mentions})]

    async def load_hierarchy(self) -> "Hierarchy":
        """The reporting lines of all living people. Only the fields needed for this are read."""
        hierarchy = Hierarchy({}, {}, {})
        async for document in self.persons.collection.find(dict(LIVING), {"place": 1}):
            member_id, position = document["_id"], document["place"]
            hierarchy.manager_of[member_id] = position["manager"]
            hierarchy.lines[member_id] = tuple(position["line"])
            if position["wanted"] is not None:
                hierarchy.missing_manager_keys[member_id] = position["wanted"]
        return hierarchy


@dataclass(frozen=True)
class Hierarchy:
    """Managers and reporting lines by member id.

    ``lines`` are the stored lines. ``missing_manager_keys`` holds the keys of managers whom HR named and who could not
    be used so far.
    """

    manager_of: dict[str, str | None]
    lines: dict[str, tuple[str, ...]]
    missing_manager_keys: dict[str, str]


def build_member_filter(
    *, name: str | None = None, email: str | None = None, programme: str | None = None, state: str | None = None
) -> dict[str, Any]:
    """A MongoDB filter on living people, for callers who may see everybody."""
    conditions: list[dict[str, Any]] = [dict(LIVING)]
    if name is not None:
        conditions.append({"hr.name": _containing(name)})
    if email is not None:
        conditions.append({"hr.email": email.strip().lower()})
    if programme is not None or state is not None:
        conditions.append(_enrolment_filter({programme} if programme is not None else None, state))
    return {"$and": conditions}


def build_participant_filter(
    coordinated: Collection[str], *, name: str | None = None, programme: str | None = None, state: str | None = None
) -> dict[str, Any]:
    """A MongoDB filter on the people who take part in these programmes, for their coordinators.

    It asks only for what these callers may see, so that a search tells nothing else.
    """
    visible = {programme_id for programme_id in coordinated if programme in (None, programme_id)}
    states = [shown for shown in TAKING_PART if state in (None, shown)]
    conditions: list[dict[str, Any]] = [
        dict(LIVING),
        {"enrolments": {"$elemMatch": {"programme_id": {"$in": sorted(visible)}, "state": {"$in": states}}}},
    ]
    if name is not None:
        shown_name = [
            {"contact.display_name": _containing(name)},
            {"contact.display_name": None, "hr.name": _containing(name)},
        ]
        conditions.append({"$or": shown_name})
    return {"$and": conditions}


def _containing(text: str) -> dict[str, str]:
    return {"$regex": re.escape(text), "$options": "i"}


def _enrolment_filter(programmes: Collection[str] | None, state: str | None) -> dict[str, Any]:
    """A condition: an enrolment in one of these programmes (None: in any), and in this state (None: in any)."""
    enrolment: dict[str, Any] = {} if programmes is None else {"programme_id": {"$in": sorted(programmes)}}
    return {"enrolments": {"$elemMatch": enrolment | ({"state": state} if state is not None else {})}}
