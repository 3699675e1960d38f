"""HTTP for every service: who may, commands that can be repeated, pages, problems, health, metrics.

Default deny: a route that does not say who may use it (``allow`` or ``command``) keeps the service from starting.

    @router.get("/things/{id}")
    async def thing(id: str, principal: Annotated[Principal, allow("member")], response: Response) -> Thing: ...

    @router.post("/things/{id}/name")
    async def rename(id: str, wish: Wish, command: Annotated[Command, command("admin")]) -> Thing:
        saved = await things.update(id, command.op, lambda state: ..., expect=command.expect)
"""

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response, Security
from fastapi.dependencies.models import Dependant
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict

from chassis.core.ids import derived_id, new_id
from chassis.core.settings import Settings
from chassis.observability import metrics
from chassis.observability.health import Health, HealthReport
from chassis.storage.aggregates import Op
from chassis.web import problems as _problems
from chassis.web.authentication import Principal, Role, TokenVerifier, Unauthenticated
from chassis.web.middleware import RequestMiddleware, RouteTable
from chassis.web.problems import Problem, forbidden, not_found

__all__ = [
    "Command",
    "OpenRoute",
    "Page",
    "PageRequest",
    "Principal",
    "Problem",
    "RequestBody",
    "allow",
    "build_page",
    "command",
    "create_app",
    "forbidden",
    "not_found",
    "service_context",
    "set_etag",
]

PUBLIC = frozenset({"/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/docs/oauth2-redirect"})
MAX_PAGE = 200  # items on one page
DEFAULT_PAGE = 50
NO_VERSION = -1  # a version that no document has

T = TypeVar("T")

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token of the configured OIDC issuer.")
_ETAG = re.compile(r'"(\d{1,18})"')


class OpenRoute(Exception):
    """A route does not say who may use it."""


@dataclass(frozen=True)
class Command:
    """A request that changes something.

    ``op`` is the same for the same request with the same Idempotency-Key of the same person; without a key, each
    request is an operation of its own. ``expect``: the version named by If-Match (0 for ``If-None-Match: *``), if any.
    """

    op: Op
    expect: int | None
    principal: Principal


class _Allow:
    """The principal, if one of ``roles`` is theirs."""

    def __init__(self, roles: frozenset[Role]) -> None:
        self.roles = roles

    async def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Principal:
        if credentials is None:
            raise Unauthenticated("token_missing", "This needs a bearer token.")
        verifier: TokenVerifier = request.app.state.verifier
        principal = await verifier.verify(credentials.credentials)
        if not principal.roles & self.roles:
            raise forbidden("Your role does not allow this.")
        return principal


def allow(*roles: Role) -> Any:
    """A dependency: who has one of these roles may; gives the ``Principal``."""
    return Depends(_Allow(_named(roles)))


def command(*roles: Role, streamed: bool = False) -> Any:
    """A dependency for what changes something: like ``allow``, and gives the ``Command``.

    ``streamed``: the route reads a large upload itself. Its body is not hashed here: the same Idempotency-Key with
    another body is told apart by the ``Content-Digest`` header, where the client sends one.
    """
    allowed = _Allow(_named(roles))

    async def made(
        request: Request,
        principal: Annotated[Principal, Depends(allowed)],
        key: Annotated[
            str | None,
            Header(
                alias="Idempotency-Key",
                pattern=r"^[\x21-\x7e]{1,255}$",
                description="The same key again, within the last operations, gets the same answer again.",
            ),
        ] = None,
        if_match: Annotated[str | None, Header(description="Only if this is still the ETag.")] = None,
        if_none_match: Annotated[str | None, Header(description="`*`: only if there is none yet.")] = None,
    ) -> Command:
        asked = hashlib.sha256(request.url.query.encode() + b"\n")
        asked.update(request.headers.get("content-digest", "").encode() if streamed else await request.body())
        op = derived_id("http", principal.subject, request.method, request.url.path, (key or new_id()).strip('"'))
        return Command(Op(op, asked.hexdigest()[:32]), _expected(if_match, if_none_match), principal)

    made.streamed = streamed  # type: ignore[attr-defined]
    return Depends(made)


