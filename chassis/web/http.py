"""HTTP for every service: permissions, repeatable commands, pages and problems.

Default deny: the service does not start while a route declares no roles with ``allow`` or ``command``.

    @router.get("/things/{id}")
    async def get_thing(id: str, principal: Annotated[Principal, allow("member")], response: Response) -> Thing: ...

    @router.post("/things/{id}/name")
    async def rename_thing(id: str, body: NameBody, command: Annotated[Command, command("admin")]) -> Thing:
        saved = await things.update(id, command.op, lambda state: ..., expect=command.expect)
"""

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict

from chassis.core.commands import Op, request_op
from chassis.core.settings import Settings
from chassis.web import docs_page
from chassis.web import problems as _problems
from chassis.web.admission import Admission, RouteRule, RouteTable
from chassis.web.authentication import ROLES, Principal, Role, TokenVerifier, Unauthenticated
from chassis.web.middleware import RequestMiddleware
from chassis.web.problems import Problem, forbidden, not_found, undeclared_account
from chassis.web.text_border import check_body

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
    "require_known_person",
    "service_context",
    "set_etag",
    "set_location",
]

PUBLIC_PATHS = frozenset({"/openapi.json", *docs_page.PATHS})
MAX_PAGE_ITEMS = 200
DEFAULT_PAGE_ITEMS = 50
NO_VERSION = -1  # a version that no document has

T = TypeVar("T")

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token of the configured OIDC issuer.")
_ETAG = re.compile(r'"(\d{1,18})"')


class OpenRoute(Exception):
    """A route declares no roles."""


@dataclass(frozen=True)
class Command:
    """A request that changes something.

    ``op`` is equal for equal requests of one person with the same Idempotency-Key. Without a key, each request is an
    operation of its own. ``expect``: the version of If-Match (0 for ``If-None-Match: *``), if the caller sent one.
    """

    op: Op
    expect: int | None
    principal: Principal


class RoleCheck:
    """A dependency that returns the principal if it has one of ``roles``.

    The middleware has verified the token before the body was received; ``_bearer`` describes that in OpenAPI.
    """

    def __init__(self, roles: frozenset[Role]) -> None:
        self.roles = roles

    async def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Principal:
        principal: Principal | None = getattr(request.state, "principal", None)
        if credentials is None or principal is None:
            raise Unauthenticated("token_missing", "A bearer token is required.")
        if not principal.roles & self.roles:
            raise forbidden("Your role does not allow this.")
        return principal


def allow(*roles: Role) -> Any:
    """A dependency that admits callers with one of these roles, and gives the ``Principal``."""
    return Depends(RoleCheck(_require_roles(roles)))


def command(*roles: Role, streamed: bool = False) -> Any:
    """A dependency for routes that change something: admits callers like ``allow``, and gives the ``Command``.

    ``streamed``: the route reads a large upload itself, so the body is not hashed here. Then another body under the
    same Idempotency-Key is only detected by the ``Content-Digest`` header, if the client sends one.
    """
    allowed = RoleCheck(_require_roles(roles))

    async def build_command(
        request: Request,
        principal: Annotated[Principal, Depends(allowed)],
        key: Annotated[
            str | None,
            Header(
                alias="Idempotency-Key",
                pattern=r"^[\x21-\x7e]{1,255}$",
                description="A repeated key, within the last operations, gets the same response again.",
            ),
        ] = None,
        if_match: Annotated[str | None, Header(description="Change only if this is still the ETag.")] = None,
        if_none_match: Annotated[str | None, Header(description="`*`: create only if nothing exists yet.")] = None,
    ) -> Command:
        request_hash = hashlib.sha256(request.url.query.encode() + b"\n")
        request_hash.update(request.headers.get("content-digest", "").encode() if streamed else await request.body())
        op = request_op(principal.subject, request.method, request.url.path, key, request_hash.hexdigest()[:32])
        return Command(op, _expected_version(if_match, if_none_match), principal)

    build_command.streamed = streamed  # type: ignore[attr-defined]
    return Depends(build_command)


def require_known_person(principal: Principal) -> None:
    """For everything that tells of single pairings, of their people, or of what one person did or said.

    Conflict of interest holds for the person, whatever account they use. Raises a problem for an account of which
    nobody knows who is behind it.
    """
    if not principal.is_known_person:
        raise undeclared_account()


