"""The HTTP server on real sockets: what it refuses and closes, and that every client receives its answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import uvicorn
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from chassis.core.settings import Settings
from chassis.web import connections, dev_tokens
from chassis.web.http import Command, RequestBody, allow, command, create_app
from chassis.web.server import serve_http
from deploy.local.ports import any_free
from tests.patience import patience

HOST = "127.0.0.1"
LONGEST_CLIENT_IDLE_S = 60  # of common load balancers; httpx keeps an idle connection for 5 s
LIMIT_S = patience(20)
MEBIBYTE = 1024 * 1024

router = APIRouter()


class Note(RequestBody):
    text: str = ""


@router.get("/ok", dependencies=[allow("admin")])
async def get_ok() -> str:
    return "ok"


@router.get("/large", dependencies=[allow("admin")])
async def get_large() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(MEBIBYTE)

    return StreamingResponse(parts())


@router.post("/notes")
async def post_note(note: Note, command: Annotated[Command, command("admin")]) -> int:
    return len(note.text)


@router.post("/uploads")
async def post_upload(request: Request, command: Annotated[Command, command("admin", streamed=True)]) -> int:
    return sum([len(part) async for part in request.stream()])


@dataclass
class RunningServer:
    """A server with the router above. ``admin``: the Authorization line of a caller with every right here."""

    port: int
    server: uvicorn.Server
    admin: bytes
    member: bytes

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["RawClient"]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            yield RawClient(reader, writer)
        finally:
            writer.close()

    def open_connections(self) -> int:
        return len(self.server.server_state.connections)


@dataclass
class RawClient:
    """A client that sends and reads exactly what a test says."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one answer."""
        async with asyncio.timeout(LIMIT_S):
            status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, body

    async def read_to_end(self) -> bytes:
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.read()


def request(method: bytes, path: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([b"%s %s HTTP/1.1" % (method, path), b"Host: here", *lines, b"", b""])


def body_of(size: int) -> bytes:
    return b"Content-Type: application/json\r\nContent-Length: %d" % size


@asynccontextmanager
async def serving(data: Path, **more: Any) -> AsyncIterator[RunningServer]:
    (data / "jwks.json").write_text(json.dumps(dev_tokens.public_jwks(data)))
    settings = Settings(jwks_url=(data / "jwks.json").as_uri(), **more)
    app = create_app("alpha", settings, routers=[router])
    port = any_free()
    async with serve_http(app, settings, HOST, port) as server:
        await until(lambda: server.started)
        yield RunningServer(port, server, bearer(data, "admin"), bearer(data, "member"))


def bearer(data: Path, role: str, subject: str = "m-1") -> bytes:
    return f"Authorization: Bearer {dev_tokens.issue_token(data, subject, [role])}".encode()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not there():  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.01)


def check_problem(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    assert answer[0] == status
    assert json.loads(answer[2])["code"] == code
    assert answer[1]["content-type"] == "application/problem+json"
    assert answer[1]["x-content-type-options"] == "nosniff"
    assert answer[1]["cache-control"] == "no-store"
    assert answer[1]["content-security-policy"].startswith("default-src 'none'")


class TestKeepAlive:
    async def test_idle_connection_is_not_closed_before_its_client(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"GET", b"/ok", running.admin))
            assert (await client.read_answer())[0] == 200
            (connection,) = running.server.server_state.connections
            closes_at = connection.timeout_keep_alive_task.when()  # type: ignore[union-attr]
            assert closes_at - asyncio.get_running_loop().time() > LONGEST_CLIENT_IDLE_S

    async def test_requests_in_a_row_are_answered_in_order(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            good = request(b"GET", b"/ok", running.admin)
            await client.send(good + request(b"GET", b"/nowhere") + good + request(b"GET", b"/ok"))
            assert [(await client.read_answer())[0] for _ in range(4)] == [200, 404, 200, 401]
            await client.send(good)
            assert (await client.read_answer())[0] == 200

    async def test_upgrade_is_answered_as_any_request(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"GET", b"/ok", running.admin, b"Connection: upgrade", b"Upgrade: websocket"))
            status, headers, _ = await client.read_answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await client.read_to_end() == b""


