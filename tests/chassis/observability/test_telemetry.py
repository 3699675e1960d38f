"""Traces run unbroken, and spans, logs and metrics hold no personal data."""

import io
import json
import logging
import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import BaseModel, ConfigDict
from pymongo.errors import DuplicateKeyError, ServerSelectionTimeoutError

from chassis.core.error_redaction import safe_message
from chassis.core.settings import Settings
from chassis.observability import logs, metrics, telemetry
from chassis.storage.aggregates import TooBusy
from chassis.web import dev_tokens
from chassis.web.http import allow, create_app
from contracts.envelope import Envelope

SECRET = "maria.silva@example.com"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    age_in_role: int


class CodedError(Exception):
    code = "full"


def envelope(traceparent: str | None = None) -> Envelope:
    return Envelope(
        id="e-1",
        type="example.thing.changed.v1",
        source="/viceversa/alpha",
        subject="s-1",
        time=datetime(2026, 3, 1, tzinfo=UTC),
        sequence=1,
        correlationid="life-1",
        traceparent=traceparent,
    )


def validation_error() -> Exception:
    try:
        StrictModel.model_validate({"age_in_role": SECRET, SECRET: 1})
    except ValueError as error:
        return error
    raise AssertionError


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    before = list(logging.getLogger().handlers)
    exporter = InMemorySpanExporter()
    telemetry.configure("alpha", Settings(), exporter=exporter)
    logging.getLogger().handlers = before
    yield exporter
    telemetry.shutdown()


