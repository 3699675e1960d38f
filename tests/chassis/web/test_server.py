"""The HTTP server on real sockets: what it closes and refuses, and that every client receives its answer."""

import asyncio

import httpx
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from chassis.web.server import serve_http
from deploy.local.ports import any_free
from tests.patience import patience

HOST = "127.0.0.1"
LONGEST_CLIENT_IDLE_S = 60  # of common load balancers; httpx keeps an idle connection for 5 s


async def answer_ok(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await PlainTextResponse("ok")(scope, receive, send)


class TestKeepAlive:
    async def test_idle_connection_is_not_closed_before_its_client(self) -> None:
        port = any_free()
        async with serve_http(answer_ok, HOST, port) as server, httpx.AsyncClient(trust_env=False) as client:
            await until_started(server)
            assert (await client.get(f"http://{HOST}:{port}/")).text == "ok"
            (connection,) = server.server_state.connections
            closes_at = connection.timeout_keep_alive_task.when()  # type: ignore[union-attr]
            assert closes_at - asyncio.get_running_loop().time() > LONGEST_CLIENT_IDLE_S


async def until_started(server: uvicorn.Server) -> None:
    async with asyncio.timeout(patience(10)):
        while not server.started:  # noqa: ASYNC110 - uvicorn sets no event
            await asyncio.sleep(0.01)