class TestHeaderLimits:
    async def test_slow_headers_get_a_408(self, tmp_path: Path) -> None:
        async with serving(tmp_path, header_timeout_s=0.3) as running, running.connect() as client:
            await client.send(b"GET /ok HTTP/1.1\r\nHost: h")
            check_problem(await client.read_answer(), 408, "too_slow")
            assert await client.read_to_end() == b""

    async def test_slow_headers_of_a_second_request_get_a_408(self, tmp_path: Path) -> None:
        async with serving(tmp_path, header_timeout_s=0.3) as running, running.connect() as client:
            await client.send(request(b"GET", b"/ok", running.admin) + b"GET /ok")
            assert (await client.read_answer())[0] == 200
            check_problem(await client.read_answer(), 408, "too_slow")

    @pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n\r\n"])
    async def test_connection_without_a_request_is_closed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
    ) -> None:
        monkeypatch.setattr(connections, "LINGER_S", 0.2)
        async with serving(tmp_path, header_timeout_s=0.3) as running, running.connect() as client:
            await client.send(sent)
            await client.read_to_end()
            await until(lambda: not running.open_connections())

    async def test_endless_header_gets_a_431(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(b"GET /ok HTTP/1.1\r\nX-Long: ")
            for _ in range(60):
                await client.send(b"x" * MEBIBYTE)
            check_problem(await client.read_answer(), 431, "headers_too_large")
            assert await client.read_to_end() == b""

    @pytest.mark.parametrize(
        ("lines", "status", "code"),
        [
            ([b"X-Large: " + b"x" * 33_000], 431, "headers_too_large"),
            ([b"X-%d: x" % number for number in range(101)], 431, "headers_too_large"),
            ([b"X-%d: " % number + b"x" * 1000 for number in range(40)], 431, "headers_too_large"),
            ([b"no colon"], 400, "unreadable"),
            ([b"Content-Length: many"], 400, "unreadable"),
        ],
    )
    async def test_limit_of_headers(self, tmp_path: Path, lines: list[bytes], status: int, code: str) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"GET", b"/ok", *lines))
            check_problem(await client.read_answer(), status, code)

    @pytest.mark.parametrize("path", [b"/ok?q=" + b"x" * 9000, b"/" + b"x" * 9000])
    async def test_long_url_gets_a_414(self, tmp_path: Path, path: bytes) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"GET", path, running.admin))
            check_problem(await client.read_answer(), 414, "too_long")

    async def test_token_of_the_largest_size_is_read(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"GET", b"/ok", b"Authorization: Bearer " + b"x" * 15 * 1024))
            check_problem(await client.read_answer(), 401, "token_invalid")

    async def test_refusal_follows_the_answers_before_it(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            good = request(b"GET", b"/ok", running.admin)
            await client.send(good + good + b"not http\r\n\r\n")
            assert [(await client.read_answer())[0] for _ in range(3)] == [200, 200, 400]


class TestBodyBeforeToken:
    """The answer comes although the body was not sent: nobody waited for it."""

    @pytest.mark.parametrize("path", [b"/notes", b"/uploads"])
    @pytest.mark.parametrize("kind", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
    async def test_strangers_and_wrong_roles_send_no_body(self, tmp_path: Path, path: bytes, kind: bytes) -> None:
        async with serving(tmp_path) as running:
            for lines, status in (([], 401), ([b"Authorization: Bearer x"], 401), ([running.member], 403)):
                async with running.connect() as client:
                    await client.send(request(b"POST", path, b"Content-Type: application/json", kind, *lines))
                    assert (await client.read_answer())[0] == status

    async def test_client_that_asks_first_is_not_told_to_continue(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"POST", b"/notes", body_of(10), b"Expect: 100-continue"))
            status, headers, _ = await client.read_answer()
            assert (status, headers["connection"]) == (401, "close")
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"POST", b"/notes", body_of(12), b"Expect: 100-continue", running.admin))
            assert (await client.read_answer())[0] == 100
            await client.send(b'{"text":"a"}')
            assert (await client.read_answer())[0] == 200


