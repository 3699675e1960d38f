"""Uploading HR's files and following their imports."""

import hashlib
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from chassis.core.ids import derived_id, new_id
from chassis.storage.aggregates import Stored, stored_instant
from chassis.web.http import Command, Page, Principal, build_page, command, not_found, set_etag, set_location
from services.profiles.dependencies import ImportReader, Paging, ProfilesContext
from services.profiles.domain import imports
from services.profiles.domain.imports import HrImport
from services.profiles.store import Profiles
from services.profiles.views import ImportView, IssueView

PIECE_BYTES = 512 * 1024  # of a file, in one document

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
async def upload_file(
    request: Request,
    response: Response,
    profiles: ProfilesContext,
    command: Annotated[Command, command("coordinator", "admin", "service", streamed=True)],
    source: Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = "hr",
) -> ImportView:
    """The body is the CSV file itself. Once this has answered, the file cannot be lost."""
    file = _IncomingFile(profiles)
    await file.receive(request)
    principal, recorded_at = command.principal, profiles.clock.machine_now()
    import_id = derived_id("import", command.op.key)
    received = HrImport(
        import_id=import_id,
        source=source,
        uploaded_by=principal.subject,
        received_at=recorded_at,
        upload_id=file.id,
        chunks=file.pieces,
        size=file.size,
        digest=file.digest,
        invites_to=None if principal.roles & {"admin", "service"} else tuple(sorted(principal.programmes)),
        lease=recorded_at,
    )
    op = replace(command.op, request=f"{source}/{file.digest}")
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
    return ImportView.of(saved.require_state())


@router.get("/imports")
async def list_imports(profiles: ProfilesContext, principal: ImportReader, paging: Paging) -> Page[ImportView]:
    """All imports. A coordinator sees only the imports that they uploaded."""
    filter = {} if principal.roles & {"admin", "service"} else {"uploaded_by": principal.subject}
    results = profiles.imports.find(filter, limit=paging.fetch_limit, after=paging.after)
    items, after = await build_page(results, paging, lambda stored: stored.id)
    return Page(items=[ImportView.of(stored.state) for stored in items], next=after)


@router.get("/imports/{import_id}")
async def show_import(
    import_id: str, profiles: ProfilesContext, principal: ImportReader, response: Response
) -> ImportView:
    stored = await _load_visible(profiles, import_id, principal)
    set_etag(response, stored.version)
    return ImportView.of(stored.state)


@router.get("/imports/{import_id}/errors")
async def list_import_errors(
    import_id: str, profiles: ProfilesContext, principal: ImportReader, paging: Paging
) -> Page[IssueView]:
    """The errors and remarks of the file, in the order of its lines."""
    await _load_visible(profiles, import_id, principal)
    results = profiles.import_errors.find({"import_id": import_id}, limit=paging.fetch_limit, after=paging.after)
    entries, after = await build_page(results, paging, lambda entry: str(entry["_id"]))
    return Page(items=[IssueView.model_validate(entry) for entry in entries], next=after)


@router.post("/imports/{import_id}/release")
async def release_import(
    import_id: str, profiles: ProfilesContext, command: Annotated[Command, command("coordinator", "admin")]
) -> ImportView:
    """Let an import continue although it touches many running pairings."""
    stored = await _load_visible(profiles, import_id, command.principal)
    newer_imports = await profiles.imports.count(
        {
            "source": stored.state.source,
            "state": {"$in": ["running", "done"]},
            "received_at": {"$gt": stored_instant(stored.state.received_at)},
        }
    )
    released_by, recorded_at = command.principal.subject, profiles.clock.machine_now()
    saved = await profiles.imports.update(
        import_id,
        command.op,
        lambda current: (imports.release_import(current, released_by, newer_imports > 0, recorded_at), []),
        expect=command.expect,
    )
    return ImportView.of(saved.require_state())


async def _load_visible(profiles: Profiles, import_id: str, principal: Principal) -> Stored[HrImport]:
    """Answers 404 when the caller may not see the import, as when it does not exist."""
    stored = await profiles.imports.get(import_id)
    is_visible = stored is not None and (
        bool(principal.roles & {"admin", "service"}) or stored.state.uploaded_by == principal.subject
    )
    if stored is None or not is_visible:
        raise not_found("import")
    return stored
