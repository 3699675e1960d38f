"""The fit of two members: each hard rule, the benefit for each side, compatibility, and the texts of the reasons."""

from collections import Counter
from datetime import date
from itertools import pairwise, product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contracts.profiles import Absence, Offer, ProfileChanged, Seek, Style
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.calendar import add_months, count_shared_minutes, get_free_time
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.score import (
    STYLE_BANDS,
    STYLE_DIMENSIONS,
    UNANSWERED_SHARE,
    compare_styles,
    compute_benefit,
    compute_compatibility,
    compute_fit,
    compute_perspective,
    cover_wishes,
)
from tests.matcher.builders import (
    PROGRAMME,
    TAXONOMY,
    TODAY,
    any_settings,
    cohorts,
    member,
    person,
    settings,
    weekly,
)

SENIOR, JUNIOR = person("s"), person("j", "junior")
MARKS = settings().matching.benefit
OFFICE_HOURS = weekly(*[(day, 9 * 60, 17 * 60) for day in range(5)])


def broken(senior: ProfileChanged, junior: ProfileChanged, **changes: object) -> tuple[str, ...]:
    return hard_rules.find_broken_rules(member(senior), member(junior), settings(**changes), TODAY)


class TestFitHardRules:
    def test_pair_without_obstacles_breaks_no_rule(self) -> None:
        assert broken(SENIOR, JUNIOR) == ()

    @pytest.mark.parametrize(
        ("senior", "junior", "rule"),
        [
            ({"level": 6}, {"level": 5}, "level_gap"),
            ({}, {"line": ("a", "b", "s")}, "reporting_line"),
            ({"line": ("j",)}, {}, "reporting_line"),
            ({"line": ("boss",)}, {"line": ("boss", "top")}, "same_manager"),
            ({}, {"evaluators": ("s",)}, "evaluator"),
            ({"evaluators": ("j",)}, {}, "evaluator"),
            ({"languages": ("de",)}, {"languages": ("en-GB", "fr")}, "no_common_language"),
            ({}, {"organisation_id": "daughter"}, "other_organisation"),
        ],
    )
    def test_each_hard_rule_excludes(self, senior: dict[str, object], junior: dict[str, object], rule: str) -> None:
        assert broken(person("s", **senior), person("j", "junior", **junior)) == (rule,)  # type: ignore[arg-type]

    def test_missing_data_excludes_nobody(self) -> None:
        assert broken(person("s", level=None), JUNIOR) == ()
        assert broken(person("s", languages=("de",)), JUNIOR) == ()
        assert broken(person("s", availability=OFFICE_HOURS), JUNIOR) == (), (
            "one time zone is missing, and the other member has no entry"
        )

    def test_line_counts_up_to_the_depth_of_the_programme(self) -> None:
        far = person("j", "junior", line=("a", "b", "s"))
        assert broken(SENIOR, far, rules__line_depth=2) == ()
        assert broken(SENIOR, far, rules__line_depth=3) == ("reporting_line",)

    def test_same_manager_is_allowed_by_the_setting(self) -> None:
        first, other = person("s", line=("boss",)), person("j", "junior", line=("boss",))
        assert broken(first, other, rules__exclude_same_manager=False) == ()

    def test_regions_of_one_language_understand_each_other(self) -> None:
        assert broken(person("s", languages=("en-US",)), person("j", "junior", languages=("en-GB",))) == ()

    @pytest.mark.parametrize(("first", "other"), [("iw", "he"), ("nb", "no"), ("eng", "en-GB"), ("ger", "deu")])
    def test_codes_of_one_language_are_one(self, first: str, other: str) -> None:
        assert broken(person("s", languages=(first,)), person("j", "junior", languages=(other,))) == ()

    def test_earlier_partners_are_excluded(self) -> None:
        assert hard_rules.find_broken_rules(member(SENIOR), member(JUNIOR), settings(), TODAY, earlier=["j"]) == (
            "earlier_partner",
        )

    def test_other_organisation_needs_both_acknowledgements(self) -> None:
        knows = {"confidentiality_acknowledged": True}
        ours, theirs = person("s", enrolment=knows), person("j", "junior", organisation_id="daughter", enrolment=knows)
        unaware = person("j", "junior", organisation_id="daughter")
        assert broken(ours, theirs) == ("other_organisation",)
        assert broken(ours, theirs, rules__cross_organisation=True) == ()
        assert broken(ours, unaware, rules__cross_organisation=True) == ("not_acknowledged",)