class TestBodyDeadlines:
    @pytest.mark.parametrize("path", [b"/notes", b"/uploads"])
    async def test_slow_body_gets_a_408(self, tmp_path: Path, path: bytes) -> None:
        async with serving(tmp_path, body_timeout_s=0.3) as running, running.connect() as client:
            await client.send(request(b"POST", path, body_of(1000), running.admin) + b'{"text"')
            check_problem(await client.read_answer(), 408, "too_slow")
            assert await client.read_to_end() == b""

    async def test_large_body_has_the_time_of_its_size(self, tmp_path: Path) -> None:
        limits = {"body_timeout_s": patience(0.3), "min_bytes_per_s": 1000}
        async with serving(tmp_path, **limits) as running, running.connect() as client:
            await client.send(request(b"POST", b"/uploads", body_of(100 * 1000), running.admin))
            for _ in range(100):
                await client.send(bytes(1000))
                await asyncio.sleep(0.01)
            status, _, body = await client.read_answer()
            assert (status, body) == (200, b"100000")

    async def test_body_that_cannot_be_parsed_ends_the_request(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"POST", b"/uploads", b"Transfer-Encoding: chunked", running.admin))
            await client.send(b"3\r\nabc\r\nno size\r\n")
            check_problem(await client.read_answer(), 400, "unreadable")
            assert await client.read_to_end() == b""


class TestUnreadBodies:
    """An answer that comes before the body was read is received in full, and the connection is not reset."""

    @pytest.mark.parametrize(
        ("path", "size", "status"),
        [(b"/notes", 300_000, 413), (b"/notes", 5 * MEBIBYTE, 413), (b"/uploads", 65 * MEBIBYTE, 413)],
    )
    async def test_answer_to_a_large_body(self, tmp_path: Path, path: bytes, size: int, status: int) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"POST", path, body_of(size), running.admin))
            await self.check_answer_after_the_body(client, size, status)

    @pytest.mark.parametrize("token", [b"X-None: 1", b"Authorization: Bearer x"])
    async def test_answer_to_a_stranger(self, tmp_path: Path, token: bytes) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"POST", b"/notes", body_of(8 * MEBIBYTE), token))
            await self.check_answer_after_the_body(client, 8 * MEBIBYTE, 401)

    @pytest.mark.parametrize("path", [b"/nowhere", b"/ok"])
    async def test_answer_without_a_route(self, tmp_path: Path, path: bytes) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"POST", path, body_of(8 * MEBIBYTE)))
            await self.check_answer_after_the_body(client, 8 * MEBIBYTE, 405 if path == b"/ok" else 404)

    async def check_answer_after_the_body(self, client: RawClient, size: int, status: int) -> None:
        """The body is sent although the answer is there already, as most HTTP clients do."""
        async with asyncio.timeout(LIMIT_S):
            await client.reader.readexactly(len(b"HTTP/1.1 "))
            for _ in range(0, size, MEBIBYTE):
                await client.send(bytes(min(size, MEBIBYTE)))
        rest = await client.read_to_end()
        head, _, body = rest.partition(b"\r\n\r\n")
        assert rest.startswith(b"%d " % status)
        assert b"connection: close" in head.lower()
        assert json.loads(body)["status"] == status

    async def test_small_rest_is_dropped_and_the_connection_goes_on(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"POST", b"/notes", body_of(5000)))
            assert (await client.read_answer())[0] == 401
            await client.send(bytes(5000) + request(b"GET", b"/ok", running.admin))
            assert (await client.read_answer())[0] == 200
            (connection,) = running.server.server_state.connections
            await until(lambda: connection.timeout_keep_alive_task is not None)  # type: ignore[union-attr]

    @pytest.mark.parametrize("size", [5000, 5 * MEBIBYTE])
    async def test_rest_that_never_comes_is_not_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        monkeypatch.setattr(connections, "LINGER_S", 0.2)
        async with serving(tmp_path) as running, running.connect() as client:
            await client.send(request(b"POST", b"/notes", body_of(size)))
            assert (await client.read_answer())[0] == 401
            await until(lambda: not running.open_connections())


class TestUnreadAnswers:
    async def test_client_that_does_not_read_loses_its_slot(self, tmp_path: Path) -> None:
        limits = {"send_timeout_s": 0.3, "min_bytes_per_s": 1024 * 1024, "max_requests": 1}
        async with serving(tmp_path, **limits) as running, running.connect() as client, running.connect() as other:
            await client.send(request(b"GET", b"/large", running.admin))
            await client.reader.readexactly(10)
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            assert (await self.ask(other, running))[0] == 503, "the slot is taken"
            async with asyncio.timeout(LIMIT_S):
                while (await self.ask(other, running))[0] != 200:  # noqa: ASYNC110 - the server sets no event
                    await asyncio.sleep(0.05)
            assert running.open_connections() == 1

    async def ask(self, client: RawClient, running: RunningServer) -> tuple[int, dict[str, str], bytes]:
        await client.send(request(b"GET", b"/ok", running.admin))
        return await client.read_answer()


