"""The runtime of a service: how it supervises its tasks, and how it shuts down."""

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from chassis import service
from chassis.observability.health import Health
from chassis.service import _cancel_all, _supervise, _wait_for
from tests.patience import patience


class TestTaskSupervision:
    async def test_failed_task_is_restarted(self) -> None:
        runs: list[int] = []

        async def work() -> None:
            runs.append(len(runs))
            if len(runs) == 1:
                raise ConnectionError("the store is unreachable")

        await _supervise("work", work)
        assert runs == [0, 1]

    async def test_task_that_fails_during_shutdown_is_not_restarted(self) -> None:
        started = asyncio.Event()

        async def work() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                raise ConnectionError("the store is unreachable")

        running = asyncio.create_task(_supervise("work", work))
        await started.wait()
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=patience(5))
        assert done == {running}


class TestServiceShutdown:
    async def test_swallowed_cancellation_is_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service, "CANCEL_TIMEOUT_S", 0.01)
        started, swallowed = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            started.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            swallowed.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(work())
        await started.wait()
        async with asyncio.timeout(patience(5)):
            await _cancel_all([running])
        assert swallowed.is_set()
        assert running.cancelled()

    async def test_wait_for_a_server_ends_despite_swallowed_cancellation(self) -> None:
        started = asyncio.Event()

        async def attempt() -> None:
            started.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise ConnectionError("no server listens there")

        waiting = asyncio.create_task(_wait_for(Health(lambda: datetime.now(UTC)), "kafka", attempt))
        await started.wait()
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=patience(5))
        assert done == {waiting}
        assert waiting.cancelled()
