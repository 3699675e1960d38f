"""The frame of a service: what it keeps running, and how it lets go."""

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from chassis import service
from chassis.observability.health import Health
from chassis.service import _cancel_all, _supervise, _wait_for


class TestTaskSupervision:
    async def test_failed_task_is_restarted(self) -> None:
        runs: list[int] = []

        async def work() -> None:
            runs.append(len(runs))
            if len(runs) == 1:
                raise ConnectionError("the store is gone")

        await _supervise("work", work)
        assert runs == [0, 1]

    async def test_task_that_fails_during_shutdown_is_not_restarted(self) -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                raise ConnectionError("the store is gone")

        running = asyncio.create_task(_supervise("work", work))
        await begun.wait()
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=20)
        assert done == {running}


class TestServiceShutdown:
    async def test_swallowed_cancellation_is_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service, "CANCEL_TIMEOUT_S", 0.01)
        begun, swallowed = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            swallowed.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(work())
        await begun.wait()
        async with asyncio.timeout(20):
            await _cancel_all([running])
        assert swallowed.is_set()
        assert running.cancelled()

    async def test_wait_for_a_server_ends_despite_swallowed_cancellation(self) -> None:
        begun = asyncio.Event()

        async def attempt() -> None:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise ConnectionError("nobody listens there")

        waiting = asyncio.create_task(_wait_for(Health(lambda: datetime.now(UTC)), "kafka", attempt))
        await begun.wait()
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=20)
        assert done == {waiting}
        assert waiting.cancelled()
