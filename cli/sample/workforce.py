"""The staff of the sample company, as a tree of reporting lines from the chief down to the shop floor."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from cli.sample.company import DEPARTMENTS, MAIN, SISTER, SISTER_DEPARTMENTS, SISTER_SITE, SITES, Department, Site
from cli.sample.names import ALL_CULTURES, NAMES
from cli.sample.seeded_random import SeededRandom

_LAYERS = ((1, 17, 18), (2, 14, 16), (3, 11, 13), (4, 8, 10), (5, 1, 7))
"""The layers below the chief: distance from the top, lowest and highest grade."""
_REPORTS_PER_MANAGER = (1, 18, 8, 4)
"""A department has one head. The other numbers: people for each director, each manager and each team lead."""
_SHARE_WITHOUT_EMAIL = 0.29
"""Share of shift workers without an address. Others all have one, so about one person in twelve has none."""


@dataclass
class Worker:
    """One row of the HR file, with the data from which the wishes are generated."""

    external_id: str
    name: str
    organisation: str
    department: Department
    layer: int
    level: int
    site: Site
    discipline: str
    manager: "Worker | None"
    shift: bool
    email: str = ""
    evaluators: list["Worker"] = field(default_factory=list)
    employment: str = "active"
    employed_until: str = ""


class _UniqueNames:
    """Draws names and employee numbers that are unique."""

    def __init__(self, random: SeededRandom) -> None:
        self._chance = random
        self._names: set[str] = set()
        self._numbers: set[int] = set()

    def name(self, site: Site) -> str:
        while True:
            culture = (
                self._chance.choose(ALL_CULTURES)
                if self._chance.is_true(0.2)
                else self._chance.choose_weighted(site.cultures)
            )
            given, family = NAMES[culture]
            name = f"{self._chance.choose(given.split())} {self._chance.choose(family.split('|'))}"
            if name not in self._names:
                self._names.add(name)
                return name

    def number(self) -> str:
        while True:
            number = self._chance.integer(10_000, 99_999)
            if number not in self._numbers:
                self._numbers.add(number)
                return f"E{number}"


def generate_workforce(random: SeededRandom) -> list[Worker]:
    """All people from the top down. A manager always comes before their reports."""
    register = _UniqueNames(random)
    office = DEPARTMENTS[0]
    chief = _hire(random, register, MAIN, office, 0, 20, SITES[0], None)
    everybody = [chief]
    for department in DEPARTMENTS:
        everybody += _staff_department(random, register, MAIN, department, department.people, department.sites, chief)
    by_id = {department.id: department for department in DEPARTMENTS}
    leeds = next(site for site in SITES if site.id == SISTER_SITE)
    director = _hire(random, register, SISTER, by_id["field-service"], 0, 19, leeds, None)
    everybody.append(director)
    for name, people in SISTER_DEPARTMENTS:
        everybody += _staff_department(random, register, SISTER, by_id[name], people, (SISTER_SITE,), director)
    _add_circumstances(random, everybody)
    return everybody


def _staff_department(
    random: SeededRandom,
    register: _UniqueNames,
    organisation: str,
    department: Department,
    people: int,
    site_ids: Sequence[str],
    top: Worker,
) -> list[Worker]:
    sites = [(site, site.people) for site in SITES if site.id in site_ids]
    counts = [1, *(people // span for span in _REPORTS_PER_MANAGER[1:])]
    counts.append(people - sum(counts))
    managers, staff = [top], []
    for (layer, low, high), number in zip(_LAYERS, counts, strict=True):
        hired = []
        for _ in range(number):
            site = random.choose_weighted(sites)
            local_managers = [manager for manager in managers if manager.site is site] or managers
            level = random.integer(low, high)
            hired.append(
                _hire(random, register, organisation, department, layer, level, site, random.choose(local_managers))
            )
        staff += hired
        managers = hired or managers
    return staff


def _hire(
    random: SeededRandom,
    register: _UniqueNames,
    organisation: str,
    department: Department,
    layer: int,
    level: int,
    site: Site,
    manager: Worker | None,
) -> Worker:
    return Worker(
        external_id=register.number(),
        name=register.name(site),
        organisation=organisation,
        department=department,
        layer=layer,
        level=level,
        site=site,
        discipline=random.choose(department.disciplines),
        manager=manager,
        shift=layer >= 4 and random.is_true(department.shifts),
    )


def _add_circumstances(random: SeededRandom, everybody: list[Worker]) -> None:
    """Add e-mail addresses, additional evaluators, leave, and people who are leaving."""
    experienced = [worker for worker in everybody if worker.level >= 12]
    for worker in everybody:
        if not (worker.shift and random.is_true(_SHARE_WITHOUT_EMAIL)):
            worker.email = _email_address(worker)
        if worker.layer >= 3 and random.is_true(0.06):
            candidates = [
                manager
                for manager in experienced
                if manager.organisation == worker.organisation and manager is not worker.manager
            ]
            worker.evaluators = random.sample(candidates, random.integer(1, 2))
        if worker.layer < 2:
            continue
        draw = random.uniform()
        if draw < 0.03:
            worker.employment = "on_leave"
        elif draw < 0.05:
            worker.employment = "leaving"
            worker.employed_until = f"2026-{random.integer(4, 9):02d}-{random.integer(1, 28):02d}"


def _email_address(worker: Worker) -> str:
    plain = unicodedata.normalize("NFKD", worker.name.translate(str.maketrans("đĐłŁıøØ", "dDlLioO")))
    local_part = "".join(
        character for character in plain.lower().replace(" ", ".") if character.isascii() and character != "'"
    )
    return f"{local_part}@{worker.organisation}.example"
