"""Uploading HR's files and coordinators' lists of invitations, and following their imports."""

import hashlib
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from chassis.core.ids import derived_id, new_id
from chassis.core.settings import PREFIX
from chassis.storage.aggregates import Stored, stored_instant
from chassis.web.http import (
    Command,
    Page,
    Principal,
    allow,
    build_page,
    command,
    forbidden,
    not_found,
    require_known_person,
    set_etag,
    set_location,
)
from contracts.envelope import Id
from services.profiles.dependencies import ImportUser, Paging, ProfilesContext
from services.profiles.domain import imports
from services.profiles.domain.access_policy import ImportReader, import_reader
from services.profiles.domain.imports import HrImport, ImportKind
from services.profiles.held_pairings import render_held_pairings
from services.profiles.import_runner import load_queue
from services.profiles.permissions import build_import_filter, find_coordinated
from services.profiles.store import Profiles
from services.profiles.views import HeldPairingView, ImportView, IssueView

PIECE_BYTES = 512 * 1024  # of a file, in one document

SourceQuery = Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]

OrganisationQuery = Annotated[str | None, Query(min_length=1, max_length=64)]

router = APIRouter()


class _IncomingFile:
    """An upload that is stored piece by piece. Never more than one piece is held in memory."""

    def __init__(self, profiles: Profiles) -> None:
        self.id = new_id()
        self.pieces = 0
        self.size = 0
        self._profiles = profiles
        self._received_at = stored_instant(profiles.clock.machine_now()) or ""
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    async def receive(self, request: Request) -> None:
        """Store the whole body. When the client disconnects half-way, everything stored so far is deleted."""
        buffer = bytearray()
        try:
            async for part in request.stream():
                buffer += part
                while len(buffer) >= PIECE_BYTES:
                    await self._store_piece(bytes(buffer[:PIECE_BYTES]))
                    del buffer[:PIECE_BYTES]
        except (ClientDisconnect, Exception):
            await self.discard()
            raise
        if buffer:
            await self._store_piece(bytes(buffer))

    async def discard(self) -> None:
        await self._profiles.uploads.delete(self.id)

    async def _store_piece(self, data: bytes) -> None:
        await self._profiles.uploads.put(self.id, self.pieces, data, self._received_at)
        self._hash.update(data)
        self.pieces += 1
        self.size += len(data)


@router.post("/imports", status_code=202)
async def upload_people(
    request: Request,
    response: Response,
    profiles: ProfilesContext,
    command: Annotated[Command, command("admin", "service", streamed=True)],
    source: SourceQuery = "hr",
    organisation: OrganisationQuery = None,
) -> ImportView:
    """Import HR's file of people. The body is the file itself. Once this has answered, the file cannot be lost.

    ``organisation``: that of all people, for a file without this column.

    It may change everybody, so it needs an admin, or a service to which this source is bound by a setting.
    """
    principal = command.principal
    sources = profiles.settings.sources_of(principal.subject, principal.roles)
    if sources is not None and source not in sources:
        raise forbidden(
            f"This source is not bound to your account. An operator binds it with {PREFIX}PROFILES_SOURCES; "
            "an admin imports without it."
        )
    return await _receive(
        request, response, profiles, command, kind="people", source=source, sources=sources, organisation=organisation
    )


@router.post("/programmes/{programme}/invitations", status_code=202)
async def upload_invitations(
    programme: Id,
    request: Request,
    response: Response,
    profiles: ProfilesContext,
    command: Annotated[Command, command("coordinator", "admin", streamed=True)],
    source: SourceQuery = "hr",
) -> ImportView:
    """Invite the people of a list. The body is a CSV file with `external_id` or `email`, and `side` and `capacity`.

    It changes nothing else of anybody, and creates nobody. The report does not tell who exists: a person becomes
    visible by enrolling. An admin also reads which rows reach nobody.
    """
    programmes = await profiles.all_programmes()
    if "admin" not in command.principal.roles and programme not in find_coordinated(command.principal, programmes):
        raise forbidden("This programme is coordinated by others.")
    if programme not in programmes:
        raise not_found("programme")
    return await _receive(
        request, response, profiles, command, kind="invitations", source=source, programme_id=programme
    )


async def _receive(
    request: Request, response: Response, profiles: Profiles, command: Command, *, kind: ImportKind, source: str,
    sources: tuple[str, ...] | None = None, programme_id: str | None = None, organisation: str | None = None,
) -> ImportView:  # fmt: skip
    """Store the file and the import of it."""
    file = _IncomingFile(profiles)
    await file.receive(request)
    principal, recorded_at = command.principal, profiles.clock.machine_now()
    import_id = derived_id("import", command.op.key)
    received = HrImport(
        import_id=import_id,
        kind=kind,
        source=source,
        sources=sources,
        programme_id=programme_id,
        organisation=organisation,
        uploaded_by=principal.subject,
        uploader_member=principal.member_id,
        has_known_uploader=principal.is_known_person or "admin" not in principal.roles,
        received_at=recorded_at,
        upload_id=file.id,
        chunks=file.pieces,
        size=file.size,
        digest=file.digest,
        lease=recorded_at,
    )
    op = replace(command.op, request=f"{source}/{file.digest}" + (f"/{organisation}" if organisation else ""))
    try:
        saved = await profiles.imports.update(
            import_id, op, lambda current: (received, []) if current is None else None
        )
    except Exception:
        await file.discard()
        raise
    if saved.require_state().upload_id != file.id:  # a repeated upload: the file that was received first is used
        await file.discard()
    set_location(response, "imports", import_id)
    return await _render(profiles, saved.require_state(), principal)