def _named(roles: tuple[Role, ...]) -> frozenset[Role]:
    if not roles:
        raise ValueError("say who may: at least one role")
    return frozenset(roles)


def _expected(if_match: str | None, if_none_match: str | None) -> int | None:
    if if_none_match == "*":
        return 0
    if if_match is None or if_match == "*":
        return None
    found = _ETAG.fullmatch(if_match.strip())
    return int(found[1]) if found else NO_VERSION  # an ETag that is not ours matches nothing


def set_etag(response: Response, version: int) -> None:
    """Tell the version, for If-Match."""
    response.headers["ETag"] = f'"{version}"'


class RequestBody(BaseModel):
    """Base of every JSON body. Unknown fields are refused, and an error never repeats the input."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True)
class PageRequest:
    """Which page is asked for. Read ``more`` items, one above the limit, to know whether another page follows.

    ``paging: Annotated[Paging, Depends()]``
    """

    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Items on this page.")] = DEFAULT_PAGE
    after: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None

    @property
    def fetch_limit(self) -> int:
        return self.limit + 1


class Page(BaseModel, Generic[T]):
    """``next`` is to be given as ``after`` for the next page; absent on the last one."""

    items: list[T]
    next: str | None = None


async def build_page(
    found: AsyncIterator[T], paging: PageRequest, key: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """The items of a page and its ``next``. ``found`` must be sorted by ``key`` and limited to ``paging.more``."""
    items = [item async for item in found]
    if len(items) <= paging.limit:
        return items, None
    return items[: paging.limit], key(items[paging.limit - 1])


def service_context(request: Request) -> Any:
    """The context of the running service, for endpoints: ``Annotated[Profiles, Depends(service_context)]``."""
    return request.app.state.context


def create_app(
    service: str,
    settings: Settings,
    *,
    routers: Sequence[APIRouter],
    health: Health,
    context: object = None,
    verifier: TokenVerifier | None = None,
) -> FastAPI:
    """The application of a service.

    ``context``: the object that endpoints receive by ``Depends(service_context)``. Raises ``OpenRoute`` when a route
    does not say who may use it.
    """
    app = FastAPI(
        title=f"Viceversa: {service}",
        redoc_url=None,
        responses={"default": _problems.RESPONSE, 422: _problems.RESPONSE},
        separate_input_output_schemas=False,
    )
    app.state.context = context
    app.state.verifier = verifier or TokenVerifier(settings)
    _problems.install_handlers(app)
    app.include_router(_operations(health))
    for router in routers:
        app.include_router(router)
    routes = RouteTable()
    routes.register(app)
    for route in iter_route_contexts(app.routes):
        calls = list(_calls(route.dependant)) if hasattr(route, "dependant") else []
        if route.path not in PUBLIC and not any(isinstance(call, _Allow) for call in calls):
            raise OpenRoute(f"{', '.join(sorted(route.methods or ()))} {route.path} does not say who may: allow(...)")
        if route.endpoint is not None and any(getattr(call, "streamed", False) for call in calls):
            routes.uploads.add(route.endpoint)
    app.add_middleware(RequestMiddleware, service=service, settings=settings, routes=routes)
    return app


def _calls(dependant: Dependant) -> Iterator[object]:
    """Everything that a route depends on, however deep."""
    for needed in dependant.dependencies:
        yield needed.call
        yield from _calls(needed)


def _operations(health: Health) -> APIRouter:
    """What those ask who keep the service running."""
    router = APIRouter(include_in_schema=False)

    @router.get("/health/live")
    async def live() -> JSONResponse:
        return _report(health.check_liveness())

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        return _report(health.check_readiness())

    @router.get("/metrics")
    async def figures() -> Response:
        return Response(metrics.render_metrics(), media_type=metrics.CONTENT_TYPE)

    return router


def _report(report: HealthReport) -> JSONResponse:
    checks = {check.name: {"ok": check.ok, "detail": check.detail} for check in report.checks}
    return JSONResponse({"status": "ok" if report.ok else "failing", "checks": checks}, 200 if report.ok else 503)
