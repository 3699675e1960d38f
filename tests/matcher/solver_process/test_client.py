"""The service stays responsive during a computation in another process, and reports the round as in progress."""

import asyncio
from typing import Any, cast

import pytest

from services.matcher.domain.rounds.round import RoundProgress
from services.matcher.solver_process import client
from services.matcher.solver_process.client import Solver, SolverDied, SolverReport, UnsolvableRound


class Talkative:
    """A process that sends the given messages one by one, and then stays silent."""

    round_id = "r"

    def __init__(self, *reports: SolverReport) -> None:
        self._reports = list(reports)

    async def receive(self) -> SolverReport | None:
        await asyncio.sleep(0)
        return self._reports.pop(0) if self._reports else None


def reading(done: int) -> SolverReport:
    return SolverReport(progress=RoundProgress(stage="reading", done=done, total=9))


def followed(worker: Talkative, *, expected: bool = True) -> list[int]:
    reported: list[int] = []

    async def alive(progress: RoundProgress) -> bool:
        reported.append(progress.done)
        return expected

    async def run() -> None:
        assert await Solver("", "", "")._follow(cast("Any", worker), alive) is None

    try:
        asyncio.run(run())
    except (UnsolvableRound, SolverDied) as error:
        reported.append(-1 if isinstance(error, UnsolvableRound) else -2)
    return reported


class TestFollow:
    def test_heartbeats_go_on_however_often_reports_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "HEARTBEAT_INTERVAL_S", 0)
        assert followed(Talkative(reading(1), reading(2), reading(3), SolverReport(failed="no")))[-1] == -1
        assert set(followed(Talkative(reading(1), reading(2), reading(3), SolverReport(failed="no")))) >= {1, 2, 3}

    def test_unwanted_round_ends_without_an_error(self) -> None:
        assert followed(Talkative(reading(1), reading(2)), expected=False) == [1]
        assert followed(Talkative(), expected=False) == [0]

    def test_process_that_gets_no_time_is_reported_as_stalled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "HEARTBEAT_INTERVAL_S", 0.01)
        monkeypatch.setattr(client, "STALLED_AFTER_S", 0.05)
        stalled: list[bool] = []

        class Starved(Talkative):
            async def receive(self) -> SolverReport | None:
                await asyncio.Event().wait()
                return None

        async def until_stalled(progress: RoundProgress) -> bool:
            stalled.append(progress.stalled)
            return not progress.stalled

        async def run() -> None:
            assert await Solver("", "", "")._follow(cast("Any", Starved()), until_stalled) is None

        asyncio.run(run())
        assert stalled[-1]
        assert not stalled[0]

    def test_process_without_an_answer_has_died(self) -> None:
        assert followed(Talkative(reading(1)))[-1] == -2