def _require_roles(roles: tuple[Role, ...]) -> frozenset[Role]:
    if not roles:
        raise ValueError("a route needs at least one role")
    return frozenset(roles)


def _expected_version(if_match: str | None, if_none_match: str | None) -> int | None:
    if if_none_match == "*":
        return 0
    if if_match is None or if_match == "*":
        return None
    match = _ETAG.fullmatch(if_match.strip())
    return int(match[1]) if match else NO_VERSION  # a foreign ETag matches nothing


def set_etag(response: Response, version: int) -> None:
    """Send the version as the ETag, for If-Match."""
    response.headers["ETag"] = f'"{version}"'


def set_location(response: Response, *segments: str) -> None:
    """Send the path of what was created. Each segment is quoted: an id may hold any letter, a header may not."""
    response.headers["Location"] = "".join(f"/{quote(segment, safe='')}" for segment in segments)


class RequestBody(BaseModel):
    """Base of every JSON body. Unknown fields are rejected, and an error never repeats the input."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True)
class PageRequest:
    """The requested page. Read ``fetch_limit`` items, one more than ``limit``, to know whether another page follows.

    ``paging: Annotated[PageRequest, Depends()]``
    """

    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_ITEMS, description="Items on this page.")] = DEFAULT_PAGE_ITEMS
    after: Annotated[str | None, Query(max_length=200, description="`next` of the previous page.")] = None

    @property
    def fetch_limit(self) -> int:
        return self.limit + 1


class Page(BaseModel, Generic[T]):
    """One page. ``next`` is the ``after`` of the next page; absent on the last page."""

    items: list[T]
    next: str | None = None


async def build_page(
    sorted_items: AsyncIterator[T], paging: PageRequest, key: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """The items of a page and its ``next``.

    ``sorted_items`` must be sorted by ``key`` and limited to ``paging.fetch_limit``.
    """
    items = [item async for item in sorted_items]
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
    context: object = None,
    verifier: TokenVerifier | None = None,
) -> FastAPI:
    """The application of a service.

    ``context``: the object that endpoints receive by ``Depends(service_context)``. Raises ``OpenRoute`` when a route
    declares no roles.
    """
    app = FastAPI(
        title=f"Viceversa: {service}",
        docs_url=None,  # ours is chassis.web.docs_page
        redoc_url=None,
        responses={422: _problems.RESPONSE},  # in place of the framework's own
        separate_input_output_schemas=False,
        dependencies=[Depends(check_body)],
        redirect_slashes=False,  # its Location would be made from the Host header, which the caller chooses
    )
    app.state.context = context
    _problems.install_handlers(app)
    for router in (docs_page.router, *routers):
        app.include_router(router)
    admission = Admission(_collect_rules(app), verifier or TokenVerifier(settings), settings)
    app.openapi = _describe_with_problems(app.openapi)  # type: ignore[method-assign]  # FastAPI's own way
    app.add_middleware(RequestMiddleware, service=service, settings=settings, admission=admission)
    return app


def _collect_rules(app: FastAPI) -> RouteTable:
    """The rules of all routes. Raises ``OpenRoute``."""
    routes = RouteTable()
    for route in iter_route_contexts(app.routes):
        calls = list(dependency_calls(route.dependant)) if hasattr(route, "dependant") else []
        role_sets = tuple(call.roles for call in calls if isinstance(call, RoleCheck))
        if route.path not in PUBLIC_PATHS and not role_sets:
            raise OpenRoute(f"{', '.join(sorted(route.methods or ()))} {route.path} declares no roles: allow(...)")
        is_upload = any(getattr(call, "streamed", False) for call in calls)
        is_member_command = "member" in frozenset(ROLES).intersection(*role_sets) and "GET" not in (route.methods or ())
        routes.rules.append(RouteRule(route.path or "", role_sets, is_upload, is_member_command, route.matches))
    return routes


def _describe_with_problems(describe: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The description of the API with the problems that any route may answer. It is built once."""
    return cache(lambda: _problems.document_problems(describe()))


def dependency_calls(dependant: Dependant) -> Iterator[object]:
    """All dependencies of a route, at any depth."""
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from dependency_calls(dependency)
