"""Admission of a request: its route, its caller, and its slot. All three are decided before the body is received.

FastAPI reads a JSON body before it solves the dependencies of a route, so a dependency alone would let strangers send
bodies. Therefore the middleware asks here first. The dependency of the route checks the caller once more.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from chassis.core.settings import Settings
from chassis.web import problems
from chassis.web.authentication import Principal, Role, TokenVerifier, Unauthenticated


@dataclass(frozen=True)
class RouteRule:
    """What is known of a route before it is called.

    ``role_sets``: the caller needs a role of each; empty: open. ``is_member_command``: a member changes
    something by it.
    """

    template: str
    role_sets: tuple[frozenset[Role], ...]
    is_upload: bool
    is_member_command: bool
    matches: Callable[[Scope], tuple[Match, Scope]]


@dataclass
class RouteTable:
    """The rules of all routes, in the order in which the framework tries them."""

    rules: list[RouteRule] = field(default_factory=list)

    def find(self, scope: Scope) -> tuple[RouteRule | None, bool]:
        """The rule of a request, and whether the method fits, too."""
        other_method = None
        for rule in self.rules:
            match, _ = rule.matches(scope)
            if match is Match.FULL:
                return rule, True
            if match is Match.PARTIAL:
                other_method = other_method or rule
        return other_method, False


@dataclass
class RequestSlots:
    """How many requests are answered at the same time, together and for each client.

    A slot is taken after the caller is known. So strangers take none, and one client cannot take those of all others.
    """

    total: int
    per_client: int
    _taken: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def take(self, client: str) -> Iterator[None]:
        """Hold a slot of ``client`` during the block. Raises ``Problem``: 429 for its share, 503 for all slots."""
        if self._taken[client] >= self.per_client:
            raise problems.too_many_requests()
        if self._taken.total() >= self.total:
            raise problems.unavailable("Too many requests at the same time; try again shortly.", "overloaded")
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]


class Admission:
    """Finds the rule of each request, and admits its caller."""

    def __init__(self, routes: RouteTable, verifier: TokenVerifier, settings: Settings) -> None:
        self._routes = routes
        self._verifier = verifier
        self._slots = RequestSlots(settings.max_requests, settings.max_requests_per_client)

    def find_rule(self, scope: Scope) -> tuple[RouteRule | None, bool]:
        return self._routes.find(scope)

    async def authenticate(self, rule: RouteRule, headers: Headers) -> Principal:
        """The caller, who has a role for the route.

        Raises ``Unauthenticated`` and ``KeysUnavailable``, and a 403 when the roles do not suffice.
        """
        scheme, token = get_authorization_scheme_param(headers.get("authorization"))
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("token_missing", "A bearer token is required.")
        principal = await self._verifier.verify(token)
        if not all(principal.roles & roles for roles in rule.role_sets):
            raise problems.forbidden("Your role does not allow this.")
        return principal

    def take_slot(self, principal: Principal) -> AbstractContextManager[None]:
        """A slot for the duration of the block, as ``RequestSlots.take``."""
        return self._slots.take(principal.subject)
