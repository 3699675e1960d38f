"""Each human action and all that follows from it is one trace; what comes later points back to it."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.core.settings import Settings
from chassis.observability import telemetry
from chassis.storage.aggregates import Stored
from chassis.sweeps import Sweep
from tests.chassis.harness import ChassisHarness, Counter, add, op, set_fields


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    before = list(logging.getLogger().handlers)
    exporter = InMemorySpanExporter()
    telemetry.configure("alpha", Settings(), exporter=exporter)
    logging.getLogger().handlers = before
    yield exporter
    telemetry.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in spans.get_finished_spans() if span.name == name]
    return found


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def points_to(span: ReadableSpan) -> list[int]:
    return [int(link.context.trace_id) for link in span.links]


class TestFollowUpTraces:
    async def test_unfinished_work_continues_its_trace(self, toys: ChassisHarness, spans: InMemorySpanExporter) -> None:
        one = await toys.replica()
        with telemetry.span("begin"):
            await one.counters.update(
                "c", op("1"), set_fields("c", lease=toys.clock.machine_now() - timedelta(seconds=1))
            )

        async def act(stored: Stored[Counter]) -> None:
            with telemetry.span("go on"):
                await one.counters.update("c", op("2"), set_fields("c", lease=None))

        await Sweep(one.counters, act, on="lease").once(toys.clock)
        assert trace_of(named(spans, "go on")) == trace_of(named(spans, "begin"))
        assert points_to(named(spans, "go on")) == []

    async def test_deadline_begins_a_trace_with_a_link_back(
        self, toys: ChassisHarness, spans: InMemorySpanExporter
    ) -> None:
        one = await toys.replica()
        with telemetry.span("begin"):
            await one.counters.update("c", op("1"), set_fields("c", due=toys.clock.now() - timedelta(seconds=1)))

        async def act(stored: Stored[Counter]) -> None:
            await one.counters.update("c", op("2"), set_fields("c", due=None))

        await Sweep(one.counters, act).once(toys.clock)
        due = named(spans, "due counters")
        assert trace_of(due) != trace_of(named(spans, "begin"))
        assert set(points_to(due)) == {trace_of(named(spans, "begin"))}

    async def test_action_links_to_the_previous_action(self, toys: ChassisHarness, spans: InMemorySpanExporter) -> None:
        one = await toys.replica()
        for name in ("first", "second", "third"):
            with telemetry.span(name):
                await one.counters.update("c", op(name), add("c", 1))
        assert points_to(named(spans, "first")) == []
        assert points_to(named(spans, "second")) == [trace_of(named(spans, "first"))]
        assert points_to(named(spans, "third")) == [trace_of(named(spans, "second"))]
