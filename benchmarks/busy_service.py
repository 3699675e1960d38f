"""(k) The matcher while a round of a whole company is computed in it.

The people are in the matcher's projection of a running installation, and the round is requested over HTTP. `GET
/pairings` is called at a steady pace, idle and during the round, and timed from its planned start. Meanwhile members
change their profiles: the matcher must process each change and keep its membership of the consumer group. Then one
pair is forbidden and the round is solved again, and a few thousand proposals of it are published.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from motor.motor_asyncio import AsyncIOMotorClient

from benchmarks import cohort
from benchmarks.command import import_people
from benchmarks.environment import quantile
from benchmarks.stack import Estate
from contracts.profiles import ProfileChanged
from deploy.local import process

GOAL = 5.0
GOAL_AGAIN = 0.1  # share of the whole round's time, for solving it again around one change
PEOPLE = 100_000
SMALL = 400  # people of another programme, whose pairings are listed
EVERY_S = 0.05  # between two requests
IDLE_S = 30.0
CHANGE_EVERY_S = 1.0  # between two changes of a profile
FEW = 3_000  # proposals whose publication is timed
WRITTEN = 1_000  # documents in one insert
LONGEST_S = 900.0  # limit of any wait

Rows = AsyncIOMotorClient[dict[str, Any]]


@dataclass
class RequestDesk:
    """Speaks to one estate as an admin."""

    estate: Estate
    client: httpx.AsyncClient

    async def ask(self, method: str, path: str, body: object = None, who: str | None = None) -> Any:
        service = "profiles" if path.startswith("/members") else "matcher"
        token = self.estate.token(who, "member") if who else self.estate.token(None, "admin")
        answer = await self.client.request(
            method, self.estate.url(service) + path, json=body, headers={"Authorization": f"Bearer {token}"}
        )
        answer.raise_for_status()
        return answer.json()


async def measure(estate: Estate, scale: float = 1.0) -> dict[str, Any]:
    count = max(1_000, int(PEOPLE * scale))
    mongo: Rows = AsyncIOMotorClient(estate.addresses.mongo)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            return await _measured(RequestDesk(estate, client), mongo[estate.database("matcher")]["members"], count)
    finally:
        mongo.close()


async def _measured(desk: RequestDesk, members: Any, count: int) -> dict[str, Any]:
    changing = await import_people(desk.client, desk.estate, 10)
    await _inhabit(desk, members, "busy-small", cohort.cohort(SMALL, seed=2))
    await _inhabit(desk, members, "busy-all", cohort.cohort(count))
    small = await _round(desk, "busy-small")
    await desk.ask("POST", f"/rounds/{small['round_id']}/publish")
    await _until(desk, small["round_id"], lambda round: round["state"] == "published")

    idle = await _measure_requests(desk, _after(IDLE_S))
    group = await _group(desk.estate)
    memory = _Memory(desk.estate)
    started = time.perf_counter()
    computing = asyncio.create_task(_round(desk, "busy-all", memory.look))
    events = asyncio.create_task(_changes(desk, members, changing, computing.done))
    busy = await _measure_requests(desk, computing.done)
    round = await computing
    computed_s = time.perf_counter() - started
    delays = await events
    stayed = await _group(desk.estate) == group

    repaired_s = await _repaired(desk, round["round_id"])
    published = await _published(desk, round["round_id"])
    ratio, again = quantile(busy, 0.99) / quantile(idle, 0.99), repaired_s / computed_s
    return {
        "name": "busy",
        "people": count,
        "pairs": round["pairs"],
        "seconds": {"computed": round_to(computed_s), "solved_again_after_one_change": round_to(repaired_s)},
        "published": published,
        "pairings_ms": {"idle": _ms(idle), "while_computing": _ms(busy)},
        "questions": {"idle": len(idle), "while_computing": len(busy)},
        "ratio_p99": round_to(ratio),
        "ratio_again": round_to(again),
        "profile_changes_heard_s": {"changes": len(delays), "longest": round_to(max(delays, default=0.0))},
        "same_members_of_the_group": stayed,
        "worker_peak_mb": memory.peak,
        "services_peak_mb": desk.estate.peak_memory(),
        "goals": {"ratio_p99": GOAL, "ratio_again": GOAL_AGAIN},
        "met": ratio < GOAL and again <= GOAL_AGAIN and stayed and round["state"] == "computed",
    }


async def _inhabit(desk: RequestDesk, members: Any, programme: str, people: list[ProfileChanged]) -> None:
    """A programme, and its people as the projection keeps them."""
    settings = cohort.settings().model_dump(mode="json")
    await desk.ask("POST", "/programmes", {"programme_id": programme, "settings": settings})
    await desk.ask("POST", f"/programmes/{programme}/open")
    for start in range(0, len(people), WRITTEN):
        await members.insert_many([_row(item, programme) for item in people[start : start + WRITTEN]], ordered=False)


def _row(profile: ProfileChanged, programme: str) -> dict[str, Any]:
    row = profile.model_dump(mode="json")
    for enrolment in row["enrolments"]:
        enrolment["programme_id"] = programme
    return {**row, "_id": profile.member_id, "sequence": 1, "grave": False}


async def _round(desk: RequestDesk, programme: str, look: Callable[[], None] = lambda: None) -> Any:
    started = await desk.ask("POST", f"/programmes/{programme}/rounds", {"seed": 1})
    return await _until(desk, started["round_id"], lambda round: round["state"] != "computing", look)


async def _until(
    desk: RequestDesk, round_id: str, there: Callable[[Any], bool], look: Callable[[], None] = lambda: None
) -> Any:
    async with asyncio.timeout(LONGEST_S):
        while not there(round := await desk.ask("GET", f"/rounds/{round_id}")):
            look()
            await asyncio.sleep(0.2)
        return round


async def _measure_requests(desk: RequestDesk, done: Callable[[], bool]) -> list[float]:
    """Seconds until each response, from its planned start, at a steady pace until ``done``."""
    begin, taken = time.perf_counter(), list[float]()
    waiting: set[asyncio.Task[None]] = set()

    async def item(due: float) -> None:
        await desk.ask("GET", "/pairings?programme_id=busy-small&limit=20")
        taken.append(time.perf_counter() - due)

    number = 0
    while not done():
        due = begin + number * EVERY_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        waiting.add(task := asyncio.create_task(item(due)))
        task.add_done_callback(waiting.discard)
        number += 1
    await asyncio.gather(*waiting)
    return taken


def _after(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


async def _changes(desk: RequestDesk, members: Any, people: list[str], done: Callable[[], bool]) -> list[float]:
    """Seconds from each change of a profile until it stands in the matcher's projection."""
    delays: list[float] = []
    number = 0
    while not done():
        member, since = people[number % len(people)], (date(2027, 1, 1) + timedelta(days=number)).isoformat()
        begin = time.perf_counter()
        await desk.ask("PUT", "/members/me/away", {"away": [{"since": since, "until": None}]}, member)
        async with asyncio.timeout(LONGEST_S):
            while not await members.count_documents({"_id": member, "away.since": since}):  # noqa: ASYNC110 - another's
                await asyncio.sleep(0.05)
        delays.append(time.perf_counter() - begin)
        number += 1
        await asyncio.sleep(CHANGE_EVERY_S)
    return delays