class TestFitSharedTime:
    def test_time_is_compared_across_time_zones(self) -> None:
        berlin = person("s", time_zone="Europe/Berlin", availability=OFFICE_HOURS)
        new_york = person("j", "junior", time_zone="America/New_York", availability=OFFICE_HOURS)
        tokyo = person("j", "junior", time_zone="Asia/Tokyo", availability=OFFICE_HOURS)
        assert hard_rules.count_common_minutes(berlin, new_york, TODAY) == 5 * 2 * 60
        assert broken(berlin, new_york) == ()
        assert broken(berlin, tokyo) == ("no_common_time",)

    def test_window_across_midnight_ends_on_the_next_day(self) -> None:
        night = person("s", time_zone="Etc/UTC", availability=weekly((6, 22 * 60, 2 * 60)))  # Sunday to Monday
        monday = person("j", "junior", time_zone="Etc/UTC", availability=weekly((0, 60, 8 * 60)))
        assert hard_rules.count_common_minutes(night, night, TODAY) == 4 * 60
        assert hard_rules.count_common_minutes(night, monday, TODAY) == 60
        assert hard_rules.count_common_minutes(monday, night, TODAY) == 60

    def test_window_across_the_end_of_the_utc_week_is_whole(self) -> None:
        sunday_night = person("s", time_zone="America/New_York", availability=weekly((6, 18 * 60, 24 * 60)))
        monday_morning = person("j", "junior", time_zone="Europe/Berlin", availability=weekly((0, 0, 6 * 60)))
        assert hard_rules.count_common_minutes(sunday_night, monday_morning, TODAY) == 6 * 60

    @given(cohorts(most=2))
    def test_is_symmetric_and_never_exceeds_either_time(
        self,
        cohort: tuple[list[ProfileChanged], list[ProfileChanged]],
    ) -> None:
        times = [time for profile in (*cohort[0], *cohort[1]) if (time := get_free_time(profile, TODAY)) is not None]
        for first in times:
            own = count_shared_minutes(first, first)
            for other in times:
                assert count_shared_minutes(first, other) == count_shared_minutes(other, first) <= own <= 7 * 24 * 60


class TestFitPresence:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"enrolment": {"state": "invited"}}, "not_ready"),
            ({"enrolment": {"state": "left"}}, "not_enrolled"),
            ({"enrolment": {"programme_id": "another"}}, "not_enrolled"),
            ({"enrolment": {"capacity": 0}}, "no_capacity"),
            ({"personal_cap": 0}, "no_capacity"),
            ({"employment": "leaving"}, "leaving"),
            ({"employment": "on_leave"}, "on_leave"),
            ({"employed_until": TODAY}, "leaving"),
            ({"organisation_id": "stranger"}, "organisation_not_included"),
            ({"away": (Absence(since=date(2026, 2, 1)),)}, "away"),
            ({"away": (Absence(since=date(2026, 2, 1), until=TODAY),)}, "away"),
            ({"away": (Absence(since=date(2026, 2, 1), until=date(2026, 3, 1)),)}, None),
            ({}, None),
        ],
    )
    def test_absence_reason_of_each_change(self, changes: dict[str, object], why: str | None) -> None:
        assert hard_rules.find_absence_reason(person("s", **changes), PROGRAMME, settings(), TODAY) == why  # type: ignore[arg-type]


