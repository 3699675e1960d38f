"""The middleware around every request: span and metrics, limits, headers, and the response to unhandled errors."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from opentelemetry.trace import Span, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.core.settings import Settings
from chassis.observability import metrics
from chassis.observability.telemetry import http_span, is_failed, record_failure
from chassis.web import problems
from chassis.web.text_border import find_unsafe_request

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNLIMITED_PATHS = ("/health/", "/metrics")  # an overloaded service still reports its health
DOCS_PATH = "/docs"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass
class RouteTable:
    """The path template of each endpoint, and the endpoints with the larger size limit.

    The middleware knows the endpoint of a request only after routing.
    """

    templates: dict[Callable[..., object], str] = field(default_factory=dict)
    uploads: set[Callable[..., object]] = field(default_factory=set)

    def register(self, app: FastAPI) -> None:
        for route in iter_route_contexts(app.routes):
            if route.endpoint is not None and route.path is not None:
                self.templates.setdefault(route.endpoint, route.path)


@dataclass
class _RequestInProgress:
    """One request in progress. ``status`` is set once the response has started."""

    scope: Scope
    receive: Receive
    send: Send
    routes: RouteTable
    settings: Settings
    received_bytes: int = 0
    status: int | None = None

    @property
    def route(self) -> str | None:
        return self.routes.templates.get(self.scope.get("endpoint"))  # type: ignore[arg-type]

    def body_limit(self) -> int:
        is_upload = self.scope.get("endpoint") in self.routes.uploads
        return self.settings.max_upload_bytes if is_upload else self.settings.max_body_bytes

    async def receive_within_limit(self) -> Message:
        """Receive the next part of the body.

        Raises a 413 as soon as the announced or received size is above the route's limit.
        """
        if self.received_bytes == 0:
            announced = Headers(scope=self.scope).get("content-length", "")
            if announced.isdecimal() and int(announced) > self.body_limit():
                raise HTTPException(413)
        message = await self.receive()
        if message["type"] == "http.request":
            self.received_bytes += len(message.get("body", b""))
            if self.received_bytes > self.body_limit():
                raise HTTPException(413)
        return message

    async def send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                if not (name == "Content-Security-Policy" and self.scope["path"] == DOCS_PATH):
                    headers.setdefault(name, value)
            if self.status == 413:
                headers["Connection"] = "close"  # the rest of the body is not read
        await self.send(message)


class RequestMiddleware:
    """ASGI middleware, outside of all others."""

    def __init__(self, app: ASGIApp, service: str, settings: Settings, routes: RouteTable) -> None:
        self._app = app
        self._service = service
        self._settings = settings
        self._routes = routes
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        request = _RequestInProgress(scope, receive, send, self._routes, self._settings)
        if scope["path"].startswith(UNLIMITED_PATHS):
            await self._respond(request, None)
            return
        started = time.perf_counter()
        with http_span(method, scope["scheme"], Headers(scope=scope).get("traceparent")) as span:
            if self._in_flight >= self._settings.max_requests:
                problem = problems.unavailable("Too many requests at the same time; try again shortly.", "overloaded")
                await problems.problem_response(problem)(scope, receive, request.send_with_headers)
            else:
                self._in_flight += 1
                try:
                    await self._respond(request, span)
                finally:
                    self._in_flight -= 1
            self._describe(span, method, request)
        metrics.observe_request(
            self._service, method, request.route or "none", request.status or 499, time.perf_counter() - started
        )

    async def _respond(self, request: _RequestInProgress, span: Span | None) -> None:
        try:
            if (unsafe := find_unsafe_request(request.scope)) is not None:
                await problems.problem_response(unsafe)(request.scope, request.receive, request.send_with_headers)
                return
            await self._app(request.scope, request.receive_within_limit, request.send_with_headers)
        except ClientDisconnect:
            return  # the client is gone
        except Exception as error:
            log.exception("a request failed", extra={"route": request.route or "none"})
            if span is not None:
                record_failure(span, error)
            if request.status is not None:
                raise  # the response has started, so it can only be broken off
            await problems.problem_response(problems.convert_error(error))(
                request.scope, request.receive, request.send_with_headers
            )

    def _describe(self, span: Span, method: str, request: _RequestInProgress) -> None:
        if request.route is not None:
            span.update_name(f"{method} {request.route}")
            span.set_attribute("http.route", request.route)
        if request.status is not None:
            span.set_attribute("http.response.status_code", request.status)
            if request.status >= 500 and not is_failed(span):
                span.set_attribute("error.type", str(request.status))
                span.set_status(StatusCode.ERROR)
