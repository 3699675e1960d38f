"""The half year of the demo, act by act. Business time stands still during the preparations and runs in between."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.markup import escape

from chassis.core.clocks import Clock
from chassis.messaging import dead_letters
from cli import connections
from cli.console import Failure, print_line, progress_bar
from cli.demo.audit import read_audit
from cli.demo.clock_driver import ClockDriver
from cli.demo.event_ticker import EventTicker
from cli.demo.hr import import_file
from cli.demo.http_client import DemoCaller, DemoServices, RequestRefused
from cli.demo.personas import Persona, Personas
from cli.demo.scripted_events import ScriptedEvents
from cli.demo.simulated_members import SimulatedMembers
from cli.demo.subscriber import OPEN_TOPICS, RESTRICTED_TOPICS, Subscriber
from cli.demo.summary import FinalCounts, find_disagreements
from cli.sample.generate import FOLDER
from contracts.catalogue import SERVICES

PROGRAMME = "fresh-eyes"
BEGINS_AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
"""A Monday morning."""
SECOND_ROUND_AT = BEGINS_AT + timedelta(days=21)
"""All answers to the first round have arrived by then."""
LAST_MONDAY_AT = BEGINS_AT + timedelta(days=120)
"""The last Monday with new suggestions. Later pairs would have too little time in this demo."""
ENDS_AT = BEGINS_AT + timedelta(days=184)
_POLL_S = 0.15
_REASONS_SHOWN = 3
_AGREE_WITHIN_S = 45.0
"""All events in transit arrive within this time, also on a slow machine."""
_QUIET_FOR_S = 6.0
"""Longer than the interval in which services measure their lag."""
_WITHIN_S = 180.0


@dataclass
class DemoContext:
    """The objects that every act needs."""

    data: Path
    services: DemoServices
    clock: Clock
    subscriber: Subscriber
    ticker: EventTicker

    started_monotonic: float
    """In seconds of the monotonic clock."""
    people_limit: int | None = None
    """Number of people from the sample; None: all. Managers come first in the file, so any beginning is a tree."""

    async def begin_act(self, title: str) -> None:
        """Wait until the subscriber has shown all events so far, then print the title of the next act."""
        await self.wait_until("the subscriber has seen what happened", self._is_caught_up)
        self.ticker.pause()
        print_line(
            f"\n[bold]{escape(title)}[/]  [dim]{self.clock.now():%A, %d %B %Y}; "
            f"{time.monotonic() - self.started_monotonic:.0f} s into the demo[/]"
        )

    async def _is_caught_up(self) -> bool:
        return not await asyncio.to_thread(self.subscriber.count_unread)

    async def wait_until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the condition holds. Raises ``Failure`` naming the condition after ``_WITHIN_S`` seconds."""
        deadline = time.monotonic() + _WITHIN_S
        while not await holds():
            await asyncio.to_thread(self.subscriber.raise_if_failed)
            if time.monotonic() > deadline:
                raise Failure(
                    f"This was not reached within {_WITHIN_S:.0f} s: {what}.", f"The logs are in {self.data / 'logs'}."
                )
            await asyncio.sleep(_POLL_S)


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo. ``richest_pairing_id`` is the pairing with the most kinds of events."""

    counts: FinalCounts
    disagreements: list[str]
    coordinator: Persona
    richest_pairing_id: str
    round_id: str


async def run_story(context: DemoContext) -> DemoResult:
    personas, coordinator = await import_company(context)
    chair = context.services.coordinator(coordinator.member_id, PROGRAMME)
    await open_programme(context, chair, coordinator)
    await let_people_join(context, chair, personas)
    members = SimulatedMembers(personas, context.clock, load_programme_settings()["meetings"]["planned"])
    context.subscriber.add_listener(members.receive)
    first_round = await run_round(context, chair, 1)
    await run_months(context, members, coordinator, chair)
    return await conclude(context, coordinator, first_round)


def load_programme_settings() -> dict[str, Any]:
    """The settings of the sample programme."""
    settings: dict[str, Any] = json.loads((FOLDER / "programme.json").read_text(encoding="utf-8"))
    return settings


async def import_company(context: DemoContext) -> tuple[Personas, Persona]:
    """Import HR's file. Returns all simulated people and the coordinator."""
    await context.begin_act("HR delivers its file of people")
    admin = context.services.admin()
    rows = (FOLDER / "people.csv").read_bytes().splitlines(keepends=True)
    file = b"".join(rows if context.people_limit is None else rows[: context.people_limit + 1])
    with progress_bar() as progress:
        task = progress.add_task("Importing", total=None)
        result = await import_file(
            admin, file, lambda current: progress.update(task, total=current["total"], completed=current["rows"])
        )
    if result["failed"]:
        raise Failure(f"The import of the sample failed: {result}")
    members = [member async for member in admin.list_items("profiles", "/members")]
    departments, sites = ({member[name] for member in members} for name in ("department_id", "site_id"))
    print_line(
        f"  {result['rows']} people, in {len(departments)} departments on {len(sites)} sites. "
        "An import enrols nobody: each person decides."
    )
    personas = Personas(context.services, members)
    return personas, personas.by_member_id[_choose_coordinator(members)["member_id"]]


