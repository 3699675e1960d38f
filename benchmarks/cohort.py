"""A made-up company of any size, for benchmarks and large tests; fast, and equal for equal seeds.

As in a real company, topics are unevenly popular, departments know different topics, sites speak different languages,
and some people skip a question. Half of the people are seniors.
"""

from collections.abc import Sequence
from datetime import date
from functools import cache
from itertools import accumulate
from random import Random

from cli.sample.company import FRESH_TOPICS, SEASONED_TOPICS, SITES, Site
from contracts.profiles import Availability, Enrolment, Offer, ProfileChanged, Seek, Style, Window
from contracts.programmes import Labels, ProgrammeSettings
from contracts.taxonomy import load
from services.matcher.engine.solve import MatchingProblem

PROGRAMME = "benchmark"
TODAY = date(2026, 3, 2)

_EACH = 6  # topics offered, and as many sought
_SPAN = 8  # people who report to one manager
_DEPARTMENT = 400  # people in a department
_TOPICS_PER_DEPARTMENT = 12  # topics that come with a department's jobs
_LEVELS = {"senior": (9, 20), "junior": (1, 9)}
_LEANINGS = [n / 2 for n in range(-4, 5)]
_SKIPPED = 0.1  # statements about style
_WEEKLY, _ROTATING = 0.6, 0.75  # shares of people with stated hours and, above, of shift workers
_AVOIDING = 0.04


def settings() -> ProgrammeSettings:
    """A programme with every default, for two organisations that do not mix."""
    return ProgrammeSettings(
        labels={"en": Labels(name="Benchmark")},
        organisations=("acme", "daughter"),
        confidential_contact="speak-up@acme.example",
    )


def question(
    people: Sequence[ProfileChanged], rules: ProgrammeSettings | None = None, seed: int = 1
) -> MatchingProblem:
    """A round for all of them, with the capacities of their enrolments."""
    seats = {item.member_id: item.enrolments[0].capacity for item in people}
    return MatchingProblem(PROGRAMME, rules or settings(), people, seats, (), TODAY, seed, lottery_seed=seed)


def cohort(people: int, seed: int = 1, two_places: float = 0.0) -> list[ProfileChanged]:
    """Profiles, seniors first; ``two_places``: the share of seniors with two seats."""
    rng = Random(seed)
    topics = sorted(topic.id for topic in load().topics)
    popular = {"senior": _popularity(rng, topics, FRESH_TOPICS), "junior": _popularity(rng, topics, SEASONED_TOPICS)}
    departments = [
        (f"department-{n}", rng.sample(topics, _TOPICS_PER_DEPARTMENT)) for n in range(max(4, people // _DEPARTMENT))
    ]
    ids = [f"{n:06d}-{rng.getrandbits(32):08x}" for n in range(people)]
    levels = [rng.randint(*_LEVELS[_side(n, people)]) for n in range(people)]
    at = [rng.randrange(len(departments)) for _ in ids]
    lines = _lines(ids, levels, at)
    made = []
    for n, id in enumerate(ids):
        side, other = ("senior", "junior") if _side(n, people) == "senior" else ("junior", "senior")
        department, existing = departments[at[n]]
        site = rng.choice(SITES)
        offered = list(dict.fromkeys([*rng.sample(existing, _EACH // 2), *_some(rng, topics, popular[other])]))[:_EACH]
        sought = [topic for topic in _some(rng, topics, popular[side]) if topic not in offered][:_EACH]
        avoided = rng.choice(ids) if rng.random() < _AVOIDING else id
        made.append(
            ProfileChanged(
                member_id=id,
                organisation_id="acme" if rng.random() < 0.9 else "daughter",
                department_id=department,
                site_id=site.id if rng.random() < 0.95 else None,
                discipline_id=f"discipline-{rng.randrange(12)}" if rng.random() < 0.9 else None,
                level=levels[n] if rng.random() < 0.97 else None,
                experience_band=max(0, min(5, (levels[n] + rng.randint(-3, 3)) // 4)),
                line=lines[n],
                offers=tuple(_offer(topic, rng.choice(("explain", "use", "teach"))) for topic in offered),
                seeks=tuple(_seek(topic, rng.randint(1, 3)) for topic in sought),
                languages=_languages(rng, site),
                time_zone=site.time_zone,
                availability=_availability(rng),
                style=_style(rng),
                avoid=() if avoided == id else (avoided,),
                enrolments=(_enrolment(side, 2 if side == "senior" and rng.random() < two_places else 1),),
            )
        )
    return made


def _side(n: int, people: int) -> str:
    return "senior" if 2 * n < people else "junior"


def _popularity(rng: Random, topics: Sequence[str], favourites: Sequence[str]) -> list[float]:
    """A long tail over all topics, summed up; the favourites of a side are some times as popular."""
    ranks = rng.sample(range(1, len(topics) + 1), len(topics))
    return list(
        accumulate(
            rank**-0.5 * (4.0 if topic in favourites else 1.0) for topic, rank in zip(topics, ranks, strict=True)
        )
    )


def _some(rng: Random, topics: Sequence[str], popularity: Sequence[float]) -> list[str]:
    """Different ones, the first drawn first; rarely fewer than are wanted."""
    return list(dict.fromkeys(rng.choices(topics, cum_weights=popularity, k=3 * _EACH)))


def _lines(ids: Sequence[str], levels: Sequence[int], at: Sequence[int]) -> list[tuple[str, ...]]:
    """The managers above each, nearest first: in each department a tree, the most senior at its top."""
    staff: dict[int, list[int]] = {}
    for n in sorted(range(len(ids)), key=lambda n: (-levels[n], n)):
        staff.setdefault(at[n], []).append(n)
    above: list[tuple[str, ...]] = [()] * len(ids)
    for people in staff.values():
        for position, n in enumerate(people[1:]):
            boss = people[position // _SPAN]
            above[n] = (ids[boss], *above[boss])[:3]
    return above


def _languages(rng: Random, site: Site) -> tuple[str, ...]:
    spoken = [site.local_language, *(["en"] if rng.random() < 0.85 else [])]
    return () if rng.random() < 0.03 else tuple(dict.fromkeys(spoken))


def _availability(rng: Random) -> Availability:
    answer = rng.random()
    if answer >= _WEEKLY:
        return Availability(kind="rotating" if answer < _ROTATING else "by_arrangement")
    windows = []
    for day in sorted(rng.sample(range(5), rng.randint(2, 5))):
        start = 30 * rng.randint(16, 28)
        windows.append(_window(day, start, start + 30 * rng.randint(4, 12)))
    return Availability(kind="weekly", windows=tuple(windows))


def _style(rng: Random) -> Style:
    a, b, c, d = (None if rng.random() < _SKIPPED else rng.choice(_LEANINGS) for _ in range(4))
    return Style(candour=a, pace=b, change=c, debate=d)


# Values are frozen, so that a hundred thousand profiles can share them.


@cache
def _offer(topic: str, level: str) -> Offer:
    return Offer.model_validate({"topic": topic, "level": level})


@cache
def _seek(topic: str, priority: int) -> Seek:
    return Seek(topic=topic, priority=priority)


@cache
def _window(weekday: int, start: int, end: int) -> Window:
    return Window(weekday=weekday, start=start, end=end)


@cache
def _enrolment(side: str, capacity: int) -> Enrolment:
    return Enrolment.model_validate({"programme_id": PROGRAMME, "side": side, "capacity": capacity, "state": "ready"})
