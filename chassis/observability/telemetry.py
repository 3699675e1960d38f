"""Traces, following the current semantic conventions for messaging and HTTP.

One request's trace runs unbroken through outbox, Kafka and every consumer: the save stores its context with the event,
the relay's *send* span is a child of it, and each consumer's *process* span a child of that. An error is recorded by
its type and what may be told of it (see sanitise), never by its own text.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis.core.error_redaction import error_code, safe_message
from chassis.core.settings import Settings
from chassis.observability import logs
from contracts.envelope import Envelope, traced_as

__all__ = [
    "Attributes",
    "configure",
    "current_traceparent",
    "http_span",
    "is_failed",
    "link_current_span",
    "process_span",
    "record_bulk_processing",
    "record_failure",
    "safe_message",
    "send_span",
    "shutdown",
    "span",
    "use_context",
    "write_lifecycle_span",
]

Attributes: TypeAlias = Mapping[str, str | int | float | bool]

_propagator = TraceContextTextMapPropagator()
_forced: ContextVar[tuple[int, int] | None] = ContextVar("forced_ids", default=None)


class _Ids(IdGenerator):
    """Random ids, but for spans whose place in a trace follows from what they tell of."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        forced = _forced.get()
        return forced[0] if forced else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        forced = _forced.get()
        return forced[1] if forced else self._random.generate_span_id()


@dataclass
class _State:
    tracer: trace.Tracer
    provider: TracerProvider | None = None
    group: str = ""
    exports: bool = False


_state = _State(trace.NoOpTracer())


def configure(service: str, settings: Settings, *, exporter: SpanExporter | None = None) -> None:
    """Set up logs and traces of this process. ``exporter`` is for tests, and is given each span as it ends.

    Without an OTLP endpoint nothing is recorded, but every request still has its trace id, which the logs show.
    """
    logs.configure(service, settings.instance_name(service), settings.log_level)
    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": "viceversa",
            "service.instance.id": settings.instance_name(service),
        }
    )
    exports = exporter is not None or settings.otlp_endpoint is not None
    provider = (
        TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)
        if exports
        else TracerProvider(resource=resource, id_generator=_Ids(), sampler=ALWAYS_OFF, shutdown_on_exit=False)
    )
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    elif settings.otlp_endpoint is not None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        endpoint = settings.otlp_endpoint.rstrip("/").removesuffix("/v1/traces") + "/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    shutdown()
    _state.provider, _state.exports = provider, exports
    _state.tracer = provider.get_tracer("viceversa.chassis")
    _state.group = settings.consumer_group(service)


def shutdown() -> None:
    """Send what has not been sent yet."""
    if _state.provider is not None:
        _state.provider.shutdown()
    _state.provider, _state.tracer, _state.exports = None, trace.NoOpTracer(), False


def current_traceparent() -> str | None:
    """The context of the current span as W3C ``traceparent``, to be stored; None outside of any span."""
    return _traceparent(trace.get_current_span().get_span_context())


def _traceparent(context: SpanContext) -> str | None:
    if not context.is_valid:
        return None
    # As the propagator writes it, which is asked for every event of an import: its way costs ten times as much.
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _context(traceparent: str | None) -> otel.Context:
    """A stored context; what cannot be read begins a trace of its own."""
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, context=otel.Context())


def _links(traceparents: Sequence[str | None]) -> list[Link]:
    contexts = [trace.get_current_span(_context(one)).get_span_context() for one in traceparents if one]
    return [Link(context) for context in contexts if context.is_valid]


@contextmanager
def use_context(traceparent: str | None) -> Iterator[None]:
    """Make a stored context the current one."""
    token = otel.attach(_context(traceparent))
    try:
        yield
    finally:
        otel.detach(token)


def link_current_span(traceparent: str | None) -> None:
    """Let the current span point to an earlier trace; within that very trace there is nothing to point to."""
    here = trace.get_current_span()
    for one in _links([traceparent]):
        if here.is_recording() and one.context.trace_id != here.get_span_context().trace_id:
            here.add_link(one.context)


@contextmanager
def span(name: str, attributes: Attributes | None = None, *, links: Sequence[str | None] = ()) -> Iterator[Span]:
    """A span of one's own inside the current trace; ``links`` are stored contexts of other traces."""
    with _span(name, SpanKind.INTERNAL, attributes or {}, None, links) as made:
        yield made