class TestFitBenefit:
    def test_grows_with_priority_and_with_coverage(self) -> None:
        def gain(priority: int, level: str, topic: str = "generative-ai") -> float:
            offer = Offer.model_validate({"topic": topic, "level": level})
            return compute_benefit(
                cover_wishes([Seek(topic="generative-ai", priority=priority)], [offer], MARKS, TAXONOMY), MARKS
            )

        assert gain(3, "teach") == pytest.approx(0.8)
        assert gain(3, "teach") > gain(2, "teach") > gain(1, "teach")
        assert gain(3, "teach") > gain(3, "use") > gain(3, "explain")
        assert gain(3, "teach") > gain(3, "teach", "prompt-writing") > gain(3, "teach", "machine-learning") > 0
        assert gain(3, "teach", "negotiation") == 0

    def test_further_wishes_have_diminishing_returns(self) -> None:
        offers = [Offer(topic=topic, level="teach") for topic in ("generative-ai", "negotiation", "budgeting")]
        seeks = [Seek(topic=offer.topic, priority=3) for offer in offers]
        gains = [compute_benefit(cover_wishes(seeks[:n], offers, MARKS, TAXONOMY), MARKS) for n in range(4)]
        steps = [after - before for before, after in pairwise(gains)]
        assert steps == sorted(steps, reverse=True)
        assert gains[-1] < 1

    def test_lower_benefit_counts_most(self) -> None:
        balanced = compute_fit(
            member(person("s", seeks={"generative-ai": 2})),
            member(person("j", "junior", seeks={"negotiation": 2})),
            settings(),
            TAXONOMY,
            TODAY,
        )
        lopsided = compute_fit(
            member(person("s", seeks={"generative-ai": 3})),
            member(person("j", "junior", seeks={"negotiation": 1})),
            settings(),
            TAXONOMY,
            TODAY,
        )
        assert lopsided.senior_benefit > balanced.senior_benefit > lopsided.junior_benefit
        assert balanced.score > lopsided.score

    def test_both_directions_must_clear_the_floor(self) -> None:
        generous = person("j", "junior", seeks={"budgeting": 3})
        assert compute_fit(member(SENIOR), member(generous), settings(), TAXONOMY, TODAY).find_shortfalls(
            settings()
        ) == ("nothing_for_junior",)


class TestFitCompatibility:
    def test_disagreement_falls_short_and_skipping_costs_nothing(self) -> None:
        first = person("s", style=Style(candour=2, pace=2, change=2, debate=2))
        opposite = person("j", "junior", style=Style(candour=-2, pace=-2, change=-2, debate=-2))
        silent = JUNIOR
        assert compute_compatibility(first, opposite, settings(), TODAY) == 0
        assert compute_fit(member(first), member(opposite), settings(), TAXONOMY, TODAY).find_shortfalls(
            settings()
        ) == ("too_different",)
        assert compute_compatibility(first, silent, settings(), TODAY) > 0.8

    def test_similarity_above_the_plateau_earns_nothing(self) -> None:
        style = Style(candour=1, pace=1, change=1, debate=1)
        near = Style(candour=1, pace=1, change=0, debate=0)
        first, same = person("s", style=style), person("j", "junior", style=style)
        close = person("j", "junior", style=near)
        assert compare_styles(style, style) == compare_styles(style, near) == 1
        assert compute_compatibility(first, same, settings(), TODAY) == compute_compatibility(
            first, close, settings(), TODAY
        )


ANSWERS = st.integers(-4, 4).map(lambda half: half / 2)
STYLES = st.builds(Style, candour=ANSWERS, pace=ANSWERS, change=ANSWERS, debate=ANSWERS)


