"""Traces, by OpenTelemetry's semantic conventions for messaging and HTTP.

The trace of a request runs unbroken through outbox, Kafka and every consumer. The save stores its trace context with
the event. The relay's *send* span is a child of that context. Each consumer's *process* span is a child of the *send*
span. An error is recorded by its type and the safe part of its message (see ``error_redaction``), never by its full
message.
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
_fixed_ids: ContextVar[tuple[int, int] | None] = ContextVar("fixed_ids", default=None)


class _SpanIdGenerator(IdGenerator):
    """Random ids, but derived ids for the spans of ``write_lifecycle_span``."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        fixed = _fixed_ids.get()
        return fixed[0] if fixed else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        fixed = _fixed_ids.get()
        return fixed[1] if fixed else self._random.generate_span_id()


@dataclass
class _TelemetryState:
    tracer: trace.Tracer
    provider: TracerProvider | None = None
    consumer_group: str = ""
    exports: bool = False


_state = _TelemetryState(trace.NoOpTracer())


def configure(service: str, settings: Settings, *, exporter: SpanExporter | None = None) -> None:
    """Set up logs and traces of this process. ``exporter`` is for tests and receives each span as it ends.

    Without an OTLP endpoint no span is recorded, but every request still has a trace id, which the logs show.
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
        TracerProvider(resource=resource, id_generator=_SpanIdGenerator(), shutdown_on_exit=False)
        if exports
        else TracerProvider(
            resource=resource, id_generator=_SpanIdGenerator(), sampler=ALWAYS_OFF, shutdown_on_exit=False
        )
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
    _state.consumer_group = settings.consumer_group(service)


def shutdown() -> None:
    """Send the remaining spans and stop tracing."""
    if _state.provider is not None:
        _state.provider.shutdown()
    _state.provider, _state.tracer, _state.exports = None, trace.NoOpTracer(), False


def current_traceparent() -> str | None:
    """The context of the current span as a W3C ``traceparent``, to be stored; None outside of any span."""
    return _format_traceparent(trace.get_current_span().get_span_context())


def _format_traceparent(context: SpanContext) -> str | None:
    if not context.is_valid:
        return None
    # The same text as the propagator's, which costs ten times as much: an import calls this for every event.
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _extract_context(traceparent: str | None) -> otel.Context:
    """The context of a stored traceparent. An unreadable one begins a new trace."""
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, context=otel.Context())


def _build_links(traceparents: Sequence[str | None]) -> list[Link]:
    contexts = [
        trace.get_current_span(_extract_context(stored)).get_span_context() for stored in traceparents if stored
    ]
    return [Link(context) for context in contexts if context.is_valid]


@contextmanager
def use_context(traceparent: str | None) -> Iterator[None]:
    """Make a stored context the current one."""
    token = otel.attach(_extract_context(traceparent))
    try:
        yield
    finally:
        otel.detach(token)


def link_current_span(traceparent: str | None) -> None:
    """Link the current span to an earlier trace; does nothing when that is the span's own trace."""
    current = trace.get_current_span()
    for link in _build_links([traceparent]):
        if current.is_recording() and link.context.trace_id != current.get_span_context().trace_id:
            current.add_link(link.context)


@contextmanager
def span(name: str, attributes: Attributes | None = None, *, links: Sequence[str | None] = ()) -> Iterator[Span]:
    """An internal span in the current trace. ``links`` are stored contexts of other traces."""
    with _span(name, SpanKind.INTERNAL, attributes or {}, None, links) as opened:
        yield opened


@contextmanager
def _span(
    name: str, kind: SpanKind, attributes: Attributes, parent: otel.Context | None, links: Sequence[str | None] = ()
) -> Iterator[Span]:
    with _state.tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        links=_build_links(links),
        record_exception=False,  # the SDK would record the error's own message
        set_status_on_exception=False,
    ) as opened:
        try:
            yield opened
        except Exception as error:
            record_failure(opened, error)
            raise


def _build_messaging_attributes(operation: str, topic: str, envelope: Envelope) -> dict[str, str | int | float | bool]:
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
    if attribute := traced_as(envelope.type):
        attributes[attribute] = envelope.correlationid
    return attributes


@contextmanager
def send_span(topic: str, envelope: Envelope) -> Iterator[str | None]:
    """The span in which the relay sends one event, within the trace of its envelope.

    Yields the traceparent for the record.
    """
    if not _state.exports:  # a bulk import sends hundreds of thousands; unseen spans would take a third of its time
        yield envelope.traceparent
        return
    attributes = _build_messaging_attributes("send", topic, envelope)
    with _span(f"send {topic}", SpanKind.PRODUCER, attributes, _extract_context(envelope.traceparent)) as opened:
        yield _format_traceparent(opened.get_span_context())


@contextmanager
def process_span(topic: str, envelope: Envelope, partition: int, offset: int) -> Iterator[Span]:
    """The span in which a consumer handles one event, as a child of the span that sent it."""
    if envelope.traceparent and not _state.exports:  # as above; logs and saves still belong to the trace
        with use_context(envelope.traceparent):
            yield trace.INVALID_SPAN
        return
    attributes = _build_messaging_attributes("process", topic, envelope) | {
        "messaging.destination.partition.id": str(partition),
        "messaging.kafka.offset": offset,
    }
    if _state.consumer_group:
        attributes["messaging.consumer.group.name"] = _state.consumer_group
    with _span(f"process {topic}", SpanKind.CONSUMER, attributes, _extract_context(envelope.traceparent)) as opened:
        yield opened


def record_bulk_processing(topic: str, envelope: Envelope, partition: int, offset: int) -> None:
    """Write the *process* span of an event that was only handled in bulk with others; none without an exporter."""
    if _state.exports:
        with process_span(topic, envelope, partition, offset):
            pass


@contextmanager
def http_span(method: str, scheme: str, traceparent: str | None) -> Iterator[Span]:
    """The span of one HTTP request. Name, route and status are set once they are known (see ``web.middleware``)."""
    attributes = {"http.request.method": method, "url.scheme": scheme}
    with _span(method, SpanKind.SERVER, attributes, _extract_context(traceparent)) as opened:
        yield opened


def is_failed(span: Span) -> bool:
    """Whether the span is already marked as failed."""
    return isinstance(span, ReadableSpan) and span.status.status_code is StatusCode.ERROR


def record_failure(span: Span, error: BaseException) -> None:
    """Mark a span as failed. Does nothing when the span has failed already, so that the first error stays."""
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
    """Write one finished phase of a lifecycle that crosses many traces, for example of a pairing.

    A trace of its own gathers the phases. Trace and span ids are derived from ``lifecycle_id``, ``name`` and ``start``,
    so a phase that is written twice is the same span. ``is_root``: the span covers the whole lifecycle and is the
    parent of all phases; it is written last.
    """
    trace_id = _derive_id(16, lifecycle_id)
    root = _derive_id(8, lifecycle_id, "whole")
    parent = otel.Context()
    if not is_root:
        root_context = SpanContext(trace_id, root, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        parent = trace.set_span_in_context(NonRecordingSpan(root_context), parent)
    token = _fixed_ids.set((trace_id, root if is_root else _derive_id(8, lifecycle_id, name, start.isoformat())))
    try:
        phase = _state.tracer.start_span(
            name, context=parent, attributes=attributes or {}, links=_build_links(links), start_time=_nanoseconds(start)
        )
    finally:
        _fixed_ids.reset(token)
    phase.end(end_time=_nanoseconds(end))


def _derive_id(length: int, *parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:length], "big") or 1


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000) * 1000
