"""The answers and decisions of the simulated people."""

from collections import Counter
from dataclasses import replace
from random import Random

from cli.demo.preferences import HiddenTraits, answer_checkin, decide_answer, decide_meeting, decide_without_forgetting

ME = HiddenTraits((1.0, 0.0), (0.0, 0.0), frozenset({"negotiation"}), busy=0.0, forgetful=0.0)
LIKED = replace(ME, comes_across=(1.0, 0.0))
DISLIKED = replace(ME, comes_across=(-1.0, 0.0))


def decide(me: HiddenTraits, partner: HiddenTraits, *topics: str) -> tuple[str, str | None]:
    return decide_answer(me, partner, topics, Random(1))


class TestProposalAnswers:
    def test_liked_partners_are_accepted_and_others_declined(self) -> None:
        assert decide(ME, LIKED) == ("accept", None)
        assert decide(ME, DISLIKED) == ("decline", "topics_do_not_fit")

    def test_an_attractive_topic_can_decide(self) -> None:
        doubtful = replace(ME, comes_across=(-0.6, 0.0))
        assert decide(ME, doubtful)[0] == "decline"
        assert decide(ME, doubtful, "negotiation")[0] == "accept"

    def test_busy_people_decline_for_lack_of_time(self) -> None:
        assert decide(replace(ME, busy=1.0), replace(ME, comes_across=(-0.1, 0.0))) == ("decline", "no_time")

    def test_forgetful_people_do_not_answer(self) -> None:
        assert decide(replace(ME, forgetful=1.0), LIKED) == ("forget", None)

    def test_the_answer_without_forgetting_is_the_same(self) -> None:
        assert decide_without_forgetting(ME, LIKED, ()) == decide(ME, LIKED)
        assert decide_without_forgetting(ME, DISLIKED, ()) == decide(ME, DISLIKED)


class TestMeetingOutcomes:
    def test_most_meetings_take_place_and_busy_people_cancel(self) -> None:
        def shares(traits: HiddenTraits) -> Counter[str]:
            return Counter(decide_meeting(traits, traits, Random(seed)) for seed in range(500))

        idle, busy = shares(ME), shares(replace(ME, busy=1.0, forgetful=0.5))
        assert idle["held"] > 400
        assert set(busy) == {"held", "moved", "cancelled", "missed"}
        assert busy["cancelled"] > idle["cancelled"]
        assert busy["missed"] > idle["missed"]

    def test_ratings_of_a_liked_partner_rise_with_time(self) -> None:
        def agrees(liked: float, months: float, item: str) -> float:
            answers = [answer_checkin((item,), liked, months, Random(seed))[item] for seed in range(200)]
            ratings = [rating for rating in answers if rating is not None]
            assert set(ratings) <= {1, 2, 3, 4, 5}
            assert len(ratings) < len(answers), "some leave the item out"
            return sum(ratings) / len(ratings)

        assert agrees(1, 5, "5") > agrees(1, 0, "5") > agrees(-1, 0, "5")
        assert agrees(1, 5, "8") < agrees(-1, 0, "8"), "agreeing to this one is a complaint"
