"""The story, act by act: half a year. Business time stands still for what is set up, and runs in between."""

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
from cli.console import Failure, bar, say
from cli.demo.audit import audit
from cli.demo.clock_driver import Months
from cli.demo.event_ticker import Stream
from cli.demo.hr import imported
from cli.demo.http_client import Caller, Refusal, Web
from cli.demo.personas import Crowd, Human
from cli.demo.scripted_events import Turns
from cli.demo.simulated_members import Lives
from cli.demo.subscriber import OPEN, RESTRICTED, Subscriber
from cli.demo.summary import Counted, disagreements
from cli.installation import SERVICES
from cli.sample.generate import FOLDER

PROGRAMME = "fresh-eyes"
BEGINS = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
"""A Monday morning."""
SECOND_ROUND = BEGINS + timedelta(days=21)
"""When the last answers to the first one are in."""
LAST_MONDAY = BEGINS + timedelta(days=120)
"""Nobody is brought together so late that hardly anything could come of it in this story."""
ENDS = BEGINS + timedelta(days=184)
_POLL_S = 0.15
_REASONS = 3
_AGREE_WITHIN_S = 45.0
"""What is still on its way arrives long before, on a slow machine as well."""
_QUIET_S = 6.0
"""Longer than services take between two looks at their lag."""
_WITHIN_S = 180.0


@dataclass
class Stage:
    """What every act needs."""

    data: Path
    web: Web
    clock: Clock
    subscriber: Subscriber
    stream: Stream

    began: float
    """Of the monotonic clock."""
    people: int | None = None
    """How many of the sample; all when None. Managers come first in it, so that any beginning is a proper tree."""

    async def act(self, title: str) -> None:
        """Lets the subscriber show what has happened so far, and begins the next part."""
        await self.until("the subscriber has seen what happened", self._shown)
        self.stream.pause()
        say(
            f"\n[bold]{escape(title)}[/]  [dim]{self.clock.now():%A, %d %B %Y}; "
            f"{time.monotonic() - self.began:.0f} s into the demo[/]"
        )

    async def _shown(self) -> bool:
        return not await asyncio.to_thread(self.subscriber.behind)

    async def until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        """Raises ``Failure`` naming what it waited for in vain."""
        deadline = time.monotonic() + _WITHIN_S
        while not await holds():
            await asyncio.to_thread(self.subscriber.check)
            if time.monotonic() > deadline:
                raise Failure(f"Waited {_WITHIN_S:.0f} s in vain: {what}.", f"The logs are in {self.data / 'logs'}.")
            await asyncio.sleep(_POLL_S)


@dataclass(frozen=True)
class Ending:
    """How the story ended. ``story`` is the pairing of which there is most to tell."""

    counted: Counted
    disagreements: list[str]
    coordinator: Human
    story: str
    round_id: str


async def play(stage: Stage) -> Ending:
    crowd, coordinator = await company_arrives(stage)
    chair = stage.web.coordinator(coordinator.member_id, PROGRAMME)
    await programme_opens(stage, chair, coordinator)
    await people_join(stage, chair, crowd)
    lives = Lives(crowd, stage.clock, settings()["meetings"]["planned"])
    stage.subscriber.listen(lives.hear)
    first = await a_round(stage, chair, 1)
    await the_months(stage, lives, coordinator, chair)
    return await the_end(stage, coordinator, first)


def settings() -> dict[str, Any]:
    """Of the programme."""
    found: dict[str, Any] = json.loads((FOLDER / "programme.json").read_text(encoding="utf-8"))
    return found


async def company_arrives(stage: Stage) -> tuple[Crowd, Human]:
    """HR's file comes in. Everybody, and who is going to coordinate."""
    await stage.act("HR hands over its file of people")
    hr = stage.web.admin()
    rows = (FOLDER / "people.csv").read_bytes().splitlines(keepends=True)
    file = b"".join(rows if stage.people is None else rows[: stage.people + 1])
    with bar() as progress:
        task = progress.add_task("Importing", total=None)
        done = await imported(hr, file, lambda now: progress.update(task, total=now["total"], completed=now["rows"]))
    if done["failed"]:
        raise Failure(f"The import of the sample did not go well: {done}")
    members = [one async for one in hr.pages("profiles", "/members")]
    departments, sites = ({one[name] for one in members} for name in ("department_id", "site_id"))
    say(
        f"  {done['rows']} people, in {len(departments)} departments on {len(sites)} sites. "
        "Importing is not joining: nobody takes part yet."
    )
    crowd = Crowd(stage.web, members)
    return crowd, crowd.people[_coordinator(members)["member_id"]]


