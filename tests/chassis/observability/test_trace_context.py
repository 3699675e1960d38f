"""A human action and its consequences are one trace. Later follow-ups have a link back to it."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.core.commands import Op
from chassis.core.settings import Settings
from chassis.observability import telemetry
from chassis.storage.aggregates import Stored
from chassis.sweeps import Sweep
from tests.chassis.harness import ChassisHarness, Counter, add, set_fields


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    before = list(logging.getLogger().handlers)
    exporter = InMemorySpanExporter()
    telemetry.configure("alpha", Settings(), exporter=exporter)
    logging.getLogger().handlers = before
    yield exporter
    telemetry.shutdown()


def find_span(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (match,) = [span for span in spans.get_finished_spans() if span.name == name]
    return match


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def linked_traces(span: ReadableSpan) -> list[int]:
    return [int(link.context.trace_id) for link in span.links]


class TestFollowUpTraces:
    async def test_unfinished_work_continues_its_trace(
        self, harness: ChassisHarness, spans: InMemorySpanExporter
    ) -> None:
        replica = await harness.start_replica()
        with telemetry.span("begin"):
            await replica.counters.update(
                "c", Op("1"), set_fields("c", lease=harness.clock.machine_now() - timedelta(seconds=1))
            )

        async def act(stored: Stored[Counter]) -> None:
            with telemetry.span("go on"):
                await replica.counters.update("c", Op("2"), set_fields("c", lease=None))

        await Sweep(replica.counters, act, on="lease").once(harness.clock)
        assert trace_of(find_span(spans, "go on")) == trace_of(find_span(spans, "begin"))
        assert linked_traces(find_span(spans, "go on")) == []

    async def test_deadline_begins_a_trace_with_a_link_back(
        self, harness: ChassisHarness, spans: InMemorySpanExporter
    ) -> None:
        replica = await harness.start_replica()
        with telemetry.span("begin"):
            await replica.counters.update("c", Op("1"), set_fields("c", due=harness.clock.now() - timedelta(seconds=1)))

        async def act(stored: Stored[Counter]) -> None:
            await replica.counters.update("c", Op("2"), set_fields("c", due=None))

        await Sweep(replica.counters, act).once(harness.clock)
        due = find_span(spans, "due counters")
        assert trace_of(due) != trace_of(find_span(spans, "begin"))
        assert set(linked_traces(due)) == {trace_of(find_span(spans, "begin"))}

    async def test_action_links_to_the_previous_action(
        self, harness: ChassisHarness, spans: InMemorySpanExporter
    ) -> None:
        replica = await harness.start_replica()
        for name in ("first", "second", "third"):
            with telemetry.span(name):
                await replica.counters.update("c", Op(name), add("c", 1))
        assert linked_traces(find_span(spans, "first")) == []
        assert linked_traces(find_span(spans, "second")) == [trace_of(find_span(spans, "first"))]
        assert linked_traces(find_span(spans, "third")) == [trace_of(find_span(spans, "second"))]