@pytest.fixture
def log_output() -> Iterator[io.StringIO]:
    """The log output of the process."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("alpha", "alpha-0", "INFO", stream)
    yield stream
    root.handlers = before
    root.setLevel(level)


def get_only_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


class TestTraceContext:
    def test_one_trace_runs_from_save_through_topic_to_consumer(self, spans: InMemorySpanExporter) -> None:
        with telemetry.span("a request"):
            stored = telemetry.current_traceparent()
        with telemetry.send_span("mentoring.things.v1", envelope(stored)) as sent:
            pass
        with telemetry.process_span("mentoring.things.v1", envelope(sent), 3, 17):
            pass
        request, send, process = spans.get_finished_spans()
        assert trace_of(request) == trace_of(send) == trace_of(process)
        assert parent_of(send) == id_of(request)
        assert parent_of(process) == id_of(send)

    @pytest.mark.usefixtures("spans")
    def test_stored_context_equals_the_w3c_propagators(self) -> None:
        carrier: dict[str, str] = {}
        with telemetry.use_context(TRACE), telemetry.span("a request"):
            TraceContextTextMapPropagator().inject(carrier)
            assert telemetry.current_traceparent() == carrier["traceparent"]
        assert telemetry.current_traceparent() is None

    def test_event_keeps_its_trace_without_an_exporter(self) -> None:
        before = list(logging.getLogger().handlers)
        telemetry.configure("alpha", Settings())
        logging.getLogger().handlers = before
        try:
            with telemetry.process_span("mentoring.things.v1", envelope(TRACE), 3, 17):
                assert telemetry.current_traceparent() == TRACE
            with telemetry.process_span("mentoring.things.v1", envelope(), 3, 17):
                assert telemetry.current_traceparent() is not None
        finally:
            telemetry.shutdown()

    def test_spans_follow_the_messaging_conventions(self, spans: InMemorySpanExporter) -> None:
        with telemetry.process_span("mentoring.things.v1", envelope(TRACE), 3, 17):
            pass
        span = get_only_span(spans)
        assert (span.name, span.kind) == ("process mentoring.things.v1", SpanKind.CONSUMER)
        assert dict(span.attributes or {}) == {
            "messaging.system": "kafka",
            "messaging.destination.name": "mentoring.things.v1",
            "messaging.destination.partition.id": "3",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.consumer.group.name": "mentoring.alpha",
            "messaging.kafka.offset": 17,
            "messaging.message.id": "e-1",
            "messaging.message.conversation_id": "life-1",
            "cloudevents.event_id": "e-1",
            "cloudevents.event_type": "example.thing.changed.v1",
            "cloudevents.event_source": "/viceversa/alpha",
        }
        assert span.resource.attributes["service.name"] == "alpha"

    def test_event_without_a_trace_begins_one(self, spans: InMemorySpanExporter) -> None:
        with telemetry.span("something else"), telemetry.send_span("mentoring.things.v1", envelope()) as sent:
            assert sent is not None
        send = spans.get_finished_spans()[0]
        assert (send.name, send.kind, send.parent) == ("send mentoring.things.v1", SpanKind.PRODUCER, None)

    @pytest.mark.parametrize("broken", ["", "nonsense", "00-0-0-01"])
    def test_unreadable_context_is_ignored(self, spans: InMemorySpanExporter, broken: str) -> None:
        with telemetry.use_context(broken), telemetry.span("work"):
            pass
        assert get_only_span(spans).parent is None

    def test_stored_context_is_current_only_within_its_block(self) -> None:
        with telemetry.use_context(TRACE):
            assert telemetry.current_traceparent() == TRACE
        assert telemetry.current_traceparent() is None

    def test_trace_id_exists_without_an_exporter(self) -> None:
        before = list(logging.getLogger().handlers)
        telemetry.configure("alpha", Settings())
        logging.getLogger().handlers = before
        with telemetry.span("work"):
            assert telemetry.current_traceparent()
        telemetry.shutdown()

    def test_phases_of_a_lifecycle_share_one_trace(self, spans: InMemorySpanExporter) -> None:
        start = datetime(2026, 1, 5, 9, tzinfo=UTC)
        month = timedelta(days=30)
        telemetry.write_lifecycle_span("thing-1", "begun", start, start + month, {"n": 1}, links=[TRACE, None])
        telemetry.write_lifecycle_span("thing-1", "begun", start, start + month)
        telemetry.write_lifecycle_span("thing-1", "grown", start + month, start + 2 * month)
        telemetry.write_lifecycle_span("thing-1", "life", start, start + 2 * month, is_root=True)
        telemetry.write_lifecycle_span("thing-2", "begun", start, start + month)
        first, again, second, whole, other = spans.get_finished_spans()
        assert trace_of(first) == trace_of(second) == trace_of(whole) != trace_of(other)
        assert id_of(first) == id_of(again) != id_of(second)
        assert parent_of(first) == id_of(whole)
        assert parent_of(whole) is None
        assert first.start_time == int(start.timestamp()) * 10**9
        assert (first.end_time or 0) - (first.start_time or 0) == 30 * 86400 * 10**9
        (link,) = first.links
        assert f"{link.context.trace_id:032x}" in TRACE


class TestErrorRedaction:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ValueError(SECRET), "ValueError"),
            (KeyError(SECRET), "KeyError"),
            (CodedError(SECRET), "CodedError: full"),
            (DuplicateKeyError(SECRET, 11000, {"keyValue": {"email": SECRET}}), "DuplicateKeyError"),
            (FileNotFoundError(2, "No such file or directory", SECRET), "FileNotFoundError: No such file or directory"),
            (smtplib.SMTPRecipientsRefused({SECRET: (550, b"unknown")}), "SMTPRecipientsRefused"),
            (ExceptionGroup(SECRET, [ValueError(SECRET)]), "ExceptionGroup: ValueError"),
            (ConnectionError("no broker answers"), "ConnectionError: no broker answers"),
            (ServerSelectionTimeoutError("host:27017: refused"), "ServerSelectionTimeoutError: host:27017: refused"),
            (TooBusy("too many"), "TooBusy: too many"),
        ],
    )
    def test_error_shows_its_type_and_only_safe_text(self, error: Exception, expected: str) -> None:
        assert safe_message(error).startswith(expected)
        assert SECRET not in safe_message(error)

    def test_invalid_input_is_shown_by_location_and_type(self) -> None:
        assert safe_message(validation_error()) == "ValidationError: age_in_role: int_parsing; *: extra_forbidden"

    def test_no_input_reaches_a_span(self, spans: InMemorySpanExporter) -> None:
        with pytest.raises(ValueError, match="age_in_role"), telemetry.process_span("t", envelope(), 0, 0) as span:  # noqa: PT012
            error = validation_error()
            telemetry.record_failure(span, error)
            raise error
        failed = get_only_span(spans)
        assert SECRET not in failed.to_json()
        assert failed.status.status_code is StatusCode.ERROR
        assert (failed.attributes or {})["error.type"] == "ValidationError"
        assert [event.name for event in failed.events] == ["exception"]

    def test_no_input_reaches_the_log(self, log_output: io.StringIO) -> None:
        log = logging.getLogger("services.alpha")
        try:
            raise RuntimeError(SECRET) from validation_error()
        except RuntimeError as error:
            log.exception("it failed: %s", error, extra={"topic": "t", "email": SECRET})  # noqa: TRY401
        text = log_output.getvalue()
        assert SECRET not in text
        entry = json.loads(text)
        assert entry["message"] == "it failed: RuntimeError"
        assert entry["topic"] == "t"
        assert "email" not in entry
        assert entry["error"]["type"] == "RuntimeError"
        assert entry["error"]["causes"] == ["ValidationError: age_in_role: int_parsing; *: extra_forbidden"]
        assert entry["error"]["stack"][-1].startswith("tests/chassis/observability/test_telemetry.py:")


class TestJsonLogs:
    def test_line_is_json_with_the_trace(self, log_output: io.StringIO) -> None:
        with telemetry.use_context(TRACE):
            logging.getLogger("chassis.x").info("moved %d of %d", 1, 2, extra={"count": 2})
        entry = json.loads(log_output.getvalue())
        assert entry["message"] == "moved 1 of 2"
        assert (entry["level"], entry["service"], entry["instance"], entry["count"]) == ("INFO", "alpha", "alpha-0", 2)
        assert entry["trace_id"] in TRACE
        assert datetime.fromisoformat(entry["time"]).tzinfo is not None

    def test_service_may_allow_more_fields(self, log_output: io.StringIO) -> None:
        logs.allow_fields("thing_id")
        logging.getLogger("services.alpha").info("moved", extra={"thing_id": "t-1"})
        assert json.loads(log_output.getvalue())["thing_id"] == "t-1"

    def test_repeated_message_of_a_library_is_written_once_a_minute(self) -> None:
        """The next one tells how many were held back. Our own messages all pass."""
        seconds = 0.0
        repeats = logs.RepeatFilter(lambda: seconds)

        def passes(name: str, text: str, *arguments: object) -> bool:
            record = logging.makeLogRecord({"name": name, "levelno": logging.ERROR, "msg": text, "args": arguments})
            return repeats.filter(record) and record.__dict__.get("count", 0) in (0, 98)

        assert [passes("aiokafka.conn", "Unable to connect to %s", node) for node in range(99)].count(True) == 1
        assert passes("aiokafka.conn", "another message")
        assert all(passes("chassis.service", "waiting") for _ in range(5))
        seconds = logs.REPEAT_INTERVAL_S
        assert passes("aiokafka.conn", "Unable to connect to %s", 7)

    def test_memory_for_messages_is_bounded(self) -> None:
        repeats = logs.RepeatFilter()
        for number in range(2 * logs.MAX_REMEMBERED_MESSAGES):
            assert repeats.filter(logging.makeLogRecord({"name": "library", "msg": f"message {number}"}))
        assert len(repeats._messages) == logs.MAX_REMEMBERED_MESSAGES

    def test_lost_task_is_logged_by_its_first_line(self, log_output: io.StringIO) -> None:
        logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task %s>", SECRET)
        assert SECRET not in log_output.getvalue()
        assert json.loads(log_output.getvalue())["message"] == "Task exception was never retrieved"

    def test_other_libraries_log_from_warning_on(self, log_output: io.StringIO) -> None:
        logging.getLogger("some.library").info("chatter")
        assert log_output.getvalue() == ""


class TestRequestSpans:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        (tmp_path / "jwks.json").write_text(json.dumps(dev_tokens.public_jwks(tmp_path)))
        return tmp_path

    @pytest.fixture
    async def client(self, data: Path) -> Any:
        router = APIRouter(prefix="/things")

        @router.get("/{id}", dependencies=[allow("admin")])
        async def thing(id: str) -> dict[str, str | None]:
            if id == "bad":
                raise validation_error()
            return {"traceparent": telemetry.current_traceparent()}

        members = APIRouter(prefix="/members/{member}")

        @members.put("/avoid", dependencies=[allow("member", "admin")])
        @members.put("/contact", dependencies=[allow("member", "admin")])
        async def change(member: str) -> None:
            """Do nothing."""

        settings = Settings(jwks_url=(data / "jwks.json").as_uri())
        app = create_app("alpha", settings, routers=[router, members])
        headers = {"Authorization": f"Bearer {dev_tokens.issue_token(data, None, ['admin'])}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test", headers=headers
        ) as client:
            yield client

    async def test_span_is_named_after_the_route(self, spans: InMemorySpanExporter, client: httpx.AsyncClient) -> None:
        response = await client.get(f"/things/{SECRET}", params={"q": SECRET}, headers={"traceparent": TRACE})
        span = get_only_span(spans)
        assert (span.name, span.kind) == ("GET /things/{id}", SpanKind.SERVER)
        assert dict(span.attributes or {}) == {
            "http.request.method": "GET",
            "http.route": "/things/{id}",
            "http.response.status_code": 200,
            "url.scheme": "http",
        }
        assert f"{trace_of(span):032x}-{parent_of(span):016x}" in TRACE
        assert f"{id_of(span):016x}" in response.json()["traceparent"], (
            "the endpoint runs inside of the request's trace"
        )
        assert SECRET not in span.to_json()

    async def test_no_span_tells_which_own_data_changed(
        self, spans: InMemorySpanExporter, client: httpx.AsyncClient
    ) -> None:
        """Otherwise a trace would say that it was a private wish, and by its events whose."""
        for part in ("avoid", "contact"):
            assert (await client.put(f"/members/me/{part}")).status_code == 200
        first, second = spans.get_finished_spans()
        assert first.name == second.name == "PUT /members/{member}/{part}"
        assert dict(first.attributes or {}) == dict(second.attributes or {})

    async def test_unhandled_error_shows_its_input_nowhere(
        self, spans: InMemorySpanExporter, client: httpx.AsyncClient, log_output: io.StringIO
    ) -> None:
        response = await client.get("/things/bad")
        span = get_only_span(spans)
        assert response.status_code == 500
        assert response.json()["trace"] == json.loads(log_output.getvalue())["trace_id"]
        assert (span.attributes or {})["error.type"] == "ValidationError"
        for text in (response.text, log_output.getvalue(), span.to_json()):
            assert SECRET not in text

    async def test_unknown_path_has_no_route(self, spans: InMemorySpanExporter, client: httpx.AsyncClient) -> None:
        await client.get(f"/{SECRET}")
        assert get_only_span(spans).name == "GET"
        assert SECRET not in metrics.render_metrics().decode()


class TestMetrics:
    def test_events_are_counted_by_service_topic_and_type(self) -> None:
        metrics.count_handled("beta", "things.v1", "example.changed.v1", [datetime.now(UTC) - timedelta(seconds=2)])
        metrics.count_skipped("beta", "things.v1")
        metrics.count_retry("beta")
        metrics.count_dead_letter("beta", "things.v1", "bad_data")
        metrics.set_lag("beta", "things.v1", 3, 17)
        metrics.set_outbox_age("things", 4.5)
        text = metrics.render_metrics().decode()
        for line in (
            'viceversa_events_handled_total{service="beta",topic="things.v1",type="example.changed.v1"} 1.0',
            'viceversa_event_age_seconds_bucket{le="2.5",service="beta",topic="things.v1"} 1.0',
            'viceversa_events_skipped_total{service="beta",topic="things.v1"} 1.0',
            'viceversa_events_retried_total{service="beta"} 1.0',
            'viceversa_events_dead_lettered_total{code="bad_data",service="beta",topic="things.v1"} 1.0',
            'viceversa_consumer_lag{partition="3",service="beta",topic="things.v1"} 17.0',
            'viceversa_outbox_oldest_seconds{collection="things"} 4.5',
        ):
            assert line in text
        metrics.clear_lag("beta", "things.v1", 3)
        metrics.clear_lag("beta", "things.v1", 4)
        assert 'viceversa_consumer_lag{partition="3",service="beta"' not in metrics.render_metrics().decode()

    def test_business_gauge_rejects_a_person_as_label(self) -> None:
        figure = metrics.BusinessGauge("things_for_test", "Things by state.", ("state",))
        figure.set(3, state="formed")
        assert 'viceversa_things_for_test{state="formed"} 3.0' in metrics.render_metrics().decode()
        figure.clear()
        assert "viceversa_things_for_test{" not in metrics.render_metrics().decode()
        with pytest.raises(ValueError, match="member_id"):
            metrics.BusinessGauge("never", "Never.", ("member_id",))
