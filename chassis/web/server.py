"""The HTTP server of a process: uvicorn, with the limits that every client meets before the application is asked."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from chassis.core.settings import PREFIX, Settings, SettingsError
from chassis.web.connections import GuardedConnection, OpenConnections

# An idle connection is closed by its client, never by the server: a server that closes first may do so in the moment in
# which a request arrives. Clients keep one for 5 s (httpx) or 15 s, and load balancers for up to 60 s.
KEEP_ALIVE_TIMEOUT_S = 75
GRACEFUL_SHUTDOWN_S = 10  # seconds in which open requests are finished at a stop
BACKLOG = 2048  # connections that wait to be accepted


@asynccontextmanager
async def serve_http(
    app: ASGIApp, settings: Settings, host: str, port: int, variable: str = "HTTP_PORT"
) -> AsyncIterator[uvicorn.Server]:
    """Serve while the block runs.

    Raises ``SettingsError``, which names ``variable``, when the address cannot be used.
    """
    listener = _listen(host, port, variable)
    server = _Server(server_config(app, settings))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield server
    finally:
        server.should_exit = True
        await serving


def server_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """The configuration of every server of ours."""
    connection = partial(GuardedConnection, settings=settings, open_connections=OpenConnections(settings))
    return uvicorn.Config(
        app,
        http=cast("Any", connection),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # no header of the caller decides its address or the scheme
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT_S,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )


def _listen(host: str, port: int, variable: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or "there is no such address").partition(" (")[0]
        raise SettingsError(
            f"  {PREFIX}{variable}: cannot listen on {host}:{port}: {reason}. "
            "Stop what listens there, or choose another port."
        ) from error


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the service handles signals itself
