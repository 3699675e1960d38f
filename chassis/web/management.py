"""The management port of a service: metrics and health, for operators and orchestrators.

It is apart from the port of the API, and listens on loopback unless a setting says otherwise. No token is needed, since
probes have none: who may reach the port is decided by the network.
"""

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.core.settings import Settings
from chassis.observability import metrics
from chassis.observability.health import Health, HealthReport
from chassis.web import problems
from chassis.web.headers import security_headers


def create_management_app(settings: Settings, health: Health) -> ASGIApp:
    """The application of the management port."""

    async def get_liveness(_: Request) -> Response:
        return _health_response(health.check_liveness())

    async def get_readiness(_: Request) -> Response:
        return _health_response(health.check_readiness())

    app = Starlette(
        routes=[
            Route("/health/live", get_liveness),
            Route("/health/ready", get_readiness),
            Route("/metrics", _get_metrics),
        ],
        exception_handlers={HTTPException: _handle_http_exception},
    )
    app.router.redirect_slashes = False
    return _SecurityHeaders(app, settings)


async def _get_metrics(_: Request) -> Response:
    return Response(metrics.render_metrics(), media_type=metrics.CONTENT_TYPE)


def _health_response(report: HealthReport) -> JSONResponse:
    checks = {check.name: {"ok": check.ok, "detail": check.detail} for check in report.checks}
    return JSONResponse({"status": "ok" if report.ok else "failing", "checks": checks}, 200 if report.ok else 503)


async def _handle_http_exception(_: Request, error: Exception) -> Response:
    return problems.problem_response(problems.convert_error(error))


class _SecurityHeaders:
    """ASGI middleware that adds the headers of every response of ours."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._headers = security_headers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)
