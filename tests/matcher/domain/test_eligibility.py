"""The one assessment of a pair: presence, sides, rules and floors."""

from typing import Any

import pytest

from contracts.profiles import ProfileChanged
from services.matcher.domain.fit.eligibility import Eligibility, MatchingTerms, assess, assess_present
from services.matcher.domain.fit.score import compute_fit
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, member, person, settings


def terms(**changes: Any) -> MatchingTerms:
    return MatchingTerms(programme_id=PROGRAMME, settings=settings(**changes), taxonomy=TAXONOMY, on=TODAY)


def assess_pair(
    senior: ProfileChanged | None = None, junior: ProfileChanged | None = None, **changes: Any
) -> Eligibility:
    return assess(senior or person("s"), junior or person("j", "junior"), terms(**changes))


class TestEligibilityPresence:
    def test_a_pair_without_obstacles_is_eligible_with_its_fit(self) -> None:
        eligibility = assess_pair()
        pair = eligibility.find_pair()
        assert pair is not None
        assert (pair.senior.id, pair.junior.id) == ("s", "j")
        assert pair.fit == compute_fit(pair.senior, pair.junior, settings(), TAXONOMY, TODAY)
        assert eligibility.members == (pair.senior, pair.junior)
        assert eligibility.absence is None

    def test_a_missing_profile_counts_as_not_enrolled(self) -> None:
        eligibility = assess(None, person("j", "junior"), terms())
        assert eligibility.senior.member is None
        assert eligibility.absence == "not_enrolled"
        assert eligibility.members is None
        assert eligibility.find_pair() is None

    def test_the_absence_of_the_senior_is_named_first(self) -> None:
        both = assess_pair(person("s", employment="on_leave"), person("j", "junior", enrolment={"state": "invited"}))
        assert (both.absence, both.junior.absence) == ("on_leave", "not_ready")
        assert both.fit is None
        assert both.broken_rules == ()

    def test_a_member_who_left_is_known_but_not_enrolled(self) -> None:
        eligibility = assess_pair(person("s", enrolment={"state": "left"}))
        assert eligibility.senior.member is not None
        assert eligibility.absence == "not_enrolled"


class TestEligibilitySides:
    @pytest.mark.parametrize(("side", "takes_side"), [("senior", True), ("either", True), ("junior", False)])
    def test_a_pair_needs_both_on_their_sides(self, side: str, takes_side: bool) -> None:
        eligibility = assess_pair(person("s", enrolment={"side": side}))
        assert eligibility.senior.takes_side is takes_side
        assert (eligibility.find_pair() is not None) is takes_side
        assert eligibility.members is not None, "presence does not depend on the side"


class TestEligibilityRules:
    def test_rules_are_named_and_forbid_the_pair(self) -> None:
        eligibility = assess_pair(person("s", evaluators=("j",)))
        assert eligibility.broken_rules == ("evaluator",)
        assert eligibility.find_pair() is None

    def test_earlier_partners_are_not_paired_again(self) -> None:
        eligibility = assess(person("s"), person("j", "junior"), terms(), earlier=["j"])
        assert eligibility.broken_rules == ("earlier_partner",)

    @pytest.mark.parametrize("avoid", [(("j",), ()), ((), ("s",)), (("j",), ("s",))])
    def test_a_private_wish_is_no_rule(self, avoid: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        eligibility = assess_pair(person("s", avoid=avoid[0]), person("j", "junior", avoid=avoid[1]))
        assert eligibility.broken_rules == ()
        assert eligibility.find_pair() is not None


class TestEligibilityFloors:
    def test_a_pair_below_a_floor_is_not_eligible(self) -> None:
        eligibility = assess_pair(person("s", seeks={}))
        assert eligibility.shortfalls == ("nothing_for_senior",)
        assert eligibility.broken_rules == ()
        assert eligibility.find_pair() is None


def test_two_present_members_are_assessed_alike() -> None:
    senior, junior = person("s"), person("j", "junior", avoid=("s",))
    assert assess_present(member(senior), member(junior), terms()) == assess(senior, junior, terms())