@contextmanager
def _span(
    name: str, kind: SpanKind, attributes: Attributes, parent: otel.Context | None, links: Sequence[str | None] = ()
) -> Iterator[Span]:
    with _state.tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        links=_links(links),
        record_exception=False,  # the SDK would write down the error's own text
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except Exception as error:
            record_failure(made, error)
            raise


def _messaging(operation: str, topic: str, envelope: Envelope) -> dict[str, str | int | float | bool]:
    attributes: dict[str, str | int | float | bool] = {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.message.id": envelope.id,
        "messaging.message.conversation_id": envelope.correlationid,
        "cloudevents.event_id": envelope.id,
        "cloudevents.event_type": envelope.type,
        "cloudevents.event_source": envelope.source,
    }
    if named := traced_as(envelope.type):
        attributes[named] = envelope.correlationid
    return attributes


@contextmanager
def send_span(topic: str, envelope: Envelope) -> Iterator[str | None]:
    """The relay sends one event, within the trace stored in its envelope; gives the traceparent for the record."""
    if (
        not _state.exports
    ):  # a bulk import sends hundreds of thousands; a span that nobody sees would cost a third of it
        yield envelope.traceparent
        return
    attributes = _messaging("send", topic, envelope)
    with _span(f"send {topic}", SpanKind.PRODUCER, attributes, _context(envelope.traceparent)) as made:
        yield _traceparent(made.get_span_context())


@contextmanager
def process_span(topic: str, envelope: Envelope, partition: int, offset: int) -> Iterator[Span]:
    """A consumer handles one event, as a child of the span that sent it."""
    if envelope.traceparent and not _state.exports:  # as above; what is logged and saved still belongs to the trace
        with use_context(envelope.traceparent):
            yield trace.INVALID_SPAN
        return
    attributes = _messaging("process", topic, envelope) | {
        "messaging.destination.partition.id": str(partition),
        "messaging.kafka.offset": offset,
    }
    if _state.group:
        attributes["messaging.consumer.group.name"] = _state.group
    with _span(f"process {topic}", SpanKind.CONSUMER, attributes, _context(envelope.traceparent)) as made:
        yield made


def record_bulk_processing(topic: str, envelope: Envelope, partition: int, offset: int) -> None:
    """An event was handled in bulk with others, and nothing else follows from it: a span where anybody sees it."""
    if _state.exports:
        with process_span(topic, envelope, partition, offset):
            pass


@contextmanager
def http_span(method: str, scheme: str, traceparent: str | None) -> Iterator[Span]:
    """A request is answered; name, route and status are set when they are known (see http)."""
    attributes = {"http.request.method": method, "url.scheme": scheme}
    with _span(method, SpanKind.SERVER, attributes, _context(traceparent)) as made:
        yield made


def is_failed(span: Span) -> bool:
    """Whether the span is marked as failed already."""
    return isinstance(span, ReadableSpan) and span.status.status_code is StatusCode.ERROR


def record_failure(span: Span, error: BaseException) -> None:
    """Mark a span as failed; a second error of the same span is not added to the first."""
    if is_failed(span):
        return
    attributes = {"exception.type": type(error).__name__, "exception.message": safe_message(error)}
    if (code := error_code(error)) is not None:
        attributes["viceversa.error.code"] = code
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, safe_message(error)))
    span.add_event("exception", attributes)


def write_lifecycle_span(
    lifecycle_id: str,
    name: str,
    start: datetime,
    end: datetime,
    attributes: Attributes | None = None,
    *,
    links: Sequence[str | None] = (),
    is_root: bool = False,
) -> None:
    """Write one closed phase of a life that crosses many traces; a trace of its own gathers the phases.

    Trace and span ids follow from ``life`` and ``name``, so a phase that is written twice is the same span. ``whole``:
    this is the life from its start to its end, the parent of all phases; it is written last.
    """
    trace_id = _derived(16, lifecycle_id)
    root = _derived(8, lifecycle_id, "whole")
    parent = otel.Context()
    if not is_root:
        above = SpanContext(trace_id, root, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        parent = trace.set_span_in_context(NonRecordingSpan(above), parent)
    token = _forced.set((trace_id, root if is_root else _derived(8, lifecycle_id, name, start.isoformat())))
    try:
        made = _state.tracer.start_span(
            name, context=parent, attributes=attributes or {}, links=_links(links), start_time=_nanoseconds(start)
        )
    finally:
        _forced.reset(token)
    made.end(end_time=_nanoseconds(end))


def _derived(length: int, *parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:length], "big") or 1


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000