class TestOpenConnections:
    async def test_stranger_who_waited_longest_makes_room(self, tmp_path: Path) -> None:
        async with serving(tmp_path, max_connections=10, max_requests=5) as running:
            async with running.connect() as caller:
                await caller.send(request(b"GET", b"/ok", running.admin))
                assert (await caller.read_answer())[0] == 200
                strangers = [await asyncio.open_connection(HOST, running.port) for _ in range(20)]
                await until(lambda: running.open_connections() == 10)
                for reader, _ in strangers[:11]:
                    assert await reader.read() == b""
                await caller.send(request(b"GET", b"/ok", running.admin))
                assert (await caller.read_answer())[0] == 200, "a caller is closed after all strangers"
            for _, writer in strangers:
                writer.close()

    async def test_idle_callers_make_room_when_no_stranger_is_left(self, tmp_path: Path) -> None:
        async with serving(tmp_path, max_connections=10, max_requests=5) as running:
            clients = []
            for _ in range(12):
                reader, writer = await asyncio.open_connection(HOST, running.port)
                clients.append(RawClient(reader, writer))
                await clients[-1].send(request(b"GET", b"/ok", running.admin))
                assert (await clients[-1].read_answer())[0] == 200
            assert running.open_connections() <= 10
            for client in clients:
                client.writer.close()


class TestSlowClients:
    """Three hundred clients that are slow on purpose. All others are answered as if there were none."""

    ATTACKERS = 300
    ROUNDS = 3
    MAX_ROUNDS = 15  # what slows a round down from outside passes, and an attack does not
    REQUESTS = 100
    PAUSE_S = 1.0  # between two bytes of an attacker
    FLOOR_S = 0.05  # below this, the noise of a shared machine is larger than the time of an answer

    async def test_others_do_not_wait_for_slow_clients(self, tmp_path: Path) -> None:
        hog = bearer(tmp_path, "admin", "m-hog")
        starts = [
            b"GET /ok HTTP/1.1\r\nX-Slow: ",
            request(b"POST", b"/notes", body_of(200_000)),
            request(b"POST", b"/notes", body_of(200_000), hog),
            request(b"POST", b"/uploads", b"Transfer-Encoding: chunked", hog),
            request(b"GET", b"/large", hog),
        ]
        async with serving(tmp_path) as running:
            idle_s = max([await self.measure_p99(running) for _ in range(self.ROUNDS)])
            attack = [
                asyncio.create_task(self.be_slow(running.port, starts[number % len(starts)], number / self.ATTACKERS))
                for number in range(self.ATTACKERS)
            ]
            await until(lambda: running.open_connections() >= self.ATTACKERS / 2)
            limit_s = max(3 * idle_s, self.FLOOR_S)
            attacked_s: list[float] = []
            while len(attacked_s) < self.MAX_ROUNDS and min(attacked_s, default=limit_s) >= limit_s:
                attacked_s.append(await self.measure_p99(running))
            for task in attack:
                task.cancel()
            await asyncio.gather(*attack, return_exceptions=True)
        assert min(attacked_s) < limit_s

    async def measure_p99(self, running: RunningServer) -> float:
        """The time in seconds within which 99 % of the answers to another caller come. Each is a success."""
        loop, times = asyncio.get_running_loop(), []
        async with running.connect() as client:
            for _ in range(self.REQUESTS):
                started = loop.time()
                await client.send(request(b"POST", b"/notes", body_of(12), running.admin) + b'{"text":"a"}')
                assert (await client.read_answer())[0] == 200
                times.append(loop.time() - started)
                await asyncio.sleep(0.005)
        return sorted(times)[int(0.99 * len(times))]

    async def be_slow(self, port: int, start: bytes, phase: float) -> None:
        """Send a beginning and then a byte now and then, and read nothing. Come again when the connection ends."""
        await asyncio.sleep(phase * self.PAUSE_S)
        while True:
            _, writer = await asyncio.open_connection(HOST, port, limit=1)
            try:
                writer.write(start)
                while not writer.transport.is_closing():
                    writer.write(b"1")
                    await asyncio.sleep(self.PAUSE_S)
            finally:
                writer.transport.abort()
