"""The middleware around every request: span and metrics, admission, limits, headers, and unhandled errors."""

import asyncio
import logging
import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus

from opentelemetry.trace import Span, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.core.settings import Settings
from chassis.observability import metrics
from chassis.observability.telemetry import http_span, is_failed, record_failure
from chassis.web import problems
from chassis.web.admission import Admission, RouteRule
from chassis.web.authentication import Unauthenticated
from chassis.web.connections import CONNECTION_EXTENSION
from chassis.web.headers import security_headers
from chassis.web.signing_keys import KeysUnavailable
from chassis.web.text_border import find_unsafe_request

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OWN_DATA = re.compile(r"/members/\{member\}/\w+")
OWN_DATA_ROUTE = "/members/{member}/{part}"
CLIENT_LEFT = 499  # the status in the metrics when the client leaves before the answer
MAX_DROPPED_BYTES = 64 * 1024  # of a body that nobody reads; with more of it, the connection is closed


@dataclass
class _RequestInProgress:
    """One request in progress. ``status`` is set once the response has started."""

    scope: Scope
    receive: Receive
    send: Send
    settings: Settings
    rule: RouteRule | None
    received_bytes: int = 0
    waited_s: float = 0.0
    is_body_complete: bool = False
    status: int | None = None
    headers: Headers = field(init=False)

    def __post_init__(self) -> None:
        self.headers = Headers(scope=self.scope)

    @property
    def route(self) -> str | None:
        return self.rule.template if self.rule is not None else None

    @property
    def traced_route(self) -> str | None:
        """The route as traces and logs name it: one for all changes by which members change their own data.

        Otherwise the trace of a member's act would say that it was a private wish, and by its events whose.
        """
        is_own_data = self.rule is not None and self.scope["method"] == "PUT" and OWN_DATA.fullmatch(self.rule.template)
        return OWN_DATA_ROUTE if is_own_data else self.route

    def body_limit(self) -> int:
        is_upload = self.rule is not None and self.rule.is_upload
        return self.settings.max_upload_bytes if is_upload else self.settings.max_body_bytes

    async def receive_within_limits(self) -> Message:
        """Receive the next part of the body.

        Raises a 413 as soon as the announced or received size is above the route's limit, and a 408 when the client
        sends too slowly. Only the time in which the application waits for the client counts.
        """
        if self.is_body_complete:
            return await self.receive()  # the next message comes when the client leaves
        if self.received_bytes == 0:
            announced = self.headers.get("content-length", "")
            if announced.isdecimal() and int(announced) > self.body_limit():
                raise HTTPException(413)
        message = await self._receive_in_time()
        if message["type"] == "http.request":
            self.received_bytes += len(message.get("body", b""))
            self.is_body_complete = not message.get("more_body", False)
            if self.received_bytes > self.body_limit():
                raise HTTPException(413)
        return message

    async def _receive_in_time(self) -> Message:
        allowed_s = self.settings.body_timeout_s + self.received_bytes / self.settings.min_bytes_per_s
        started = time.monotonic()
        try:
            async with asyncio.timeout(allowed_s - self.waited_s):
                return await self.receive()
        except TimeoutError:
            raise HTTPException(408) from None
        finally:
            self.waited_s += time.monotonic() - started

    async def send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in security_headers(self.settings).items():
                headers.setdefault(name, value)
            if self._must_close():
                headers["Connection"] = "close"
        await self.send(message)

    def _must_close(self) -> bool:
        """Whether the connection ends with this response: a body is on its way that nobody will read.

        A small rest is read and dropped by the server, and the connection goes on.
        """
        if self.is_body_complete:
            return False
        if self.status == HTTPStatus.REQUEST_TIMEOUT or "transfer-encoding" in self.headers or "expect" in self.headers:
            return True
        announced = self.headers.get("content-length", "0")
        return not announced.isdecimal() or int(announced) - self.received_bytes > MAX_DROPPED_BYTES


class RequestMiddleware:
    """ASGI middleware, outside of all others."""

    def __init__(self, app: ASGIApp, service: str, settings: Settings, admission: Admission) -> None:
        self._app = app
        self._service = service
        self._settings = settings
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rule, is_allowed = self._admission.find_rule(scope)
        request = _RequestInProgress(scope, receive, send, self._settings, rule)
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        started = time.perf_counter()
        with http_span(method, scope["scheme"], request.headers.get("traceparent")) as span:
            await self._respond(request, span, is_allowed=is_allowed)
            self._describe(span, method, request)
        status, seconds = request.status or CLIENT_LEFT, time.perf_counter() - started
        if rule is not None and rule.is_member_command and is_allowed:
            metrics.observe_member_command(self._service, status, seconds)
        else:
            metrics.observe_request(self._service, method, request.route or "none", status, seconds)

    async def _respond(self, request: _RequestInProgress, span: Span | None, *, is_allowed: bool) -> None:
        try:
            if (unsafe := find_unsafe_request(request.scope)) is not None:
                await self._refuse(request, unsafe)
            elif request.rule is not None and request.rule.role_sets and is_allowed:
                await self._respond_to_caller(request, request.rule)
            else:
                await self._app(request.scope, request.receive_within_limits, request.send_with_headers)
        except ClientDisconnect:
            return  # the client is gone
        except (Unauthenticated, KeysUnavailable, problems.Problem) as refusal:
            await self._refuse(request, refusal)
        except Exception as error:
            log.exception("a request failed", extra={"route": request.traced_route or "none"})
            if span is not None:
                record_failure(span, error)
            if request.status is not None:
                raise  # the response has started, so it can only be broken off
            await self._refuse(request, error)

    async def _respond_to_caller(self, request: _RequestInProgress, rule: RouteRule) -> None:
        """Let the application respond, once the caller is known and has a slot. The body is not received before."""
        principal = await self._admission.authenticate(rule, request.headers)
        if connection := request.scope.get("extensions", {}).get(CONNECTION_EXTENSION):
            connection["accept"]()
        with self._admission.take_slot(principal):
            request.scope.setdefault("state", {})["principal"] = principal
            await self._app(request.scope, request.receive_within_limits, request.send_with_headers)

    async def _refuse(self, request: _RequestInProgress, error: Exception) -> None:
        response = problems.problem_response(problems.convert_error(error))
        await response(request.scope, request.receive, request.send_with_headers)

    def _describe(self, span: Span, method: str, request: _RequestInProgress) -> None:
        if request.traced_route is not None:
            span.update_name(f"{method} {request.traced_route}")
            span.set_attribute("http.route", request.traced_route)
        if request.status is not None:
            span.set_attribute("http.response.status_code", request.status)
            if request.status >= 500 and not is_failed(span):
                span.set_attribute("error.type", str(request.status))
                span.set_status(StatusCode.ERROR)