@router.get("/imports")
async def list_imports(
    profiles: ProfilesContext, principal: ImportUser, paging: Paging, unfinished: bool = False
) -> Page[ImportView]:
    """All imports. Others than admins see what they uploaded themselves."""
    coordinated = find_coordinated(principal, await profiles.all_programmes())
    filter = build_import_filter(principal, coordinated, unfinished=unfinished)
    results = profiles.imports.find(filter, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(results, paging, lambda stored: stored.id)
    queue = await load_queue(profiles)
    views = [
        ImportView.of(stored.state, reader, queue)
        for stored in items
        if (reader := import_reader(stored.state, principal.subject, principal.roles, coordinated)) is not None
    ]
    return Page(items=views, next=after)


@router.get("/imports/{import_id}")
async def show_import(
    import_id: str, profiles: ProfilesContext, principal: ImportUser, response: Response
) -> ImportView:
    stored, _ = await _load_visible(profiles, import_id, principal)
    set_etag(response, stored.version)
    return await _render(profiles, stored.state, principal)


@router.get("/imports/{import_id}/errors")
async def list_import_errors(
    import_id: str, profiles: ProfilesContext, principal: ImportUser, paging: Paging
) -> Page[IssueView]:
    """The errors and remarks of the file, in the order of its lines."""
    _, reader = await _load_visible(profiles, import_id, principal)
    filter: dict[str, Any] = {"import_id": import_id}
    if reader != "admin":
        filter["admins_only"] = {"$ne": True}
    results = profiles.import_errors.find(filter, limit=paging.fetch_limit, after=paging.after)
    entries, after = await build_page(results, paging, lambda entry: str(entry["_id"]))
    return Page(items=[IssueView.model_validate(entry) for entry in entries], next=after)


@router.get("/imports/{import_id}/pairings")
async def list_held_pairings(
    import_id: str, profiles: ProfilesContext, principal: Annotated[Principal, allow("admin")], paging: Paging
) -> Page[HeldPairingView]:
    """The running pairings that the held rows touch, as far as the caller may see single pairings.

    Left out are pairings in which the caller, or a person of their own line, takes part.
    """
    require_known_person(principal)
    stored, _ = await _load_visible(profiles, import_id, principal)
    ids = [id for id in stored.state.held_pairings if id > (paging.after or "")]
    shown = ids[: paging.limit]
    views = await render_held_pairings(profiles, principal, shown)
    return Page(items=views, next=shown[-1] if len(ids) > len(shown) else None)


@router.post("/imports/{import_id}/release")
async def release_import(
    import_id: str, profiles: ProfilesContext, command: Annotated[Command, command("admin")]
) -> ImportView:
    """Let the held rows of an import take effect. This needs another person than the one who uploaded the file."""
    require_known_person(command.principal)
    stored, _ = await _load_visible(profiles, import_id, command.principal)
    newer_imports = await profiles.imports.count(
        {
            "source": stored.state.source,
            "kind": {"$ne": "invitations"},
            "state": {"$in": ["running", "waiting_for_release", "done"]},
            "received_at": {"$gt": stored_instant(stored.state.received_at)},
        }
    )
    principal, recorded_at = command.principal, profiles.clock.machine_now()
    saved = await profiles.imports.update(
        import_id,
        command.op,
        lambda current: (
            imports.release_import(current, principal.subject, principal.member_id, newer_imports > 0, recorded_at),
            [],
        ),
        expect=command.expect,
    )
    return await _render(profiles, saved.require_state(), principal)


@router.post("/imports/{import_id}/cancel")
async def cancel_import(
    import_id: str, profiles: ProfilesContext, command: Annotated[Command, command("coordinator", "admin", "service")]
) -> ImportView:
    """Stop an import. Rows that took effect stay; a running import ends after its current batch."""
    stored, _ = await _load_visible(profiles, import_id, command.principal)
    recorded_at = profiles.clock.machine_now()
    saved = await profiles.imports.update(
        import_id,
        command.op,
        lambda current: (imports.cancel_import(current, command.principal.subject, recorded_at), []),
        expect=command.expect,
    )
    if not saved.require_state().is_unfinished:
        await profiles.uploads.delete(stored.state.upload_id)
    return await _render(profiles, saved.require_state(), command.principal)


async def _load_visible(
    profiles: Profiles, import_id: str, principal: Principal
) -> tuple[Stored[HrImport], ImportReader]:
    """The import, and as whom the caller reads it. Answers 404 when the caller may not know that it exists."""
    stored = await profiles.imports.get(import_id)
    coordinated = find_coordinated(principal, await profiles.all_programmes())
    if stored is not None:
        reader = import_reader(stored.state, principal.subject, principal.roles, coordinated)
        if reader is not None:
            return stored, reader
    raise not_found("import")


async def _render(profiles: Profiles, hr_import: HrImport, principal: Principal) -> ImportView:
    coordinated = find_coordinated(principal, await profiles.all_programmes())
    reader = import_reader(hr_import, principal.subject, principal.roles, coordinated)
    return ImportView.of(hr_import, reader or "coordinator", await load_queue(profiles))
