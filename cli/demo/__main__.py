"""`python -m cli.demo`, which `./scripts/demo` calls."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from chassis.core.clocks import Clock
from cli import installation, local_stack, pairings
from cli.console import CommandGroup, Failure, out, print_line, print_note, print_table
from cli.demo import acts
from cli.demo.event_ticker import EventTicker
from cli.demo.http_client import open_services
from cli.demo.subscriber import Subscriber, SubscriberFailed, Witness
from cli.installation import DEFAULT_DATA, Addresses
from contracts.catalogue import SERVICES

_DEMO_MARK = "demo"
"""A file in the data folder that says: made by the demo, and its to remove."""

app = typer.Typer(cls=CommandGroup, add_completion=False, pretty_exceptions_show_locals=False)


@app.callback(invoke_without_command=True)
def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="Stop everything at the end; the last line is JSON.")] = False,
    data: Annotated[Path, typer.Option(help="Its own folder; what an earlier demo left is removed.")] = DEFAULT_DATA,
    people: Annotated[int | None, typer.Option(min=60, help="Only so many of the sample, for a quick look.")] = None,
) -> None:
    """Half a year of reverse mentoring at a made-up company of four hundred, on real servers, while you watch.

    People are imported and join, rounds are computed and published, people answer or forget to, meet, cancel, are away,
    wish for another partner, leave, are forgotten; they are told by mail, and another system sees all of it as events.
    It takes a few minutes, and longer on a slow machine. Afterwards it stays up to look around; Ctrl-C ends it, and
    `viceversa up` with the same --data brings it back.
    """
    local_stack.exit_on_sigterm()
    data = data.absolute()
    started_monotonic = time.monotonic()
    _prepare_folder(data)
    clock = Clock(data / "clock.jsonl")
    clock.set_speed(0, acts.BEGINS_AT)
    with _running_stack(data) as addresses:
        try:
            summary = asyncio.run(
                _run_demo(data, addresses, clock, people=people, stay=not exit_, started_monotonic=started_monotonic)
            )
        except asyncio.CancelledError as cancelled:
            raise SystemExit(128 + signal.SIGTERM) from cancelled
    if exit_:
        sys.stdout.write(json.dumps(summary) + "\n")
        sys.stdout.flush()


async def _run_demo(
    data: Path, addresses: Addresses, clock: Clock, *, people: int | None, stay: bool, started_monotonic: float
) -> dict[str, object]:
    demo_task = asyncio.current_task()
    assert demo_task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, demo_task.cancel)
    ticker = EventTicker()
    subscriber = Subscriber(addresses.kafka, addresses.prefix, ticker.show)
    subscriber.start()
    try:
        async with open_services(data, addresses) as services:
            result = await acts.run_story(
                acts.DemoContext(data, services, clock, subscriber, ticker, started_monotonic, people)
            )
        await asyncio.to_thread(subscriber.stop)
    except SubscriberFailed as error:
        raise Failure(f"The subscriber failed: {error}") from error
    except BaseExceptionGroup as group:
        raise _first_error(group) from group
    finally:
        await asyncio.to_thread(subscriber.close)
    _print_result(result, subscriber.witness, time.monotonic() - started_monotonic)
    if result.disagreements:
        raise Failure("The services and the subscriber do not agree:\n  " + "\n  ".join(result.disagreements))
    print_line("\n[bold]The story of one of them, from its events[/]")
    await asyncio.to_thread(pairings.pairing, result.richest_pairing_id, data, json=False)
    summary = result.counts.to_json(subscriber.witness)
    if stay:
        clock.set_speed(1)
        _print_hints(data, addresses, result)
        await _wait_for_stop()
    return summary


async def _wait_for_stop() -> None:
    """Until Ctrl-C or SIGTERM, which are the ordinary end here."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of several that came at once; the others rarely say anything else."""
    error = group.exceptions[0]
    return _first_error(error) if isinstance(error, BaseExceptionGroup) else error


