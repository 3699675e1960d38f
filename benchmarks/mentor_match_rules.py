"""The rules by which mentor-match's author matches civil servants, and the programme of ours that says the same.

Theirs (jonodrew/mentor-match, ``tasks.py``), in points for a pair:

* disqualified: the same organisation; a gap of more than two grades; no gap, or the mentee above the mentor;
* a gap of one grade: 3; of two: 6;
* the mentor is in the profession that the mentee aims at: 5;
* the mentee's characteristic is among the mentor's: 4;
* somebody without a partner yet: 1 (everybody, in a first round).

Ours, setting by setting:

| theirs | ours |
|---|---|
| organisation | the same manager: all of an organisation report to its head |
| grade | ``level``; the gap is bounded by ``min_level_gap`` and ``max_level_gap``, and earns by ``perspective.gaps`` |
| profession | ``discipline``, which earns by ``perspective.same`` |
| characteristic | a topic: the mentor seeks it, the mentee teaches it |
| being matched at all | one topic that all offer and weakly seek, as no pair is made in which one gains nothing |

Weighted as here, a pair's fit is exactly a 32nd of its points: see ``fit_of``. In later rounds their bonus for who has
nobody yet is our priority for who waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Any, Literal

from contracts.profiles import Enrolment, Offer, ProfileChanged, Seek
from contracts.programmes import (
    Benefit,
    Draw,
    Fairness,
    Floors,
    GapWorth,
    Labels,
    Matching,
    Perspective,
    Places,
    ProgrammeSettings,
    Rules,
    Weights,
    Wishes,
)
from services.matcher.engine.solve import MatchingProblem

PROGRAMME = "civil-service"
TODAY = date(2026, 3, 2)

GAPS = {1: 3, 2: 6}
PROFESSION = 5
CHARACTERISTIC = 4
MATCHED = 1

PERSPECTIVE = 15  # points that a full perspective stands for; no pair earns more by gap and profession
FIRST_WISH = 0.5  # the value of a strong wish: CHARACTERISTIC points
COMMON_WISH = 1 / 17  # the common topic's worth to each side; twice it, over what it leaves, is MATCHED points
PER_POINT = (1 - COMMON_WISH) * FIRST_WISH / CHARACTERISTIC

AS_TOLD: list[list[Any]] = [
    ["same is disqualified", "organisation"],
    ["gap above is disqualified", max(GAPS)],
    ["gap up to is disqualified", 0],
    *(["gap", gap, points] for gap, points in GAPS.items()),
    ["same", "profession", PROFESSION],
    ["mentee's among mentor's", "characteristic", "characteristics", CHARACTERISTIC],
    ["unmatched", MATCHED],
]


@dataclass(frozen=True)
class Servant:
    """Somebody as mentor-match knows them; a mentee has one characteristic, and the profession is the one aimed at."""

    grade: int
    organisation: str
    profession: str
    characteristics: tuple[str, ...]

    def reported(self) -> dict[str, Any]:
        return {
            "grade": self.grade,
            "organisation": self.organisation,
            "profession": self.profession,
            "characteristic": self.characteristics[0],
            "characteristics": list(self.characteristics),
        }


def servants(each: int, seed: int) -> tuple[list[Servant], list[Servant]]:
    """So many made-up mentors and mentees."""
    rng = Random(seed)

    def item(lowest: int, highest: int, characteristics: int) -> Servant:
        return Servant(
            grade=rng.randint(lowest, highest),
            organisation=f"organisation-{rng.randrange(25)}",
            profession=f"profession-{rng.randrange(20)}",
            characteristics=tuple(f"characteristic-{n}" for n in rng.sample(range(8), characteristics)),
        )

    return [item(2, 6, 2) for _ in range(each)], [item(0, 4, 1) for _ in range(each)]


def points(mentor: Servant, mentee: Servant) -> int | None:
    """The points of the pair by their rules; None where it is disqualified."""
    gap = mentor.grade - mentee.grade
    if mentor.organisation == mentee.organisation or gap not in GAPS:
        return None
    return (
        GAPS[gap]
        + PROFESSION * (mentor.profession == mentee.profession)
        + CHARACTERISTIC * (mentee.characteristics[0] in mentor.characteristics)
        + MATCHED
    )


def fit_of(worth: int) -> float:
    """Our score of a pair that is worth so many points."""
    return PER_POINT * worth / (2 + PERSPECTIVE * PER_POINT)


def programme() -> ProgrammeSettings:
    """Their rules in our settings; no fairness pass and no draw, since theirs knows neither."""
    earned = Perspective(
        different=Places(),
        same=Places(discipline=PROFESSION / PERSPECTIVE),
        experience=0,
        gaps=tuple(GapWorth(levels=gap, worth=worth / PERSPECTIVE) for gap, worth in GAPS.items()),
    )
    return ProgrammeSettings(
        labels={"en": Labels(name="Civil service", senior="mentor", junior="mentee")},
        organisations=("civil-service",),
        confidential_contact="speak-up@civil-service.example",
        rules=Rules(min_level_gap=min(GAPS), max_level_gap=max(GAPS), exclude_same_manager=True),
        matching=Matching(
            floors=Floors(benefit=0, compatibility=0),
            weights=Weights(lower_benefit=1, higher_benefit=1, compatibility=0, perspective=PERSPECTIVE * PER_POINT),
            benefit=Benefit(first_wish=FIRST_WISH, wishes=Wishes(weak=COMMON_WISH / FIRST_WISH)),
            perspective=earned,
            fairness=Fairness(max_cost=0),
            draw=Draw(tolerance=0),
        ),
    )


def question(mentors: Sequence[Servant], mentees: Sequence[Servant], seed: int = 1) -> MatchingProblem:
    """Their people as a round of ours."""
    people = [profile(item, "senior", f"mentor-{n:06d}") for n, item in enumerate(mentors)]
    people += [profile(item, "junior", f"mentee-{n:06d}") for n, item in enumerate(mentees)]
    seats = {item.member_id: 1 for item in people}
    return MatchingProblem(PROGRAMME, programme(), people, seats, (), TODAY, seed)


def profile(servant: Servant, side: Literal["senior", "junior"], id: str) -> ProfileChanged:
    """Somebody's profile, as the table above says."""
    offers = [Offer(topic="being-matched", level="teach")]
    seeks = [Seek(topic="being-matched", priority=1)]
    for characteristic in servant.characteristics:
        if side == "senior":
            seeks.append(Seek(topic=characteristic, priority=3))
        else:
            offers.append(Offer(topic=characteristic, level="teach"))
    return ProfileChanged(
        member_id=id,
        organisation_id="civil-service",
        department_id="civil-service",
        discipline_id=servant.profession,
        level=servant.grade + 1,
        line=(f"head-of-{servant.organisation}",),
        offers=tuple(offers),
        seeks=tuple(seeks),
        enrolments=(Enrolment(programme_id=PROGRAMME, side=side, state="ready"),),
    )
