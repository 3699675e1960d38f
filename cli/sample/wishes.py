"""What each person would enter when joining, and what they never tell anyone: by that they answer in the demo.

The hidden part is drawn here, from nothing that the matcher computes: a taste in people, a way of coming across,
topics that really draw them, how busy and how forgetful they are.
"""

from collections.abc import Sequence

from cli.sample.company import FRESH, SEASONED
from cli.sample.seeded_random import Chance
from cli.sample.workforce import Worker

STATEMENTS = (
    ("candour_plain", "candour_gentle"),
    ("pace_try", "pace_plan"),
    ("change_enjoy", "change_proven"),
    ("debate_lively", "debate_common"),
)
"""Each dimension is asked twice, in opposite words."""

_SENIOR_FROM, _JUNIOR_TO = 11, 9
_TRAITS = 4
"""Of a hidden taste and of how somebody comes across; what they mean is nobody's business."""


def wishes_of(chance: Chance, worker: Worker, everybody: Sequence[Worker]) -> dict[str, object]:
    side = _side(worker)
    joins = {"senior": 0.84, "either": 0.6, "junior": 0.5}[side]
    offers, seeks = _topics(chance, worker, side)
    return {
        "joins": chance.happens(joins) and worker.employment == "active",
        "side": side,
        "capacity": 2 if side == "senior" and chance.happens(0.35) else 1,
        "experience_band": _experience(chance, worker),
        "offers": [{"topic": topic, "level": chance.one(("explain", "use", "teach"))} for topic in offers],
        "seeks": [{"topic": topic, "priority": chance.between(1, 3)} for topic in seeks],
        "languages": _languages(chance, worker),
        "availability": _availability(chance, worker),
        "meeting_mode": chance.weighted((("either", 6), ("remote", 3), ("in_person", 1))),
        "statements": _statements(chance),
        "avoid": _avoided(chance, worker, everybody),
        "hidden": {
            "taste": [_around_zero(chance) for _ in range(_TRAITS)],
            "comes_across": [_around_zero(chance) for _ in range(_TRAITS)],
            "drawn_to": sorted({*chance.some(seeks, 2), *chance.some((*FRESH, *SEASONED), 2)}),
            "busy": round(chance.share() * (0.5 + worker.level / 40), 3),
            "forgetful": round(chance.share() ** 3 * 0.6, 3),
        },
    }


def _side(worker: Worker) -> str:
    if worker.level >= _SENIOR_FROM:
        return "senior"
    return "junior" if worker.level <= _JUNIOR_TO else "either"


def _topics(chance: Chance, worker: Worker, side: str) -> tuple[list[str], list[str]]:
    """What they offer and what they seek; nobody seeks what they offer."""
    fresh, seasoned = {"senior": (1, 3), "either": (2, 2), "junior": (3, 1)}[side]
    offers = chance.some(worker.department.knows, chance.between(1, 3))
    offers += chance.some(FRESH, fresh) + chance.some(SEASONED, seasoned)
    offers = list(dict.fromkeys(offers))
    seeks = chance.some(FRESH, seasoned + 1) + chance.some(SEASONED, fresh + 1)
    return offers, [topic for topic in seeks if topic not in offers]


def _experience(chance: Chance, worker: Worker) -> int:
    """A band of years in the field, 0 to 5, that goes roughly with the grade."""
    return max(0, min(5, (worker.level + chance.between(-3, 3)) // 4))


def _languages(chance: Chance, worker: Worker) -> list[str]:
    spoken = [worker.site.local_language]
    if spoken[0] != "en" and (worker.level >= 6 or chance.happens(0.8)):
        spoken.append("en")
    if chance.happens(0.15):
        spoken.append(chance.one(("de", "es", "fr", "pl", "tr")))
    return list(dict.fromkeys(spoken))


def _availability(chance: Chance, worker: Worker) -> dict[str, object]:
    if worker.shift:
        return {"kind": "rotating", "windows": []}
    if chance.happens(0.2):
        return {"kind": "by_arrangement", "windows": []}
    windows: list[dict[str, int]] = []
    for weekday in sorted(chance.some(range(5), chance.between(3, 5))):
        start = 60 * chance.between(8, 12)
        windows.append({"weekday": weekday, "start": start, "end": start + 60 * chance.between(3, 6)})
    return {"kind": "weekly", "windows": windows}


def _statements(chance: Chance) -> dict[str, int]:
    """Answers from -2 to 2; now and then one is skipped. Opposite ones mostly, not always, get opposite answers."""
    answers: dict[str, int] = {}
    for one, other in STATEMENTS:
        leaning = chance.between(-2, 2)
        opposite = max(-2, min(2, -leaning + chance.between(-1, 1)))
        answers |= {one: leaning, other: opposite}
    return {name: answer for name, answer in answers.items() if not chance.happens(0.04)}


def _avoided(chance: Chance, worker: Worker, everybody: Sequence[Worker]) -> list[str]:
    if not chance.happens(0.04):
        return []
    return [chance.one([other for other in everybody if other is not worker]).external_id]


def _around_zero(chance: Chance) -> float:
    return round(chance.share() + chance.share() - 1, 3)
