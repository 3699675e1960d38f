"""How the simulated people answer."""

from dataclasses import replace
from random import Random

from cli.demo.preferences import Hidden, answer

ME = Hidden((1.0, 0.0), (0.0, 0.0), frozenset({"negotiation"}), busy=0.0, forgetful=0.0)
LIKED = replace(ME, comes_across=(1.0, 0.0))
DISLIKED = replace(ME, comes_across=(-1.0, 0.0))


def said(me: Hidden, partner: Hidden, *topics: str) -> tuple[str, str | None]:
    return answer(me, partner, topics, Random(1))


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
