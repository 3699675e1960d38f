"""A small OTLP/HTTP receiver: keeps every span that the services export, for tests of traces and of privacy."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.patience import patience


@dataclass(frozen=True)
class Span:
    """One finished span. ``kind`` is OTLP's number: 2 server, 4 producer, 5 consumer; times in nanoseconds."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str]
    links: tuple[str, ...]
    start: int
    end: int


@dataclass
class Collector:
    """The received spans. ``raw`` holds every body, decompressed."""

    url: str
    spans: list[Span] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, finder: "Finder", seconds: float = 10.0) -> list[Span]:
        """Wait until ``finder`` picks some spans, and return them. Raises ``TimeoutError``."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: bool(finder(self.spans)), patience(seconds)):
                raise TimeoutError(f"no such span among {sorted({f'{s.service}: {s.name}' for s in self.spans})}")
            return finder(self.spans)

    def edges(self) -> set[tuple[str, str]]:
        """Pairs of services: the first has a span that is the direct parent of a span of the second."""
        with self.arrived:
            by_id = {(span.trace_id, span.span_id): span for span in self.spans}
            return {
                (parent.service, span.service)
                for span in self.spans
                if (parent := by_id.get((span.trace_id, span.parent_id))) and parent.service != span.service
            }


class Finder:
    """A filter of spans: ``Finder(service="matcher", name="process x")``; absent means any."""

    def __init__(self, **wanted: str | int) -> None:
        self._wanted = wanted

    def __call__(self, spans: list[Span]) -> list[Span]:
        return [span for span in spans if all(getattr(span, name) == value for name, value in self._wanted.items())]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A receiver on a free loopback port for as long as the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    server.collector = collector  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        collector: Collector = self.server.collector  # type: ignore[attr-defined]
        request = ExportTraceServiceRequest.FromString(body)
        with collector.arrived:
            collector.raw.append(body)
            collector.spans.extend(_spans(request))
            collector.arrived.notify_all()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the output belongs to the test."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = next(
            (a.value.string_value for a in resource.resource.attributes if a.key == "service.name"), "unknown"
        )
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=service,
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes={a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes},
                    links=tuple(link.trace_id.hex() for link in span.links),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                )