def _choose_coordinator(members: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The head of the people department, or else of another one. It is the same person in every run."""

    def rank(member: Mapping[str, Any]) -> tuple[object, ...]:
        ids = sorted(external_id["id"] for external_id in member["external_ids"])
        return member["department_id"] == "people", member["manager"] is not None, member["level"], ids

    return max(members, key=rank)


async def open_programme(context: DemoContext, chair: DemoCaller, coordinator: Persona) -> None:
    await context.begin_act(f"{coordinator.name} coordinates, and opens a programme")
    body = {**load_programme_settings(), "coordinators": [coordinator.member_id]}
    await chair.post("matcher", "/programmes", {"programme_id": PROGRAMME, "settings": body})
    await chair.post("matcher", f"/programmes/{PROGRAMME}/open")
    print_line(f"  Fresh Eyes: {escape(body['purpose'])}")


async def let_people_join(context: DemoContext, chair: DemoCaller, personas: Personas) -> None:
    candidates = personas.joining_personas()
    await context.begin_act(f"{len(candidates)} people join and enter their offers, wishes and way of working")
    await context.wait_until("profiles knows that the programme is open", _programme_is_known(context, candidates[0]))
    with progress_bar() as progress:
        task = progress.add_task("Joining", total=len(candidates))
        await personas.join(PROGRAMME, "1", lambda: progress.advance(task))
    ready = [member async for member in chair.list_items("profiles", "/members", programme=PROGRAMME, state="ready")]
    print_line(f"  {len(ready)} are ready to be matched.")
    await context.wait_until("the matcher has received all profiles", _matcher_has_all_profiles(context))


def _programme_is_known(context: DemoContext, persona: Persona) -> Callable[[], Awaitable[bool]]:
    """A condition: profiles knows the open programme. Until then it refuses enrolments, as it should."""

    async def holds() -> bool:
        me = context.services.member(persona.member_id)
        try:
            await me.put("profiles", f"/members/me/enrolments/{PROGRAMME}", {"notice": "1"})
        except RequestRefused as refusal:
            if refusal.reason not in ("unknown_programme", "programme_not_open"):
                raise
            return False
        return True

    return holds


def _matcher_has_all_profiles(context: DemoContext) -> Callable[[], Awaitable[bool]]:
    """A condition: the matcher has handled every published profile, according to its own metrics.

    Its counter begins at its start. After a restart, a lag of 0 for a while counts instead.
    """
    quiet_since = time.monotonic()

    async def holds() -> bool:
        nonlocal quiet_since
        figures: Counter[str] = Counter()
        for sample in await context.services.read_metrics("matcher"):
            if sample.labels.get("topic") == "profiles.v1":
                figures[sample.name] += int(sample.value)
        if figures["viceversa_consumer_lag"] or await asyncio.to_thread(
            context.subscriber.count_unread, ["profiles.v1"]
        ):
            quiet_since = time.monotonic()
            return False
        handled = figures["viceversa_events_handled_total"]
        return (
            handled >= len(context.subscriber.witness.ids["profiles.v1"])
            or time.monotonic() - quiet_since > _QUIET_FOR_S
        )

    return holds


async def run_round(context: DemoContext, chair: DemoCaller, number: int) -> str:
    """The coordinator computes, reviews and publishes a round. Returns the id of the round."""
    title = (
        "A round is computed"
        if number == 1
        else "The next round, for all who still wait, and never with the same partner again"
    )
    await context.begin_act(title)
    round_ = await chair.post("matcher", f"/programmes/{PROGRAMME}/rounds", {"seed": number})
    round_id = str(round_["round_id"])
    round_ = await _await_round(context, chair, round_, "computing")
    print_line(
        f"  {round_['seniors']} seniors, {round_['juniors']} juniors: [bold]{round_['pairs']} pairs[/]; "
        f"{round_['unmatched_seniors']} seniors and {round_['unmatched_juniors']} juniors have no partner."
    )
    await _print_review(chair, round_id)
    await context.begin_act("The round is published: everybody in it is asked")
    await chair.post("matcher", f"/rounds/{round_id}/publish")
    round_ = await _await_round(context, chair, round_, "publishing")
    if round_["state"] != "published":
        raise Failure(f"The round was not published but is {round_['state']}: {round_.get('why')}")
    return round_id


async def _await_round(
    context: DemoContext, chair: DemoCaller, started: Mapping[str, Any], state: str
) -> Mapping[str, Any]:
    """Wait until the round has left this state, and return it."""
    current: dict[str, Any] = {}

    async def holds() -> bool:
        current.update(await chair.get("matcher", f"/rounds/{started['round_id']}"))
        return current["state"] not in (state, "computed" if state == "publishing" else "")

    await context.wait_until(f"the round {started['round_id']} has left the state {state}", holds)
    if current["state"] == "failed":
        raise Failure(f"The round failed: {current.get('why')}")
    return current


async def _print_review(chair: DemoCaller, round_id: str) -> None:
    """Print what a coordinator reads before publishing: reasons for some pairs, and for some unmatched people."""
    best = await chair.get("matcher", f"/rounds/{round_id}/proposals", limit=2)
    for item in best["items"]:
        sides = " with ".join(item[side]["department_id"] for side in ("senior", "junior"))
        print_line(f"  [dim]why[/] {sides}, fit {item['fit']['score']:.2f}")
        for side in ("senior", "junior"):
            print_line(f"      [dim]{side}:[/] {escape(' '.join(item['reasons'][side][:_REASONS_SHOWN]))}")
    unmatched = await chair.get("matcher", f"/rounds/{round_id}/unmatched", limit=2)
    for item in unmatched["items"]:
        print_line(f"  [dim]why not[/] a {item['side']} of {item['department_id']}: {escape(item['text'])}")


async def run_months(context: DemoContext, members: SimulatedMembers, coordinator: Persona, chair: DemoCaller) -> None:
    """Run from the first proposals to the last check-ins, with a second round in between."""
    ScriptedEvents(context.services, members, PROGRAMME, coordinator, chair).plan(BEGINS_AT, LAST_MONDAY_AT)
    driver = ClockDriver(context.services, context.clock, context.subscriber, context.ticker, members)
    await context.begin_act("They are asked by mail. From now on the months pass, more than a day in each second")
    await driver.run_until(SECOND_ROUND_AT)
    await run_round(context, chair, 2)
    await driver.run_until(ENDS_AT)
    await context.wait_until("the services have no work left", driver.is_idle)
    await context.begin_act("Half a year has passed")
    actions = ", ".join(f"{number} {action}" for action, number in members.action_counts.most_common())
    print_line(f"  [dim]What people did: {actions}.[/]")


async def conclude(context: DemoContext, coordinator: Persona, round_id: str) -> DemoResult:
    """Wait until the subscriber has read everything, then count and compare."""
    counts: FinalCounts

    async def agree() -> bool:
        nonlocal counts
        if await asyncio.to_thread(context.subscriber.count_unread, (*OPEN_TOPICS, *RESTRICTED_TOPICS)):
            return False
        counts = await count_everything(context)
        return not find_disagreements(counts, context.subscriber.witness)

    try:
        async with asyncio.timeout(_AGREE_WITHIN_S):
            await context.wait_until("the services and the subscriber agree", agree)
    except TimeoutError:
        counts = await count_everything(context)
    context.ticker.pause()
    witness = context.subscriber.witness
    return DemoResult(
        counts, find_disagreements(counts, witness), coordinator, witness.find_richest_pairing(), round_id
    )


async def count_everything(context: DemoContext) -> FinalCounts:
    """The figures at this moment."""
    kafka, prefix = connections.kafka_connection(context.data), context.services.addresses.prefix
    dead_letter_counts = [await dead_letters.count_dead_letters(kafka, prefix, service) for service in SERVICES]
    return FinalCounts(await read_audit(context.data), await _count_erased(context), sum(dead_letter_counts))


async def _count_erased(context: DemoContext) -> int:
    """Of the people whose erasure request the subscriber saw, the number that profiles reports as fully erased."""
    admin = context.services.admin()
    requested = context.subscriber.witness.subjects_by_type.get("mentoring.erasure.requested.v1", set())
    answers = [await admin.get("profiles", f"/erasures/{member}") for member in sorted(requested)]
    return sum(bool(answer["done"]) for answer in answers)