def _coordinator(members: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The head of people, or else of another department; the same one in every run."""

    def suits(one: Mapping[str, Any]) -> tuple[object, ...]:
        ids = sorted(known["id"] for known in one["external_ids"])
        return one["department_id"] == "people", one["manager"] is not None, one["level"], ids

    return max(members, key=suits)


async def programme_opens(stage: Stage, chair: Caller, coordinator: Human) -> None:
    await stage.act(f"{coordinator.name} is going to coordinate, and opens a programme")
    wanted = {**settings(), "coordinators": [coordinator.member_id]}
    await chair.post("matcher", "/programmes", {"programme_id": PROGRAMME, "settings": wanted})
    await chair.post("matcher", f"/programmes/{PROGRAMME}/open")
    say(f"  Fresh Eyes: {wanted['purpose']}")


async def people_join(stage: Stage, chair: Caller, crowd: Crowd) -> None:
    joining = crowd.joining()
    await stage.act(f"{len(joining)} people join: what I offer, what I seek, how I like to work")
    await stage.until("profiles knows that the programme is open", _knows_programme(stage, joining[0]))
    with bar() as progress:
        task = progress.add_task("Joining", total=len(joining))
        await crowd.join(PROGRAMME, "1", lambda: progress.advance(task))
    ready = [one async for one in chair.pages("profiles", "/members", programme=PROGRAMME, state="ready")]
    say(f"  {len(ready)} are ready to be matched.")
    await stage.until("the matcher has heard of everybody", _heard_everybody(stage))


def _knows_programme(stage: Stage, human: Human) -> Callable[[], Awaitable[bool]]:
    """Joining a programme that profiles has not heard of yet is refused, as it should be."""

    async def holds() -> bool:
        me = stage.web.member(human.member_id)
        try:
            await me.put("profiles", f"/members/me/enrolments/{PROGRAMME}", {"notice": "1"})
        except Refusal as refusal:
            if refusal.reason not in ("unknown_programme", "programme_not_open"):
                raise
            return False
        return True

    return holds


def _heard_everybody(stage: Stage) -> Callable[[], Awaitable[bool]]:
    """Every profile that was said has been handled by the matcher, as its own figures tell.

    It counts since it started; when it was started again meanwhile, its lag must be nothing for a while instead.
    """
    quiet_since = time.monotonic()

    async def holds() -> bool:
        nonlocal quiet_since
        figures: Counter[str] = Counter()
        for sample in await stage.web.figures("matcher"):
            if sample.labels.get("topic") == "profiles.v1":
                figures[sample.name] += int(sample.value)
        if figures["viceversa_consumer_lag"] or await asyncio.to_thread(stage.subscriber.behind, ["profiles.v1"]):
            quiet_since = time.monotonic()
            return False
        handled = figures["viceversa_events_handled_total"]
        return handled >= len(stage.subscriber.witness.ids["profiles.v1"]) or time.monotonic() - quiet_since > _QUIET_S

    return holds


async def a_round(stage: Stage, chair: Caller, number: int) -> str:
    """Computed, reviewed and published by the coordinator; the id."""
    again = (
        "A round is computed"
        if number == 1
        else "The next round: whoever is still waiting, and never the same partner twice"
    )
    await stage.act(again)
    found = await chair.post("matcher", f"/programmes/{PROGRAMME}/rounds", {"seed": number})
    round_id = str(found["round_id"])
    found = await _round_leaves(stage, chair, found, "computing")
    say(
        f"  {found['seniors']} seniors, {found['juniors']} juniors: [bold]{found['pairs']} pairs[/]; "
        f"{found['unmatched_seniors']} seniors and {found['unmatched_juniors']} juniors are left over."
    )
    await _review(chair, round_id)
    await stage.act("Published: everybody in it is asked")
    await chair.post("matcher", f"/rounds/{round_id}/publish")
    found = await _round_leaves(stage, chair, found, "publishing")
    if found["state"] != "published":
        raise Failure(f"The round was not published but is {found['state']}: {found.get('why')}")
    return round_id


async def _round_leaves(stage: Stage, chair: Caller, begun: Mapping[str, Any], state: str) -> Mapping[str, Any]:
    """The round once it is in that state no longer."""
    current: dict[str, Any] = {}

    async def holds() -> bool:
        current.update(await chair.get("matcher", f"/rounds/{begun['round_id']}"))
        return current["state"] not in (state, "computed" if state == "publishing" else "")

    await stage.until(f"the round {begun['round_id']} is {state} no longer", holds)
    if current["state"] == "failed":
        raise Failure(f"The round failed: {current.get('why')}")
    return current


async def _review(chair: Caller, round_id: str) -> None:
    """What a coordinator reads before releasing it: why these two, and why nobody for somebody."""
    best = await chair.get("matcher", f"/rounds/{round_id}/proposals", limit=2)
    for one in best["items"]:
        sides = " with ".join(one[side]["department_id"] for side in ("senior", "junior"))
        say(f"  [dim]why[/] {sides}, fit {one['fit']['score']:.2f}")
        for side in ("senior", "junior"):
            say(f"      [dim]{side}:[/] {escape(' '.join(one['reasons'][side][:_REASONS]))}")
    left = await chair.get("matcher", f"/rounds/{round_id}/unmatched", limit=2)
    for one in left["items"]:
        say(f"  [dim]why not[/] a {one['side']} of {one['department_id']}: {escape(one['text'])}")


async def the_months(stage: Stage, lives: Lives, coordinator: Human, chair: Caller) -> None:
    """From the first proposals to the last questions, with a second round on the way."""
    Turns(stage.web, lives, PROGRAMME, coordinator, chair).plan(BEGINS, LAST_MONDAY)
    months = Months(stage.web, stage.clock, stage.subscriber, stage.stream, lives)
    await stage.act("They are asked, by mail. From here on the months pass, a day and more in each second")
    await months.run_until(SECOND_ROUND)
    await a_round(stage, chair, 2)
    await months.run_until(ENDS)
    await stage.until("nothing waits in the services any more", months.at_rest)
    await stage.act("Half a year has passed")
    say(f"  [dim]What people did: {', '.join(f'{number} {what}' for what, number in lives.did.most_common())}.[/]")


async def the_end(stage: Stage, coordinator: Human, round_id: str) -> Ending:
    """Waits until the subscriber has seen everything, counts, and compares."""
    counted: Counted

    async def agree() -> bool:
        nonlocal counted
        if await asyncio.to_thread(stage.subscriber.behind, (*OPEN, *RESTRICTED)):
            return False
        counted = await count(stage)
        return not disagreements(counted, stage.subscriber.witness)

    try:
        async with asyncio.timeout(_AGREE_WITHIN_S):
            await stage.until("the services and the subscriber agree", agree)
    except TimeoutError:
        counted = await count(stage)
    stage.stream.pause()
    witness = stage.subscriber.witness
    return Ending(counted, disagreements(counted, witness), coordinator, witness.richest(), round_id)


async def count(stage: Stage) -> Counted:
    """Everything, just now."""
    reach, prefix = connections.connection(stage.data), stage.web.addresses.prefix
    letters = [await dead_letters.count_dead_letters(reach, prefix, service) for service in SERVICES]
    return Counted(await audit(stage.data), await _erased(stage), sum(letters))


async def _erased(stage: Stage) -> int:
    """Of the people whose erasure the subscriber heard of, how many the service says are erased everywhere."""
    admin = stage.web.admin()
    asked = stage.subscriber.witness.reached.get("mentoring.erasure.requested.v1", set())
    answers = [await admin.get("profiles", f"/erasures/{member}") for member in sorted(asked)]
    return sum(bool(one["done"]) for one in answers)
