"""One HTTP connection, and all that are open: deadlines and limits of what the application never sees.

A connection waits for its client in four ways, and each has an end:

* for headers: ``header_timeout_s``, and limits of their size;
* for the rest of a body that nobody reads: ``LINGER_S``, in which it is dropped;
* for the client to read the answer: ``send_timeout_s`` and the time of its size at ``min_bytes_per_s``;
* for the next request: the idle time of the server.

The application waits for bodies that it reads itself (see ``chassis.web.middleware``).

A connection is never closed while its client still sends: the reset could delete an answer that the client has not read
yet. It is closed for writing, what comes is dropped, and the connection ends when the client closes, or after
``LINGER_S``.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from starlette.exceptions import HTTPException
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from chassis.core.settings import Settings
from chassis.observability import metrics
from chassis.web import problems
from chassis.web.headers import security_headers

CONNECTION_EXTENSION: Final = "viceversa.connection"
MAX_HEADERS = 100
HEADER_OVERHEAD_BYTES = 4  # the colon, the space and the end of the line
LINGER_S = 5.0  # in which the rest of a body, or of refused headers, is dropped before the connection is closed


class OpenConnections:
    """The open connections of a server, those without an accepted request first, then by the time of their last one.

    Beyond the limit, the connection that has waited longest is closed. A caller with a token needs milliseconds, so
    strangers who only hold connections are closed before it.
    """

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_connections
        self._strangers: dict[GuardedConnection, None] = {}
        self._callers: dict[GuardedConnection, None] = {}

    def add(self, connection: "GuardedConnection") -> bool:
        """Add a connection, and make room for it. False when all others answer an accepted request."""
        if len(self._strangers) + len(self._callers) >= self._limit:
            longest = next(iter(self._strangers), None) or next((c for c in self._callers if c.is_idle()), None)
            if longest is None:
                return False
            self.remove(longest)
            longest.close_at_once("connections")
        self._strangers[connection] = None
        return True

    def accept(self, connection: "GuardedConnection") -> None:
        """The token of a request on this connection was accepted."""
        if connection in self._strangers or connection in self._callers:
            self.remove(connection)
            self._callers[connection] = None

    def remove(self, connection: "GuardedConnection") -> None:
        self._strangers.pop(connection, None)
        self._callers.pop(connection, None)

    def __len__(self) -> int:
        return len(self._strangers) + len(self._callers)


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's connection with the deadlines and limits above."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        open_connections: OpenConnections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        self._open = open_connections
        self._raw: asyncio.Transport | None = None  # of the socket; ``transport`` is the application's view of it
        self._header_bytes = 0
        self._is_reading_headers = True
        self._is_lingering = False
        self._has_begun_headers = False
        self._refusal: HTTPStatus | None = None
        self._header_deadline = _Deadline(self.loop)
        self._close_deadline = _Deadline(self.loop)
        self._write_deadline = _Deadline(self.loop)

    # -- the socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        super().connection_made(_GentleTransport(transport, self))
        if self._open.add(self):
            self._start_header_deadline()
        else:
            self.close_at_once("connections")

    def connection_lost(self, exc: Exception | None) -> None:
        for deadline in (self._header_deadline, self._close_deadline, self._write_deadline):
            deadline.cancel()
        self._open.remove(self)
        self._is_lingering = True  # nothing more is written
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refusing():
            return  # it is dropped
        self._unset_keepalive_if_required()
        if self._is_reading_headers:
            self._start_header_deadline()
            room = self._settings.max_header_bytes - self._header_bytes
            self._header_bytes += len(data)
            self._feed(data[:room])
            data = data[room:]
            if data and self._is_reading_headers:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._feed(data)
        if self._has_begun_headers:
            self._start_header_deadline()

    def _feed(self, data: bytes) -> None:
        if not data or self._is_refusing():
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # the request is answered as any other, and ``on_headers_complete`` ends the connection after it
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST)

    # -- the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun_headers = self._is_reading_headers = True
        cast("Scope", self.scope)["extensions"] = {CONNECTION_EXTENSION: {"accept": self.accept}}

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._settings.max_url_bytes:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in self.headers)
        if len(self.headers) > MAX_HEADERS or size > self._settings.max_header_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._is_refusing():
            return
        super().on_headers_complete()
        self._has_begun_headers = self._is_reading_headers = False
        self._header_bytes = 0
        self._header_deadline.cancel()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self._is_refusing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_refusing():
            return
        super().on_message_complete()
        self.cycle.more_body = False
        self._is_reading_headers = True  # of the next request
        if self.cycle.response_complete:  # the rest of a body that nobody read
            self._close_deadline.cancel()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.is_idle() or self._is_lingering:
            return
        if self._refusal is not None:
            self._send_refusal(self._refusal)
        elif self.cycle.more_body:
            self._unset_keepalive_if_required()
            self._close_deadline.set(LINGER_S, self.close_gently)

    # -- deadlines and ends

    def accept(self) -> None:
        """The token of the request was accepted: this connection is closed after those of strangers."""
        self._open.accept(self)

    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        cycle = self._last_cycle()
        return cycle is None or cycle.response_complete

    def _last_cycle(self) -> RequestResponseCycle | None:
        """The last request that was read; uvicorn's annotation leaves out that there may be none yet."""
        return cast("RequestResponseCycle | None", self.cycle)

    def is_closing(self) -> bool:
        """Whether nothing more is written."""
        return self._is_lingering

    def close_at_once(self, reason: str) -> None:
        """Close without waiting for the client; ``reason`` is the label of the metric."""
        metrics.count_refused_connection(reason)
        self._is_lingering = True
        if self._raw is not None:
            self._raw.abort()

    def close_gently(self) -> None:
        """Close when the answer has left, and the client sends no more or has had its time."""
        if self._is_lingering or self._raw is None or self._raw.is_closing():
            return
        cycle = self._last_cycle()
        if cycle is not None and cycle.more_body:
            self._linger()
            return
        self._is_lingering = True
        self._abort_after(self._send_limit_s())
        self._raw.close()

    def _linger(self) -> None:
        """Send no more, and drop what comes, until the client closes or has had its time."""
        if self._is_lingering or self._raw is None or self._raw.is_closing():
            return
        self._is_lingering = True
        self._abort_after(self._send_limit_s() if self._raw.get_write_buffer_size() else LINGER_S)
        self._raw.write_eof()
        self._raw.resume_reading()

    def _abort_after(self, seconds: float) -> None:
        self._close_deadline.set(seconds, cast("asyncio.Transport", self._raw).abort)

    def _start_header_deadline(self) -> None:
        self._header_deadline.set_once(self._settings.header_timeout_s, self._end_waiting_for_headers)

    def _end_waiting_for_headers(self) -> None:
        self._header_deadline.cancel()
        if self._header_bytes or self._has_begun_headers:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.close_at_once("no_request")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline.set(self._send_limit_s(), partial(self.close_at_once, "answer_not_read"))

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_deadline.cancel()

    def _send_limit_s(self) -> float:
        """Seconds in which the client must read what has been written."""
        size = self._raw.get_write_buffer_size() if self._raw is not None else 0
        return self._settings.send_timeout_s + size / self._settings.min_bytes_per_s

    def _is_refusing(self) -> bool:
        """Whether all that still comes is dropped."""
        return self._is_lingering or self._refusal is not None

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with a problem and close, after the answers to the requests before this one."""
        if self._is_refusing():
            return
        self._refusal = status
        metrics.count_refused_connection(status.name.lower())
        if self._is_reading_headers:
            if self.is_idle():
                self._send_refusal(status)
            return
        was_started = self.cycle.response_started or bool(self.pipeline)
        self.cycle.disconnected = True  # the body of the request cannot be read, so the application stops
        self.cycle.message_event.set()
        if was_started:
            self._linger()
        else:
            self._send_refusal(status)

    def _send_refusal(self, status: HTTPStatus) -> None:
        if self._is_lingering or self._raw is None or self._raw.is_closing():
            return
        response = problems.problem_response(problems.convert_error(HTTPException(status)))
        fixed = [(name.encode(), value.encode()) for name, value in security_headers(self._settings).items()]
        headers = [*self.server_state.default_headers, *response.raw_headers, *fixed, (b"connection", b"close")]
        lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), *(b"%s: %s" % pair for pair in headers)]
        self._raw.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self._linger()


class _GentleTransport(asyncio.Transport):
    """The transport as uvicorn sees it: it closes gently, and takes no more once it is closing."""

    def __init__(self, raw: asyncio.Transport, connection: GuardedConnection) -> None:
        super().__init__()
        self._raw = raw
        self._connection = connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._connection.is_closing() or self._raw.is_closing()

    def close(self) -> None:
        self._connection.close_gently()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            self._raw.write(data)

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()


class _Deadline:
    """A time at which something is called, unless the deadline is cancelled before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, call: Callable[[], None]) -> None:
        """Set the deadline anew."""
        self.cancel()
        self._timer = self._loop.call_later(seconds, call)

    def set_once(self, seconds: float, call: Callable[[], None]) -> None:
        """Set the deadline, unless it is set already."""
        if self._timer is None:
            self.set(seconds, call)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