class TestStylePrivacy:
    """Trials with chosen settings and an accomplice with known answers once recovered all four values exactly."""

    @given(STYLES, STYLES, STYLES, any_settings())
    def test_everything_rests_on_the_band_alone(
        self, target: Style, other: Style, accomplice: Style, under: ProgrammeSettings
    ) -> None:
        """No weights, parts of compatibility, plateau or floors tell two people of the same band apart."""
        assume(compare_styles(target, accomplice) == compare_styles(other, accomplice))
        junior = person("j", "junior", style=accomplice)

        def outcome(style: Style) -> tuple[object, ...]:
            senior = person("s", style=style)
            fit = compute_fit(member(senior), member(junior), under, TAXONOMY, TODAY)
            return fit, fit.find_shortfalls(under), build_reasons(senior, junior, under, TAXONOMY, TODAY)

        assert outcome(target) == outcome(other)

    @given(STYLES, STYLES, st.sampled_from(STYLE_DIMENSIONS), st.sampled_from(STYLE_DIMENSIONS))
    def test_an_accomplice_isolates_no_dimension_by_skipping(
        self, target: Style, accomplice: Style, first: str, second: str
    ) -> None:
        assume(first != second)
        silent = accomplice.model_copy(update={first: None, second: None})
        assert compare_styles(target, silent) == compare_styles(Style(), silent) == UNANSWERED_SHARE

    def test_an_accomplice_with_one_style_learns_a_band(self) -> None:
        """The attack: one accomplice, any settings. Of the 6561 possible styles a band leaves hundreds at least."""
        accomplice = Style(candour=2, pace=2, change=2, debate=2)
        values = [half / 2 for half in range(-4, 5)]
        counts = Counter(
            compare_styles(Style(candour=a, pace=b, change=c, debate=d), accomplice)
            for a, b, c, d in product(values, repeat=4)
        )
        assert len(counts) == len(STYLE_BANDS)
        assert min(counts.values()) > 300


class TestFitPerspective:
    def test_differences_earn_and_unknown_positions_do_not(self) -> None:
        nothing = compute_perspective(
            person("s", department_id="it"), person("j", "junior", department_id="it"), settings()
        )
        department = compute_perspective(SENIOR, JUNIOR, settings())
        more = compute_perspective(
            person("s", site_id="a", discipline_id="x", experience_band=5),
            person("j", "junior", site_id="b", discipline_id="y", experience_band=0),
            settings(),
        )
        assert nothing == 0 < department < more == pytest.approx(1)


class TestFitScore:
    @given(cohorts(most=2), any_settings())
    def test_all_parts_and_the_score_are_from_0_to_1(
        self, cohort: tuple[list[ProfileChanged], list[ProfileChanged]], rules_: object
    ) -> None:
        for senior in cohort[0]:
            for junior in cohort[1]:
                fit = compute_fit(member(senior), member(junior), rules_, TAXONOMY, TODAY)  # type: ignore[arg-type]
                assert all(-1e-9 <= part <= 1 + 1e-9 for part in fit.model_dump().values())


class TestFitReasons:
    def test_name_gains_and_gifts_of_each_side(self) -> None:
        reasons_of = build_reasons(SENIOR, JUNIOR, settings(), TAXONOMY, TODAY)
        assert reasons_of["senior"][:2] == [
            "You very much want to learn about Generative AI; your partner uses it every day.",
            "Your partner very much wants to learn about Negotiation; you can teach it.",
        ]
        assert reasons_of["junior"][:2] == [
            "You very much want to learn about Negotiation; your partner can teach it.",
            "Your partner very much wants to learn about Generative AI; you use it every day.",
        ]
        assert "There are 7 levels between you." in reasons_of["senior"]

    def test_related_topic_is_named_as_such(self) -> None:
        reasons_of = build_reasons(
            SENIOR, person("j", "junior", offers={"prompt-writing": "teach"}), settings(), TAXONOMY, TODAY
        )
        assert "your partner can teach Writing prompts, which is close to it." in reasons_of["senior"][0]

    @given(cohorts(most=2), st.data())
    def test_private_wish_never_shows(
        self, cohort: tuple[list[ProfileChanged], list[ProfileChanged]], data: st.DataObject
    ) -> None:
        for senior in cohort[0]:
            for junior in cohort[1]:
                first, other = (who.model_copy(update={"avoid": ()}) for who in (senior, junior))
                without = build_reasons(first, other, settings(), TAXONOMY, TODAY)
                assert build_reasons(senior, junior, settings(), TAXONOMY, TODAY) == without
                assert hard_rules.find_broken_rules(
                    member(senior), member(junior), settings(), TODAY
                ) == hard_rules.find_broken_rules(member(first), member(other), settings(), TODAY)


class TestFitCalendar:
    def test_months_keep_their_length(self) -> None:
        assert add_months(date(2026, 8, 31), 6) == date(2027, 2, 28)
