"""Planned events of the company: Mondays with suggestions, HR's file, people who leave or ask for erasure."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from random import Random

from rich.markup import escape

from cli.console import Failure, print_line
from cli.demo.hr import import_file
from cli.demo.http_client import DemoCaller, DemoServices, RequestRefused
from cli.demo.personas import Persona
from cli.demo.simulated_members import DAY, SEED, DemoPair, SimulatedMembers
from cli.sample.generate import FOLDER

_MAX_SUGGESTIONS = 4
"""Suggestions that the coordinator accepts on one Monday."""
_EXPECTED_REFUSALS = frozenset(
    {"no_seat", "not_available", "not_possible", "already_partners", "no_longer_possible", "closed"}
)


class ScriptedEvents:
    """Adds the events to the people's agenda. The people concerned are drawn from the pairs of that time."""

    def __init__(
        self, services: DemoServices, members: SimulatedMembers, programme: str, coordinator: Persona, chair: DemoCaller
    ) -> None:
        self._web, self._lives, self._programme, self._chair = services, members, programme, chair
        self._spared = {coordinator.member_id}

    def plan(self, begins: datetime, mondays_until: datetime) -> None:
        events: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
            (30.3, self._name_an_assistant),
            (58.3, self._erase_somebody),
            (75.3, self._leave_the_programme),
            (92.9, self._import_nightly_file),
            (131.3, self._erase_somebody),
        )
        for days, action in events:
            self._lives.plan(begins + days * DAY, "company", action)
        monday = begins + 35.1 * DAY
        while monday < mondays_until:
            self._lives.plan(monday, "coordinator", self._release_suggestions)
            monday += 7 * DAY

    async def _release_suggestions(self) -> None:
        """Read the care list, then pair some of the free people."""
        care = await self._chair.get("feedback", f"/programmes/{self._programme}/care", help_wanted="true")
        suggestions = await self._chair.post(
            "matcher", f"/programmes/{self._programme}/suggestions?limit={_MAX_SUGGESTIONS}"
        )
        self._lives.action_counts["offered help to a pair"] += len(care["items"])
        for suggestion in suggestions["items"]:
            pair = {side: suggestion[side] for side in ("senior", "junior")}
            try:
                await self._chair.post("matcher", f"/programmes/{self._programme}/pairings", pair)
            except RequestRefused as refusal:
                if refusal.reason not in _EXPECTED_REFUSALS:
                    raise
            else:
                self._lives.action_counts["suggested by the coordinator"] += 1

    async def _name_an_assistant(self) -> None:
        """Let a person name an assistant, who sees only the times of meetings."""
        head, assistant = self._choose_paired(2)
        await self._web.member(head.member_id).put(
            "profiles", "/members/me/contact", {"delegates": [assistant.member_id]}
        )

    async def _erase_somebody(self) -> None:
        (leaving,) = self._choose_paired(1)
        self._spared.add(leaving.member_id)
        print_line(f"  [dim]{escape(leaving.name)} asks for erasure.[/]")
        await self._web.member(leaving.member_id).post("profiles", "/members/me/erasure")

    async def _leave_the_programme(self) -> None:
        (leaving,) = self._choose_paired(1)
        self._spared.add(leaving.member_id)
        print_line(f"  [dim]{escape(leaving.name)} leaves the programme.[/]")
        await self._web.member(leaving.member_id).post("profiles", f"/members/me/enrolments/{self._programme}/leave")

    async def _import_nightly_file(self) -> None:
        """Import HR's file with people who have left the company."""
        leaving = self._choose_paired(3)
        self._spared |= {person.member_id for person in leaving}
        names = escape(", ".join(person.name for person in leaving))
        print_line(f"  [dim]HR's nightly file: {names} have left the company.[/]")
        await import_file(self._web.admin(), _build_leavers_file({person.external_id for person in leaving}))

    def _choose_paired(self, number: int) -> list[Persona]:
        """This number of people from running pairings, each of another pairing."""
        running = sorted((pair for pair in self._lives.pairs.values() if self._may_lose(pair)), key=_sort_key)
        if len(running) < number:
            raise Failure(
                f"The demo has {len(running)} running pairings and needs {number}.", "Run it with more people."
            )
        chance = Random(f"{SEED} turn {len(self._spared)}")
        return [pair.choose_one(chance) for pair in chance.sample(running, number)]

    def _may_lose(self, pair: DemoPair) -> bool:
        return pair.is_running and not {pair.senior.member_id, pair.junior.member_id} & self._spared


def _sort_key(pair: DemoPair) -> tuple[str, str]:
    return pair.senior.external_id, pair.junior.external_id


def _build_leavers_file(leaving: set[str]) -> bytes:
    """Their rows of HR's file, with the employment state ``left``."""
    header, *rows = (FOLDER / "people.csv").read_text(encoding="utf-8").splitlines()
    column = header.split(",").index("employment")
    lines = [header]
    for row in rows:
        cells = row.split(",")
        if cells[0] in leaving:
            lines.append(",".join([*cells[:column], "left", *cells[column + 1 :]]))
    return ("\n".join(lines) + "\n").encode()