async def _group(estate: Estate) -> list[str]:
    """The members of the matcher's consumer group; an expelled member returns under another id."""
    admin = AIOKafkaAdminClient(bootstrap_servers=estate.addresses.kafka)
    await admin.start()
    try:
        [answer] = await admin.describe_consumer_groups([f"{estate.addresses.prefix}matcher"])
        return sorted(str(member[0]) for member in answer.groups[0][5])
    finally:
        await admin.close()


async def _repaired(desk: RequestDesk, round_id: str) -> float:
    """Seconds from the request to solve without one pair until the result is stored."""
    [pair] = (await desk.ask("GET", f"/rounds/{round_id}/proposals?limit=1"))["items"]
    two = {side: pair[side]["member_id"] for side in ("senior", "junior")}
    await desk.ask("POST", f"/rounds/{round_id}/adjustments", {"kind": "forbid", "pair": two})
    begin = time.perf_counter()
    await desk.ask("POST", f"/rounds/{round_id}/resolve", {})
    await _until(desk, round_id, lambda round: round["state"] == "computed")
    return time.perf_counter() - begin


async def _published(desk: RequestDesk, round_id: str) -> Mapping[str, Any]:
    begin = time.perf_counter()
    released = await desk.ask("POST", f"/rounds/{round_id}/publish")
    few = min(FEW, released["pairs"])
    round = await _until(
        desk, round_id, lambda item: item["proposed"] + item["withdrawn"] >= few or item["state"] == "published"
    )
    seconds = time.perf_counter() - begin
    out = round["proposed"] + round["withdrawn"]
    return {"proposals": out, "seconds": round_to(seconds), "a_second": round_to(out / seconds)}


class _Memory:
    """Peak memory of the computing process in MB, by the kernel."""

    def __init__(self, estate: Estate) -> None:
        alive = process.alive("matcher", estate.data)
        self._parent = alive.pid if alive else None
        self.peak = 0.0

    def look(self) -> None:
        tasks = Path(f"/proc/{self._parent}/task")
        for children in tasks.glob("*/children"):
            for pid in children.read_text(encoding="ascii").split():
                for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
                    if line.startswith("VmHWM"):
                        self.peak = max(self.peak, round_to(int(line.split()[1]) / 1024))


def _ms(values: list[float]) -> dict[str, float]:
    return {f"p{share}": round_to(quantile(values, share / 100) * 1000) for share in (50, 99)}


def round_to(value: float) -> float:
    return round(value, 2)
