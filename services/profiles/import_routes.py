"""Uploading HR's files, and following what becomes of them."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import ClientDisconnect

from chassis.core.ids import derived_id, new_id
from chassis.storage.aggregates import Op, Stored, stored_instant
from chassis.web.http import Command, Page, PageRequest, Principal, allow, build_page, command, not_found, set_etag
from services.profiles.domain import imports
from services.profiles.domain.imports import Import
from services.profiles.store import Profiles
from services.profiles.views import ImportView, IssueView

PIECE = 512 * 1024  # bytes of a file in one document


class _Upload:
    """A file on its way into its pieces; at no time is more than one piece held in memory."""

    def __init__(self, profiles: Profiles) -> None:
        self.id = new_id()
        self.pieces = 0
        self.size = 0
        self._profiles = profiles
        self._at = stored_instant(profiles.clock.machine_now()) or ""
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    async def take(self, request: Request) -> None:
        """Store the whole body. Nothing is left of it when the client goes away half-way."""
        waiting = bytearray()
        try:
            async for part in request.stream():
                waiting += part
                while len(waiting) >= PIECE:
                    await self._put(bytes(waiting[:PIECE]))
                    del waiting[:PIECE]
        except (ClientDisconnect, Exception):
            await self.discard()
            raise
        if waiting:
            await self._put(bytes(waiting))

    async def discard(self) -> None:
        await self._profiles.uploads.delete(self.id)

    async def _put(self, data: bytes) -> None:
        await self._profiles.uploads.put(self.id, self.pieces, data, self._at)
        self._hash.update(data)
        self.pieces += 1
        self.size += len(data)


def import_routes(profiles: Profiles) -> APIRouter:
    router = APIRouter()

    @router.post("/imports", status_code=202)
    async def upload(
        request: Request,
        response: Response,
        asked: Annotated[Command, command("coordinator", "admin", "service", streamed=True)],
        source: Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = "hr",
    ) -> ImportView:
        """The body is the CSV file itself. Once this has answered, nothing of it can be lost."""
        file = _Upload(profiles)
        await file.take(request)
        principal, machine = asked.principal, profiles.clock.machine_now()
        import_id = derived_id("import", asked.op.key)
        received = Import(
            import_id=import_id,
            source=source,
            uploaded_by=principal.subject,
            received_at=machine,
            upload_id=file.id,
            chunks=file.pieces,
            size=file.size,
            digest=file.digest,
            invites_to=None if principal.roles & {"admin", "service"} else tuple(sorted(principal.programmes)),
            lease=machine,
        )
        op = Op(asked.op.key, f"{source}/{file.digest}")
        try:
            saved = await profiles.imports.update(
                import_id, op, lambda known: (received, []) if known is None else None
            )
        except Exception:
            await file.discard()
            raise
        if saved.require_state().upload_id != file.id:  # the same upload again: what was received first is used
            await file.discard()
        response.headers["Location"] = f"/imports/{import_id}"
        return ImportView.of(saved.require_state())

    @router.get("/imports")
    async def list_imports(
        principal: Annotated[Principal, allow("coordinator", "admin", "service")],
        paging: Annotated[PageRequest, Depends()],
    ) -> Page[ImportView]:
        """All imports, or those that a coordinator has uploaded."""
        own = {} if principal.roles & {"admin", "service"} else {"uploaded_by": principal.subject}
        found = profiles.imports.find(own, limit=paging.fetch_limit, after=paging.after)
        stored, after = await build_page(found, paging, lambda one: one.id)
        return Page(items=[ImportView.of(one.state) for one in stored], next=after)

    @router.get("/imports/{import_id}")
    async def show_import(
        import_id: str,
        principal: Annotated[Principal, allow("coordinator", "admin", "service")],
        response: Response,
    ) -> ImportView:
        stored = await _visible(profiles, import_id, principal)
        set_etag(response, stored.version)
        return ImportView.of(stored.state)

    @router.get("/imports/{import_id}/errors")
    async def import_errors(
        import_id: str,
        principal: Annotated[Principal, allow("coordinator", "admin", "service")],
        paging: Annotated[PageRequest, Depends()],
    ) -> Page[IssueView]:
        """What was wrong with the file, in the order of its lines."""
        await _visible(profiles, import_id, principal)
        found = profiles.report.find({"import_id": import_id}, limit=paging.fetch_limit, after=paging.after)
        entries, after = await build_page(found, paging, lambda one: str(one["_id"]))
        return Page(items=[IssueView.model_validate(one) for one in entries], next=after)

    @router.post("/imports/{import_id}/release")
    async def release(import_id: str, asked: Annotated[Command, command("coordinator", "admin")]) -> ImportView:
        """Let an import go on although it touches many running pairings."""
        stored = await _visible(profiles, import_id, asked.principal)
        newer = await profiles.imports.count(
            {
                "source": stored.state.source,
                "state": {"$in": ["running", "done"]},
                "received_at": {"$gt": stored_instant(stored.state.received_at)},
            }
        )
        by, machine = asked.principal.subject, profiles.clock.machine_now()
        saved = await profiles.imports.update(
            import_id,
            asked.op,
            lambda known: (imports.released(known, by, newer > 0, machine), []),
            expect=asked.expect,
        )
        return ImportView.of(saved.require_state())

    return router


async def _visible(profiles: Profiles, import_id: str, principal: Principal) -> Stored[Import]:
    stored = await profiles.imports.get(import_id)
    mine = stored is not None and (
        bool(principal.roles & {"admin", "service"}) or stored.state.uploaded_by == principal.subject
    )
    if stored is None or not mine:
        raise not_found("import")
    return stored
