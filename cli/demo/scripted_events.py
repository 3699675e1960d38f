"""What happens in the company in these months: Mondays, HR's file, people who leave or want to be forgotten."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from random import Random

from rich.markup import escape

from cli.console import Failure, say
from cli.demo.hr import imported
from cli.demo.http_client import Caller, Refusal, Web
from cli.demo.personas import Human
from cli.demo.simulated_members import DAY, SEED, Lives, Pair
from cli.sample.generate import FOLDER

_MOST_A_WEEK = 4
"""Suggestions that the coordinator releases on one Monday."""
_ORDINARY = frozenset({"no_seat", "not_available", "not_possible", "already_partners", "no_longer_possible", "closed"})


class Turns:
    """Written into the people's diary. Who it happens to is drawn from whoever is paired by then."""

    def __init__(self, web: Web, lives: Lives, programme: str, coordinator: Human, chair: Caller) -> None:
        self._web, self._lives, self._programme, self._chair = web, lives, programme, chair
        self._gone = {coordinator.member_id}

    def plan(self, begins: datetime, mondays_until: datetime) -> None:
        turns: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
            (30.3, self._somebody_has_an_assistant),
            (58.3, self._somebody_is_forgotten),
            (75.3, self._somebody_leaves_the_programme),
            (92.9, self._the_nightly_file),
            (131.3, self._somebody_is_forgotten),
        )
        for days, act in turns:
            self._lives.intend(begins + days * DAY, "company", act)
        monday = begins + 35.1 * DAY
        while monday < mondays_until:
            self._lives.intend(monday, "coordinator", self._monday)
            monday += 7 * DAY

    async def _monday(self) -> None:
        """Whom would help, and who is free: the coordinator brings some of them together."""
        care = await self._chair.get("feedback", f"/programmes/{self._programme}/care", help_wanted="true")
        found = await self._chair.post("matcher", f"/programmes/{self._programme}/suggestions?limit={_MOST_A_WEEK}")
        self._lives.did["offered help to a pair"] += len(care["items"])
        for one in found["items"]:
            pair = {side: one[side] for side in ("senior", "junior")}
            try:
                await self._chair.post("matcher", f"/programmes/{self._programme}/pairings", pair)
            except Refusal as refusal:
                if refusal.reason not in _ORDINARY:
                    raise
            else:
                self._lives.did["suggested by the coordinator"] += 1

    async def _somebody_has_an_assistant(self) -> None:
        """Who sees their times, and nothing else."""
        head, assistant = self._paired(2)
        await self._web.member(head.member_id).put(
            "profiles", "/members/me/contact", {"delegates": [assistant.member_id]}
        )

    async def _somebody_is_forgotten(self) -> None:
        (leaving,) = self._paired(1)
        self._gone.add(leaving.member_id)
        say(f"  [dim]{escape(leaving.name)} asks to be forgotten.[/]")
        await self._web.member(leaving.member_id).post("profiles", "/members/me/erasure")

    async def _somebody_leaves_the_programme(self) -> None:
        (leaving,) = self._paired(1)
        self._gone.add(leaving.member_id)
        say(f"  [dim]{escape(leaving.name)} leaves the programme.[/]")
        await self._web.member(leaving.member_id).post("profiles", f"/members/me/enrolments/{self._programme}/leave")

    async def _the_nightly_file(self) -> None:
        """HR's file tells who has left the company."""
        leaving = self._paired(3)
        self._gone |= {one.member_id for one in leaving}
        say(f"  [dim]HR's nightly file: {escape(', '.join(one.name for one in leaving))} have left the company.[/]")
        await imported(self._web.admin(), _left({one.external_id for one in leaving}))

    def _paired(self, number: int) -> list[Human]:
        """So many people of running pairings, of different pairings."""
        running = sorted((pair for pair in self._lives.pairs.values() if self._may_lose(pair)), key=_names)
        if len(running) < number:
            raise Failure(
                f"The demo has {len(running)} running pairings and needs {number}.", "Play it with more people."
            )
        chance = Random(f"{SEED} turn {len(self._gone)}")
        return [pair.one_of_them(chance) for pair in chance.sample(running, number)]

    def _may_lose(self, pair: Pair) -> bool:
        return pair.running and not {pair.senior.member_id, pair.junior.member_id} & self._gone


def _names(pair: Pair) -> tuple[str, str]:
    return pair.senior.external_id, pair.junior.external_id


def _left(leaving: set[str]) -> bytes:
    """Their rows of HR's file, as of people who have left."""
    header, *rows = (FOLDER / "people.csv").read_text(encoding="utf-8").splitlines()
    place = header.split(",").index("employment")
    found = [header]
    for row in rows:
        cells = row.split(",")
        if cells[0] in leaving:
            found.append(",".join([*cells[:place], "left", *cells[place + 1 :]]))
    return ("\n".join(found) + "\n").encode()
