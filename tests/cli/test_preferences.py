"""How the simulated people answer."""

from collections import Counter
from dataclasses import replace
from random import Random

from cli.demo.preferences import HiddenTraits, answer_checkin, decide_answer, decide_meeting, decide_without_forgetting

ME = HiddenTraits((1.0, 0.0), (0.0, 0.0), frozenset({"negotiation"}), busy=0.0, forgetful=0.0)
LIKED = replace(ME, comes_across=(1.0, 0.0))
DISLIKED = replace(ME, comes_across=(-1.0, 0.0))


def said(me: HiddenTraits, partner: HiddenTraits, *topics: str) -> tuple[str, str | None]:
    return decide_answer(me, partner, topics, Random(1))


def test_they_accept_whom_they_like_and_decline_whom_they_do_not() -> None:
    assert said(ME, LIKED) == ("accept", None)
    assert said(ME, DISLIKED) == ("decline", "topics_do_not_fit")


def test_a_topic_that_draws_them_can_tip_the_scales() -> None:
    doubtful = replace(ME, comes_across=(-0.6, 0.0))
    assert said(ME, doubtful)[0] == "decline"
    assert said(ME, doubtful, "negotiation")[0] == "accept"


def test_the_busy_decline_for_want_of_time() -> None:
    assert said(replace(ME, busy=1.0), replace(ME, comes_across=(-0.1, 0.0))) == ("decline", "no_time")


def test_the_forgetful_do_not_answer() -> None:
    assert said(replace(ME, forgetful=1.0), LIKED) == ("forget", None)


def test_whoever_does_not_forget_says_the_same_by_heart() -> None:
    assert decide_without_forgetting(ME, LIKED, ()) == said(ME, LIKED)
    assert decide_without_forgetting(ME, DISLIKED, ()) == said(ME, DISLIKED)


def test_most_meetings_take_place_and_the_busy_call_off_more() -> None:
    def shares(human: HiddenTraits) -> Counter[str]:
        return Counter(decide_meeting(human, human, Random(seed)) for seed in range(500))

    idle, busy = shares(ME), shares(replace(ME, busy=1.0, forgetful=0.5))
    assert idle["held"] > 400
    assert set(busy) == {"held", "moved", "cancelled", "missed"}
    assert busy["cancelled"] > idle["cancelled"]
    assert busy["missed"] > idle["missed"]


def test_who_likes_whom_they_meet_speaks_better_of_it_with_time() -> None:
    def agrees(liked: float, months: float, item: str) -> float:
        given = [answer_checkin((item,), liked, months, Random(seed))[item] for seed in range(200)]
        rated = [one for one in given if one is not None]
        assert set(rated) <= {1, 2, 3, 4, 5}
        assert len(rated) < len(given), "some say nothing"
        return sum(rated) / len(rated)

    assert agrees(1, 5, "5") > agrees(1, 0, "5") > agrees(-1, 0, "5")
    assert agrees(1, 5, "8") < agrees(-1, 0, "8"), "agreeing to this one is a complaint"
