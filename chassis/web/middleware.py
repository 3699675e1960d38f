"""What stands around every request: span and figures, limits, headers, and the answer to what nobody handled."""

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

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNLIMITED = ("/health/", "/metrics")  # an overloaded service still says how it is
DOCS = "/docs"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass
class RouteTable:
    """The template and the size limit of each endpoint, for what is known of it only after routing."""

    templates: dict[Callable[..., object], str] = field(default_factory=dict)
    uploads: set[Callable[..., object]] = field(default_factory=set)

    def register(self, app: FastAPI) -> None:
        for route in iter_route_contexts(app.routes):
            if route.endpoint is not None and route.path is not None:
                self.templates.setdefault(route.endpoint, route.path)


@dataclass
class _Request:
    """One request on its way; ``status`` once the answer has begun."""

    scope: Scope
    receive: Receive
    send: Send
    routes: RouteTable
    settings: Settings
    taken: int = 0
    status: int | None = None

    @property
    def route(self) -> str | None:
        return self.routes.templates.get(self.scope.get("endpoint"))  # type: ignore[arg-type]

    def limit(self) -> int:
        upload = self.scope.get("endpoint") in self.routes.uploads
        return self.settings.max_upload_bytes if upload else self.settings.max_body_bytes

    async def limited_receive(self) -> Message:
        """Raises a 413 as soon as more has come, or was announced, than the route takes."""
        if self.taken == 0:
            announced = Headers(scope=self.scope).get("content-length", "")
            if announced.isdecimal() and int(announced) > self.limit():
                raise HTTPException(413)
        message = await self.receive()
        if message["type"] == "http.request":
            self.taken += len(message.get("body", b""))
            if self.taken > self.limit():
                raise HTTPException(413)
        return message

    async def marked_send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                if not (name == "Content-Security-Policy" and self.scope["path"] == DOCS):
                    headers.setdefault(name, value)
            if self.status == 413:
                headers["Connection"] = "close"  # the rest of the body is not read
        await self.send(message)


class RequestMiddleware:
    """ASGI middleware, the outermost of all."""

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
        request = _Request(scope, receive, send, self._routes, self._settings)
        if scope["path"].startswith(UNLIMITED):
            await self._answer(request, None)
            return
        started = time.perf_counter()
        with http_span(method, scope["scheme"], Headers(scope=scope).get("traceparent")) as span:
            if self._in_flight >= self._settings.max_requests:
                problem = problems.unavailable("Too many requests at the same time; try again shortly.", "overloaded")
                await problems.problem_response(problem)(scope, receive, request.marked_send)
            else:
                self._in_flight += 1
                try:
                    await self._answer(request, span)
                finally:
                    self._in_flight -= 1
            self._tell(span, method, request)
        metrics.observe_request(
            self._service, method, request.route or "none", request.status or 499, time.perf_counter() - started
        )

    async def _answer(self, request: _Request, span: Span | None) -> None:
        try:
            await self._app(request.scope, request.limited_receive, request.marked_send)
        except ClientDisconnect:
            return  # nobody is there to answer to
        except Exception as error:
            log.exception("a request failed", extra={"route": request.route or "none"})
            if span is not None:
                record_failure(span, error)
            if request.status is not None:
                raise  # the answer has begun; all that is left is to break it off
            await problems.problem_response(problems.problem_of(error))(
                request.scope, request.receive, request.marked_send
            )

    def _tell(self, span: Span, method: str, request: _Request) -> None:
        if request.route is not None:
            span.update_name(f"{method} {request.route}")
            span.set_attribute("http.route", request.route)
        if request.status is not None:
            span.set_attribute("http.response.status_code", request.status)
            if request.status >= 500 and not is_failed(span):
                span.set_attribute("error.type", str(request.status))
                span.set_status(StatusCode.ERROR)
