"""Solves a round in a process of its own, so that events and requests keep flowing."""

import asyncio
import multiprocessing
import signal
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

from contracts.taxonomy import load
from services.matcher.domain.solving import Answer, Question, solve

Report = tuple[str, int, int]  # stage, done, total

EVERY = 2.0  # seconds between two signs of life


class SolverDied(Exception):
    """The worker process ended without an answer."""


class Unanswerable(Exception):
    """The worker raised; trying again would not help."""


class Solver:
    """Each round in its own process."""

    async def solve(self, question: Question, alive: Callable[[Report], Awaitable[bool]]) -> Answer | None:
        """The answer; None when ``alive`` said by False that it is not wanted any longer.

        ``alive`` is called every few seconds with the newest stage, what is done of it and how much there is. Raises
        ``SolverDied`` and ``Unanswerable``.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, question), daemon=True, name="round")
        await asyncio.to_thread(process.start)
        theirs.close()
        newest: Report = ("scoring", 0, 0)
        receiving = asyncio.create_task(asyncio.to_thread(ours.recv))
        try:
            while True:
                done, _ = await asyncio.wait({receiving}, timeout=EVERY)
                if not done:
                    if not await alive(newest):
                        return None
                    continue
                message = _received(receiving)
                if isinstance(message, Answer):
                    return message
                newest = message
                receiving = asyncio.create_task(asyncio.to_thread(ours.recv))
        finally:
            process.kill()  # a waiting reader then sees the end of the pipe
            await asyncio.to_thread(process.join)
            await asyncio.wait({receiving})
            receiving.exception()
            ours.close()


def _received(receiving: "asyncio.Task[object]") -> Report | Answer:
    try:
        message = receiving.result()
    except EOFError as error:
        raise SolverDied("the solver's process ended without an answer") from error
    if isinstance(message, Exception):
        raise Unanswerable(str(message))
    assert isinstance(message, Answer | tuple), "nothing else is sent"
    return message


def _work(to: Connection, question: Question) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        to.send(solve(question, load(), lambda stage, done, total: to.send((stage, done, total))))
    except BrokenPipeError:
        return  # the parent is gone
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is to know
        to.send(Unanswerable(f"{type(error).__name__}: {error}"))
