"""`python -m cli.demo`, which `./scripts/demo` calls."""

import asyncio
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
from cli.console import CommandGroup, Failure, out, print_line, print_note, print_table, print_text
from cli.demo import acts
from cli.demo.event_ticker import EventTicker
from cli.demo.http_client import open_services
from cli.demo.subscriber import Subscriber, SubscriberFailed, Witness
from cli.installation import DEFAULT_DATA, Addresses
from contracts.catalogue import SERVICES
from contracts.text import safe_json
from deploy.local import private_files, process

_DEMO_MARK = "demo"
"""A file in the data folder. It marks a folder that the demo has created and may remove."""

app = typer.Typer(cls=CommandGroup, add_completion=False, pretty_exceptions_show_locals=False)


@app.callback(invoke_without_command=True)
def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="Stop everything at the end. The last line is JSON.")] = False,
    data: Annotated[
        Path,
        typer.Option(envvar="VICEVERSA_DATA", help="The demo's own folder. Data of an earlier demo is removed."),
    ] = DEFAULT_DATA,
    people: Annotated[
        int | None, typer.Option(min=60, help="Use only this many people of the sample, for a quick look.")
    ] = None,
) -> None:
    """Show half a year of reverse mentoring at a made-up company of four hundred people, on real servers.

    People are imported and join. Rounds are computed and published. People answer or forget to answer, meet, cancel,
    are absent, request another partner, leave, and ask for erasure. They receive mails, and another system receives
    everything as events. The demo takes a few minutes, and longer on a slow machine. Afterwards everything keeps
    running for inspection. Ctrl-C stops it, and `viceversa up` with the same --data starts it again.
    """
    if exit_:
        process.bind_children()
    local_stack.exit_on_sigterm()
    os.umask(private_files.UMASK)  # the clock and everything else in the folder are for their owner alone
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
        print_text(safe_json(summary))


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
    print_line("\n[bold]The history of one pairing, from its events[/]")
    await asyncio.to_thread(pairings.pairing, result.richest_pairing_id, data, json=False)
    summary = result.counts.to_json(subscriber.witness)
    if stay:
        clock.set_speed(1)
        _print_hints(data, addresses, result)
        await _wait_for_stop()
    return summary


async def _wait_for_stop() -> None:
    """Wait for Ctrl-C or SIGTERM, which are the normal end of the demo."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of several simultaneous errors. The others rarely have another cause."""
    error = group.exceptions[0]
    return _first_error(error) if isinstance(error, BaseExceptionGroup) else error


def _prepare_folder(data: Path) -> None:
    """Make an empty folder for the demo. Raises ``Failure`` when the folder holds data of somebody else."""
    if data.exists() and any(data.iterdir()):
        if not (data / _DEMO_MARK).exists():
            raise Failure(
                f"{data} contains data that is not the demo's.",
                "Give the demo a folder of its own: --data DIR.",
            )
        local_stack.stop(data, print_note)
        shutil.rmtree(data)
    private_files.make_folder(data)
    private_files.write_text(data / _DEMO_MARK, "")


@contextmanager
def _running_stack(data: Path) -> Iterator[Addresses]:
    """Run all processes inside the context, and stop them afterwards."""
    print_note("Starting Kafka, the store and the services. The first start downloads some 50 MB.")
    addresses = local_stack.start(data, print_note, clock=data / "clock.jsonl", prefix=_choose_prefix(data))
    try:
        yield addresses
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        local_stack.stop(data, print_note)


def _choose_prefix(data: Path) -> str | None:
    """A topic prefix of its own on servers that somebody else runs, because they may hold other data."""
    if installation.read_addresses(data) or not (
        os.environ.get("VICEVERSA_KAFKA") or os.environ.get("VICEVERSA_MONGO")
    ):
        return None
    return f"demo-{secrets.token_hex(4)}."


def _print_result(result: acts.DemoResult, witness: Witness, seconds: float) -> None:
    counts, audit = result.counts, result.counts.audit
    print_line(f"\n[bold]Results[/]  [dim]in {seconds:.0f} s[/]")
    print_table(
        "", ">people or pairs",
        rows=[
            ("people imported", audit.members + counts.erased),
            ("people enrolled", audit.enrolled),
            ("pairs proposed", audit.proposed),
            ("pairs lapsed: declined or expired, nobody is told which", audit.lapsed),
            ("pairs formed", audit.formed),
            ("pairs that agreed on goals and dates", audit.chartered),
            ("meetings held", audit.sessions_held),
            ("check-ins answered", audit.checkins),
            ("requests for another partner", audit.partner_changes),
            ("pairs ended, as planned or earlier", audit.ended),
            ("messages sent", audit.notifications_sent),
            ("messages sent by mail", audit.mails_sent),
            ("pairs removed with an erased person", len(witness.erased_pairings)),
            ("people erased in every service", counts.erased),
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
    print_line("\n[bold]Everything is still running. Look around:[/]")
    rows = [
        ("the state of everything", f"{command} status{option}"),
        ("one pairing", f"{command} pairing {result.richest_pairing_id}{option}"),
        ("the first round", f"{command} round show {result.round_id}{option}"),
        ("all pairings, over HTTP", curl),
        ("the coordinator's token", f"{command} token --as {result.coordinator.external_id}{option}"),
        ("the mails that were sent", str(local_stack.maildir(data) / "new")),
        ("the APIs", ", ".join(f"{urls[name]}/docs" for name in SERVICES)),
        ("metrics", f"{addresses.management_urls['matcher']}/metrics"),
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