def _prepare_folder(data: Path) -> None:
    """An empty folder of the demo's own. Raises ``Failure`` rather than to remove what somebody else put there."""
    if data.exists() and any(data.iterdir()):
        if not (data / _DEMO_MARK).exists():
            raise Failure(
                f"{data} holds an installation that is not the demo's.",
                "Give the demo a folder of its own: --data DIR.",
            )
        local_stack.stop(data, print_note)
        shutil.rmtree(data)
    data.mkdir(parents=True, exist_ok=True)
    (data / _DEMO_MARK).touch()


@contextmanager
def _running_stack(data: Path) -> Iterator[Addresses]:
    """All of it runs within, and nothing of it afterwards."""
    print_note("Starting Kafka, the store and the services; the first time, some 50 MB are fetched.")
    addresses = local_stack.start(data, print_note, clock=data / "clock.jsonl", prefix=_choose_prefix(data))
    try:
        yield addresses
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        local_stack.stop(data, print_note)


def _choose_prefix(data: Path) -> str | None:
    """On servers that somebody else runs, names of the demo's own: they may hold anything else."""
    if installation.read_addresses(data) or not (
        os.environ.get("VICEVERSA_KAFKA") or os.environ.get("VICEVERSA_MONGO")
    ):
        return None
    return f"demo-{secrets.token_hex(4)}."


def _print_result(result: acts.DemoResult, witness: Witness, seconds: float) -> None:
    counts, audit = result.counts, result.counts.audit
    print_line(f"\n[bold]What became of it[/]  [dim]in {seconds:.0f} s[/]")
    print_table(
        "", ">people or pairs",
        rows=[
            ("people imported", audit.members + counts.erased),
            ("take part", audit.enrolled),
            ("pairs asked", audit.proposed),
            ("lapsed: refused or forgotten, nobody is told which", audit.lapsed),
            ("formed", audit.formed),
            ("agreed on goals and dates", audit.chartered),
            ("meetings held", audit.sessions_held),
            ("check-ins answered", audit.checkins),
            ("wished for another partner", audit.partner_changes),
            ("over: finished as planned, or before", audit.ended),
            ("messages sent", audit.notifications_sent),
            ("of them by mail", audit.mails_sent),
            ("pairs that went with a person who was forgotten", len(witness.erased_pairings)),
            ("people forgotten, in every service", counts.erased),
            ("dead letters", counts.dead_letters),
        ],
    )  # fmt: skip
    if not result.disagreements:
        print_line("[green]The services and the independent subscriber agree on every figure.[/]")


def _print_hints(data: Path, addresses: Addresses, result: acts.DemoResult) -> None:
    command = f"{Path(sys.executable).parent / 'viceversa'}"
    option = "" if data == DEFAULT_DATA.absolute() else f" --data {data}"
    urls = addresses.urls
    subscriber = f"VICEVERSA_KAFKA={addresses.kafka} VICEVERSA_TOPIC_PREFIX={addresses.prefix}"
    curl = f'curl -s -H "Authorization: Bearer $({command} token --as admin{option})" {urls["matcher"]}/pairings'
    print_line("\n[bold]Everything still runs. Look around:[/]")
    rows = [
        ("how it all is", f"{command} status{option}"),
        ("one pairing", f"{command} pairing {result.richest_pairing_id}{option}"),
        ("the first round", f"{command} round show {result.round_id}{option}"),
        ("all pairings, over HTTP", curl),
        ("the coordinator's token", f"{command} token --as {result.coordinator.external_id}{option}"),
        ("the mails that were sent", str(local_stack.maildir(data) / "new")),
        ("the APIs", ", ".join(f"{urls[name]}/docs" for name in SERVICES)),
        ("figures", f"{urls['matcher']}/metrics"),
        ("the events, as another system", f"{subscriber} {sys.executable} examples/subscriber.py"),
        ("topics", f"{addresses.prefix}pairings.v1, {addresses.prefix}pairing-states.v1 at {addresses.kafka}"),
        ("logs", str(data / "logs")),
    ]  # fmt: skip
    for what, hint in rows:
        out.print(f"  [dim]{what:30}[/] ", end="")
        out.print(hint, markup=False)
    print_line("\nCtrl-C stops everything.")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
