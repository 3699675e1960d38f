"""The entries of each person when they join, and their hidden traits, by which they decide in the demo.

The hidden traits use nothing that the matcher computes: a taste in people, a way of coming across, attractive topics,
and how busy and how forgetful the person is.
"""

from collections.abc import Sequence

from cli.sample.company import FRESH_TOPICS, SEASONED_TOPICS
from cli.sample.seeded_random import SeededRandom
from cli.sample.workforce import Worker

STATEMENTS = (
    ("candour_plain", "candour_gentle"),
    ("pace_try", "pace_plan"),
    ("change_enjoy", "change_proven"),
    ("debate_lively", "debate_common"),
)
"""Each dimension has two opposite statements."""

_MIN_SENIOR_LEVEL, _MAX_JUNIOR_LEVEL = 11, 9
_TRAIT_COUNT = 4
"""Number of hidden traits in a taste and in how somebody comes across. They have no meaning."""


def generate_wishes(random: SeededRandom, worker: Worker, everybody: Sequence[Worker]) -> dict[str, object]:
    side = _choose_side(worker)
    joins = {"senior": 0.84, "either": 0.6, "junior": 0.5}[side]
    offers, seeks = _choose_topics(random, worker, side)
    return {
        "joins": random.is_true(joins) and worker.employment == "active",
        "side": side,
        "capacity": 2 if side == "senior" and random.is_true(0.35) else 1,
        "experience_band": _choose_experience_band(random, worker),
        "offers": [{"topic": topic, "level": random.choose(("explain", "use", "teach"))} for topic in offers],
        "seeks": [{"topic": topic, "priority": random.integer(1, 3)} for topic in seeks],
        "languages": _choose_languages(random, worker),
        "availability": _choose_availability(random, worker),
        "meeting_mode": random.choose_weighted((("either", 6), ("remote", 3), ("in_person", 1))),
        "statements": _choose_statement_answers(random),
        "avoid": _choose_avoided(random, worker, everybody),
        "hidden": {
            "taste": [_random_trait(random) for _ in range(_TRAIT_COUNT)],
            "comes_across": [_random_trait(random) for _ in range(_TRAIT_COUNT)],
            "drawn_to": sorted({*random.sample(seeks, 2), *random.sample((*FRESH_TOPICS, *SEASONED_TOPICS), 2)}),
            "busy": round(random.uniform() * (0.5 + worker.level / 40), 3),
            "forgetful": round(random.uniform() ** 3 * 0.6, 3),
        },
    }


def _choose_side(worker: Worker) -> str:
    if worker.level >= _MIN_SENIOR_LEVEL:
        return "senior"
    return "junior" if worker.level <= _MAX_JUNIOR_LEVEL else "either"


def _choose_topics(random: SeededRandom, worker: Worker, side: str) -> tuple[list[str], list[str]]:
    """Topics that the person offers, and topics that they seek. Nobody seeks a topic that they offer."""
    fresh, seasoned = {"senior": (1, 3), "either": (2, 2), "junior": (3, 1)}[side]
    offers = random.sample(worker.department.knows, random.integer(1, 3))
    offers += random.sample(FRESH_TOPICS, fresh) + random.sample(SEASONED_TOPICS, seasoned)
    offers = list(dict.fromkeys(offers))
    seeks = random.sample(FRESH_TOPICS, seasoned + 1) + random.sample(SEASONED_TOPICS, fresh + 1)
    return offers, [topic for topic in seeks if topic not in offers]


def _choose_experience_band(random: SeededRandom, worker: Worker) -> int:
    """The band of years in the field, 0 to 5. It is roughly proportional to the grade."""
    return max(0, min(5, (worker.level + random.integer(-3, 3)) // 4))


def _choose_languages(random: SeededRandom, worker: Worker) -> list[str]:
    spoken = [worker.site.local_language]
    if spoken[0] != "en" and (worker.level >= 6 or random.is_true(0.8)):
        spoken.append("en")
    if random.is_true(0.15):
        spoken.append(random.choose(("de", "es", "fr", "pl", "tr")))
    return list(dict.fromkeys(spoken))


def _choose_availability(random: SeededRandom, worker: Worker) -> dict[str, object]:
    if worker.shift:
        return {"kind": "rotating", "windows": []}
    if random.is_true(0.2):
        return {"kind": "by_arrangement", "windows": []}
    windows: list[dict[str, int]] = []
    for weekday in sorted(random.sample(range(5), random.integer(3, 5))):
        start = 60 * random.integer(8, 12)
        windows.append({"weekday": weekday, "start": start, "end": start + 60 * random.integer(3, 6)})
    return {"kind": "weekly", "windows": windows}


def _choose_statement_answers(random: SeededRandom) -> dict[str, int]:
    """Answers from -2 to 2. A few are skipped. Opposite statements mostly, but not always, get opposite answers."""
    answers: dict[str, int] = {}
    for statement, opposite_statement in STATEMENTS:
        leaning = random.integer(-2, 2)
        opposite = max(-2, min(2, -leaning + random.integer(-1, 1)))
        answers |= {statement: leaning, opposite_statement: opposite}
    return {name: answer for name, answer in answers.items() if not random.is_true(0.04)}


def _choose_avoided(random: SeededRandom, worker: Worker, everybody: Sequence[Worker]) -> list[str]:
    if not random.is_true(0.04):
        return []
    return [random.choose([other for other in everybody if other is not worker]).external_id]


def _random_trait(random: SeededRandom) -> float:
    return round(random.uniform() + random.uniform() - 1, 3)
