"""Each reason for an unmatched member is true, and each suggested change would have helped."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations, product
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from contracts.profiles import Availability, ProfileChanged
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.fit import hard_rules
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.fit.score import compute_fit
from services.matcher.engine import unmatched
from services.matcher.engine.arrays import Bools, Int64s
from services.matcher.engine.assignment import assign, edge_gains
from services.matcher.engine.candidates import Edges
from services.matcher.engine.dual_prices import UNBOUNDED_PRICE, extreme_dual_prices
from services.matcher.engine.relaxation import (
    EFFORT_PER_STEP,
    FLOOR_STEP,
    MIN_GAIN_MARGIN,
    MIN_PEOPLE_IN_REACH,
    OVERLAP_STEP_MINUTES,
    RelaxableRule,
    Relaxation,
)
from services.matcher.engine.solve import MatchingProblem, MatchingResult, solve
from services.matcher.engine.unmatched import (
    STEPS,
    UnmatchedMember,
    relaxation_outlook,
)
from services.matcher.engine.unmatched_texts import MEMBER_TEXTS, NONE_REMAIN_TEXTS, member_text
from tests.matcher.builders import PROGRAMME, TAXONOMY, TODAY, any_settings, cohorts, member, person, settings, weekly
from tests.matcher.large_company import large_round

Cohort = tuple[list[ProfileChanged], list[ProfileChanged]]
Pair = tuple[str, str]

MANY = run_with(max_examples=60, deadline=None)

HOURS = [(0, 540, 600)], [(0, 555, 660)], [(0, 570, 600), (2, 600, 625)], [(2, 600, 625), (3, 600, 640)]
STYLES: list[dict[str, float]] = [
    {},
    {"candour": -2.0, "pace": -2.0, "debate": -2.0},
    {"candour": 2.0, "pace": 1.0, "debate": 2.0},
    {"candour": 2.0, "pace": 2.0, "debate": -1.0},
]


def solved(people: list[ProfileChanged], with_settings: ProgrammeSettings, seed: int = 0) -> MatchingResult:
    seats = {item.member_id: item.enrolments[-1].capacity for item in people}
    return solve(MatchingProblem(PROGRAMME, with_settings, people, seats, [], TODAY, seed), TAXONOMY)


# ---------------------------------------------------------------- pairs that narrowly fail a rule


def _somebody(side: str) -> st.SearchStrategy[dict[str, Any]]:
    mine, theirs = ("negotiation", "generative-ai") if side == "senior" else ("generative-ai", "negotiation")
    return st.fixed_dictionaries(
        {
            "offers": st.sampled_from(["explain", "use", "teach", "teach"]).map(lambda level: {mine: level}),
            "seeks": st.sampled_from([1, 2, 3, 3]).map(lambda priority: {theirs: priority}),
            "level": st.sampled_from([6, 7, 8] if side == "senior" else [4, 5, 6]),
            "organisation_id": st.sampled_from(["acme"] * 5 + ["daughter"]),
            "department_id": st.sampled_from(["sales", "it", "hr"]),
            "site_id": st.sampled_from([None, "berlin", "lyon"]),
            "line": st.sampled_from([(), (), (), ("boss",), ("s0",)]),
            "availability": st.one_of(
                st.just(Availability()), st.sampled_from(HOURS).map(lambda windows: weekly(*windows))
            ),
            "style": st.sampled_from(STYLES),
            "enrolment": st.sampled_from([1, 1, 2]).map(lambda capacity: {"capacity": capacity}),
        }
    )


SENIOR, JUNIOR = _somebody("senior"), _somebody("junior")
AVOIDED = st.lists(st.integers(0, 8), max_size=1)
NEAR_MISSES = st.tuples(
    st.lists(st.tuples(SENIOR, AVOIDED), min_size=1, max_size=4),
    st.lists(st.tuples(JUNIOR, AVOIDED), min_size=1, max_size=5),
)


def near_misses() -> st.SearchStrategy[Cohort]:
    """Up to four seniors and five juniors. Many of them would be a pair without one or two rules."""
    return NEAR_MISSES.map(_of_some)


def _of_some(drawn: tuple[list[tuple[dict[str, Any], list[int]]], ...]) -> Cohort:
    seniors, juniors = drawn
    ids = [*(f"s{n}" for n in range(len(seniors))), *(f"j{n}" for n in range(len(juniors)))]
    people = [
        person(
            id,
            "senior" if id.startswith("s") else "junior",
            time_zone="Europe/Berlin",
            avoid=tuple(ids[n % len(ids)] for n in avoided),
            **fields,
        )
        for id, (fields, avoided) in zip(ids, [*seniors, *juniors], strict=True)
    ]
    return people[: len(seniors)], people[len(seniors) :]


def strict_settings() -> st.SearchStrategy[ProgrammeSettings]:
    return st.builds(
        settings,
        rules__min_level_gap=st.integers(0, 2),
        rules__max_level_gap=st.sampled_from([None, None, 2]),
        rules__min_overlap_minutes=st.sampled_from([0, 30, 50, 70]),
        rules__cross_organisation=st.booleans(),
        matching__floors__benefit=st.sampled_from([0.0, 0.15, 0.3]),
        matching__floors__compatibility=st.sampled_from([0.0, 0.25, 0.55, 0.7]),
    )


class Force:
    """A small round by the plain definitions alone, solved again for each set of additional pairs."""

    def __init__(self, cohort: Cohort, rules_: ProgrammeSettings, left_over: Sequence[UnmatchedMember]) -> None:
        self.cohort, self.settings = cohort, rules_
        self.left = {item.member.id for item in left_over}
        self.seniors, self.juniors = ([member(item) for item in side] for side in cohort)
        couples = list(product(self.seniors, self.juniors))
        self.score = {(s.id, j.id): compute_fit(s, j, rules_, TAXONOMY, TODAY).score for s, j in couples}
        self.suiting = suiting(cohort, rules_)
        self._suiting_after: dict[frozenset[tuple[RelaxableRule, float]], set[Pair]] = {}
        self._in_reach: dict[Pair, bool] = {}

    def of(self, id: str, pairs: set[Pair]) -> set[Pair]:
        return {pair for pair in pairs if id in pair}

    def let_in(self, id: str, change: Mapping[RelaxableRule, float]) -> set[Pair]:
        """Pairs of this person that are unsuitable now and would suit after the change."""
        made = frozenset(change.items())
        if made not in self._suiting_after:
            open_ = "cross_organisation" in change
            both = [[_acknowledged(item) if open_ else item for item in side] for side in self.cohort]
            self._suiting_after[made] = suiting((both[0], both[1]), relaxed(self.settings, change))
        return self.of(id, self._suiting_after[made] - self.suiting)

    def chosen(self, pairs: set[Pair], seed: int = 0, kept_for: str = "") -> list[Pair]:
        """The best assignment over ``pairs``.

        ``kept_for`` gets one more seat with every partner, reserved for this member.
        """
        seats = {item.id: item.enrolment.capacity for item in (*self.seniors, *self.juniors)}
        order = sorted(pairs)
        ends: list[Pair] = [
            (s if kept_for != j else f"place of {s}", j if kept_for != s else f"place of {j}") for s, j in order
        ]
        rows = {id: n for n, id in enumerate(sorted({s for s, _ in ends}))}
        columns = {id: n for n, id in enumerate(sorted({j for _, j in ends}))}
        edges = Edges(
            np.array([rows[s] for s, _ in ends], np.int64),
            np.array([columns[j] for _, j in ends], np.int64),
            np.array([self.score[pair] for pair in order], np.float64),
        )
        chosen = assign([seats.get(id, 1) for id in rows], [seats.get(id, 1) for id in columns], edges, seed)
        return [order[n] for n in chosen]

    def total(self, pairs: set[Pair]) -> float:
        return sum(self.score[pair] for pair in self.chosen(pairs))

    def in_reach(self, pair: Pair) -> bool:
        if pair not in self._in_reach:
            self._in_reach[pair] = self._comes_about(pair)
        return self._in_reach[pair]

    def _comes_about(self, pair: Pair) -> bool:
        """Whether this additional pair raises the best total. Near-equal totals are not judged here."""
        gained = self.total(self.suiting | {pair}) - self.total(self.suiting)
        assume(not 4e-6 < gained < 3e-5)
        return gained > MIN_GAIN_MARGIN

    def helps(self, id: str, change: Mapping[RelaxableRule, float]) -> bool:
        return sum(self.in_reach(pair) for pair in self.let_in(id, change)) >= MIN_PEOPLE_IN_REACH

    def efforts(self, id: str, together: int) -> Iterator[int]:
        """For each helpful change of the given number of rules: the effort that it costs."""
        for names in combinations(EFFORT_PER_STEP, together):
            for far in product(*(range(1, most(name, self.settings) + 1) for name in names)):
                change = {name: by(name, n, self.settings) for name, n in zip(names, far, strict=True)}
                if self.helps(id, change):
                    yield sum(EFFORT_PER_STEP[name] * n for name, n in zip(names, far, strict=True))


def suiting(cohort: Cohort, rules_: ProgrammeSettings) -> set[Pair]:
    """Pairs that no rule excludes."""
    return {
        (s.id, j.id)
        for s, j in product(*([member(item) for item in side] for side in cohort))
        if not hard_rules.find_broken_rules(s, j, rules_, TODAY)
        and not compute_fit(s, j, rules_, TAXONOMY, TODAY).find_shortfalls(rules_)
    }


def most(rule: RelaxableRule, rules_: ProgrammeSettings) -> int:
    """The number of steps after which a rule has no effect."""
    floors = rules_.matching.floors
    whole: dict[RelaxableRule, float] = {
        "min_level_gap": rules_.rules.min_level_gap,
        "max_level_gap": 19 - (19 if rules_.rules.max_level_gap is None else rules_.rules.max_level_gap),
        "min_overlap_minutes": rules_.rules.min_overlap_minutes / OVERLAP_STEP_MINUTES,
        "benefit": floors.benefit / FLOOR_STEP,
        "compatibility": floors.compatibility / FLOOR_STEP,
        "exclude_same_manager": 1,
        "cross_organisation": 1,
    }
    return ceil(whole[rule] - 1e-9)


def by(rule: RelaxableRule, steps: int, rules_: ProgrammeSettings) -> float:
    """The change of the rule after this number of steps, in its own unit; never more than the rule's value."""
    floors = rules_.matching.floors
    match rule:
        case "min_overlap_minutes":
            return min(OVERLAP_STEP_MINUTES * steps, rules_.rules.min_overlap_minutes)
        case "benefit":
            return min(FLOOR_STEP * steps, floors.benefit)
        case "compatibility":
            return min(FLOOR_STEP * steps, floors.compatibility)
    return steps


def relaxed(rules_: ProgrammeSettings, change: Mapping[RelaxableRule, float]) -> ProgrammeSettings:
    problem, floors, most_apart = rules_.rules, rules_.matching.floors, rules_.rules.max_level_gap
    return settings(
        rules__min_level_gap=problem.min_level_gap - int(change.get("min_level_gap", 0)),
        rules__max_level_gap=None if most_apart is None else most_apart + int(change.get("max_level_gap", 0)),
        rules__min_overlap_minutes=problem.min_overlap_minutes - int(change.get("min_overlap_minutes", 0)),
        rules__exclude_same_manager=problem.exclude_same_manager and "exclude_same_manager" not in change,
        rules__cross_organisation=problem.cross_organisation or "cross_organisation" in change,
        rules__line_depth=problem.line_depth,
        matching__floors__benefit=max(0.0, floors.benefit - change.get("benefit", 0)),
        matching__floors__compatibility=max(0.0, floors.compatibility - change.get("compatibility", 0)),
    )


def changes(relaxation: Relaxation) -> dict[RelaxableRule, float]:
    return {relaxation.rule: relaxation.amount} | (dict([relaxation.second]) if relaxation.second else {})


def effort(relaxation: Relaxation) -> int:
    units: dict[RelaxableRule, float] = {
        "min_overlap_minutes": OVERLAP_STEP_MINUTES,
        "benefit": FLOOR_STEP,
        "compatibility": FLOOR_STEP,
    }
    return sum(
        EFFORT_PER_STEP[name] * ceil(far / units.get(name, 1) - 1e-6) for name, far in changes(relaxation).items()
    )


def _acknowledged(item: ProfileChanged) -> ProfileChanged:
    enrolment = item.enrolments[-1].model_copy(update={"confidentiality_acknowledged": True})
    return item.model_copy(update={"enrolments": (enrolment,)})


# ---------------------------------------------------------------- reasons


def funnel(left: UnmatchedMember, cohort: Cohort, rules_: ProgrammeSettings) -> tuple[list[Member], dict[str, int]]:
    """The number of suitable partners that remain after each step."""
    remaining = [member(item) for item in cohort[left.side == "senior"]]
    count = {"people": len(remaining)}
    for code in STEPS:
        remaining = [item for item in remaining if code not in against(left, item, rules_)]
        count[f"after_{code}"] = len(remaining)
    return remaining, count


def against(left: UnmatchedMember, item: Member, rules_: ProgrammeSettings) -> set[str]:
    """All rules that exclude this pair, from the view of the unmatched member."""
    senior, junior = (left.member, item) if left.side == "senior" else (item, left.member)
    result: set[str] = set(hard_rules.find_broken_rules(senior, junior, rules_, TODAY))
    short = compute_fit(senior, junior, rules_, TAXONOMY, TODAY).find_shortfalls(rules_)
    mine = f"nothing_for_{left.side}"
    words = {"too_different": "too_different", mine: "nothing_to_learn"}
    return result | {words.get(code, "nothing_to_give") for code in short}


# ---------------------------------------------------------------- relaxations


def helped(left: UnmatchedMember, force: Force, seed: int) -> bool:
    """Whether this person gets a partner when the round is solved again with the named change."""
    if left.relaxation is None:
        return True
    id = left.member.id
    if left.relaxation.rule == "capacity":
        chosen = force.chosen(force.suiting, seed, kept_for=id)
    else:
        chosen = force.chosen(force.suiting | force.let_in(id, changes(left.relaxation)), seed)
    return any(id in pair for pair in chosen)


# ---------------------------------------------------------------- private wishes


class TestPrivateWishes:
    @MANY
    @given(near_misses(), strict_settings(), st.booleans(), st.data())
    def test_no_wish_changes_an_explanation(
        self, cohort: Cohort, rules_: ProgrammeSettings, large: bool, data: st.DataObject
    ) -> None:
        people = [*cohort[0], *cohort[1]]
        assume(cohort[0] and cohort[1])
        who, whom = data.draw(st.permutations([data.draw(st.sampled_from(side)).member_id for side in cohort]))
        wish = [item.model_copy(update={"avoid": (whom,)}) if item.member_id == who else item for item in people]
        with large_round() if large else nullcontext():
            assert reported(solved(wish, rules_)) == reported(solved(people, rules_))


def reported(answer: MatchingResult) -> dict[str, object]:
    return {item.member.id: (item.code, item.text, dict(item.counts), item.relaxation) for item in answer.unmatched}


# ---------------------------------------------------------------- the value of a seat


@dataclass(frozen=True)
class Market:
    """Seats of both sides, edges between them with their gain, and the edges of the best assignment."""

    seniors: list[int]
    juniors: list[int]
    edges: Edges
    gain: Int64s
    taken: Bools
    full: Bools

    def prices(self, which: Bools) -> Int64s:
        """Prices of the juniors' seats, over a subset of the edges."""
        ends = self.edges.juniors[which], self.edges.seniors[which]
        return extreme_dual_prices(*ends, self.gain[which], self.taken[which], self.full, len(self.seniors))[0]


@st.composite
def markets(draw: st.DrawFn) -> Market:
    seniors, juniors = (draw(st.lists(st.integers(0, 2), min_size=1, max_size=5)) for _ in range(2))
    every = list(product(range(len(seniors)), range(len(juniors))))
    selection = sorted(draw(st.lists(st.sampled_from(every), unique=True, min_size=1)))
    scores = [draw(st.integers(1, 12)) / 12 for _ in selection]
    edges = Edges(np.array([s for s, _ in selection]), np.array([j for _, j in selection]), np.array(scores))
    taken = np.zeros(len(selection), dtype=np.bool_)
    taken[assign(seniors, juniors, edges, 5)] = True
    full = np.bincount(edges.juniors[taken], minlength=len(juniors)) >= juniors
    return Market(seniors, juniors, edges, edge_gains(edges, 5), taken, full)


class TestSeatValues:
    @MANY
    @given(markets())
    def test_seat_value_is_the_loss_without_the_seat(self, market: Market) -> None:
        result = market.prices(np.ones_like(market.taken))
        for j, seats in enumerate(market.juniors):
            if seats == 0:
                assert result[j] == UNBOUNDED_PRICE
                continue
            fewer = [count - (n == j) for n, count in enumerate(market.juniors)]
            left = assign(market.seniors, fewer, market.edges, 5)
            assert result[j] == market.gain[market.taken].sum() - market.gain[left].sum()


# ---------------------------------------------------------------- texts


MANAGER = {"line": ("boss",)}
FAR = {"style": {"candour": 2.0, "pace": 2.0, "change": 2.0, "debate": 2.0}}
NEAR = {"style": {"candour": -2.0, "pace": 0.0, "change": 0.0, "debate": -1.0}}


class TestRelaxations:
    @MANY
    @given(near_misses(), strict_settings(), st.integers(0, 3), st.booleans())
    def test_named_change_gives_a_partner_in_every_optimum(
        self, cohort: Cohort, rules_: ProgrammeSettings, seed: int, large: bool
    ) -> None:
        with large_round() if large else nullcontext():
            left_over = solved([*cohort[0], *cohort[1]], rules_).unmatched
        force = Force(cohort, rules_, left_over)
        for left in left_over:
            assert helped(left, force, seed)

    @MANY
    @given(near_misses(), strict_settings())
    def test_no_smaller_change_reaches_two_people(self, cohort: Cohort, rules_: ProgrammeSettings) -> None:
        left_over = solved([*cohort[0], *cohort[1]], rules_).unmatched
        force = Force(cohort, rules_, left_over)
        for left in left_over:
            id, relaxation = left.member.id, left.relaxation
            if len(force.of(id, force.suiting)) >= MIN_PEOPLE_IN_REACH:
                assert relaxation is not None
                assert (relaxation.rule, relaxation.amount) == ("capacity", 1)
                continue
            item = min(force.efforts(id, 1), default=None)
            least = item if item is not None else min(force.efforts(id, 2), default=None)
            assert (relaxation and effort(relaxation)) == least
            if relaxation:
                assert (relaxation.second is None) == (item is not None)

    def test_no_change_joins_a_forbidden_pair(self) -> None:
        people = [person("s", level=7), person("j1", "junior", level=6), person("j2", "junior", level=6)]

        def named(*forbidden: Pair) -> Relaxation | None:
            seats = {item.member_id: 1 for item in people}
            problem = MatchingProblem(PROGRAMME, settings(), people, seats, [], TODAY, 0, forbidden_pairs=forbidden)
            (left,) = [item for item in solve(problem, TAXONOMY).unmatched if item.member.id == "s"]
            return left.relaxation

        assert named() == named(("s", "j1")) != named(("s", "j1"), ("j2", "s"))
        assert named(("s", "j1"), ("j2", "s")) is None

    @pytest.mark.parametrize(
        ("senior", "junior", "change", "text"),
        [
            ({"level": 6}, {}, {}, "a gap of 1 level instead of 2"),
            ({"level": 5}, {}, {}, "a gap of 0 levels instead of 2"),
            ({}, {}, {"rules__max_level_gap": 4}, "a gap of up to 7 levels instead of 4"),
            (
                {"availability": weekly((0, 540, 600))},
                {"availability": weekly((0, 560, 700))},
                {},
                "30 minutes of common time a week instead of 60",
            ),
            (
                {"offers": {"negotiation": "explain"}},
                {},
                {"matching__floors__benefit": 0.55},
                "a floor of 0.45 instead of 0.55 for what each side gains",
            ),
            (
                FAR,
                NEAR,
                {"matching__floors__compatibility": 0.55},
                "a floor of 0.45 instead of 0.55 for how well two people get on",
            ),
            (MANAGER, MANAGER, {}, "pairs under the same manager allowed"),
            (
                {"organisation_id": "daughter"},
                {},
                {},
                "pairs of different organisations allowed, and the notice for them acknowledged by both",
            ),
            (
                {"organisation_id": "daughter"},
                {},
                {"rules__cross_organisation": True},
                "the notice for pairs of different organisations acknowledged by both",
            ),
            (
                {"level": 6, **MANAGER},
                MANAGER,
                {},
                "a gap of 1 level instead of 2 and pairs under the same manager allowed",
            ),
        ],
    )
    def test_change_is_described_in_plain_words(
        self, senior: dict[str, Any], junior: dict[str, Any], change: dict[str, Any], text: str
    ) -> None:
        zone: dict[str, Any] = {"time_zone": "Europe/Berlin"}
        people = [person("s", **senior, **zone), *(person(f"j{n}", "junior", **junior, **zone) for n in range(2))]
        (left,) = [item for item in solved(people, settings(**change)).unmatched if item.side == "senior"]
        assert left.relaxation is not None
        assert left.relaxation.change == text
        assert (
            relaxation_outlook(left.relaxation)
            == f"With {text}, 2 people more would suit, and this person would have a partner."
        )

    def test_one_seat_more_is_named_when_seats_are_few(self) -> None:
        crowd = [person(f"s{n}") for n in range(3)] + [person(f"j{n}", "junior") for n in range(2)]
        (left,) = solved(crowd, settings()).unmatched
        assert left.text == (
            "Of 2 on the other side, 2 would suit, but the round as a whole came out best "
            "without a pair for this person."
        )
        assert relaxation_outlook(left.relaxation) == (
            "With a place more at one of the 2 people who would suit, kept for this person, they would be a pair."
        )

    @pytest.mark.parametrize(
        "change",
        [{"line": ("s",)}, {"evaluators": ("s",)}, {"languages": ("fr",)}, {"offers": {"negotiation": "teach"}}],
    )
    def test_protective_rules_and_languages_are_never_relaxed(self, change: dict[str, Any]) -> None:
        people = [person("s", languages=("en",)), *(person(f"j{n}", "junior", **change) for n in range(3))]
        (left,) = [item for item in solved(people, settings()).unmatched if item.side == "senior"]
        assert left.relaxation is None
        assert (
            relaxation_outlook(None) == "No change of one rule, or of two, is known to bring two people within reach."
        )


# ---------------------------------------------------------------- large rounds


class TestUnmatchedReasons:
    @MANY
    @given(st.one_of(near_misses(), cohorts(most=4)), st.one_of(strict_settings(), any_settings()))
    def test_every_reason_and_count_is_true(self, cohort: Cohort, rules_: ProgrammeSettings) -> None:
        assume(cohort[0] and cohort[1])
        for left in solved([*cohort[0], *cohort[1]], rules_).unmatched:
            others, count = funnel(left, cohort, rules_)
            assert dict(left.counts).items() <= count.items()
            assert (left.code == "places_taken") == bool(others)
            if not others:
                before, after = list(left.counts.values())[-2:]
                assert (list(left.counts)[-1], after) == (f"after_{left.code}", 0)
                assert before > 0
                assert f"Of {count['people']} on the other side" in left.text
                assert NONE_REMAIN_TEXTS[left.code] in left.text

    def test_member_texts_hold_no_number_and_no_other_person(self) -> None:
        assert {*STEPS, "places_taken", "nobody_found", "nobody_on_the_other_side"} <= MEMBER_TEXTS.keys()
        for code in MEMBER_TEXTS:
            words = member_text(code)
            assert not any(letter.isdigit() for letter in words)
            assert words.endswith(".")
            assert not {"code", "floor", "score", "weight", "optimum", "edge"} & set(words.lower().split())

    def test_members_with_candidates_need_no_full_evaluation(
        self,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        people = [person(f"s{n}") for n in range(6)] + [person(f"j{n}", "junior") for n in range(3)]
        people.append(person("far", level=6))
        small = {item.member.id: item for item in solved(people, settings()).unmatched}
        monkeypatch.setattr(unmatched, "MAX_FULL_PAIRS", 1)
        large = {item.member.id: item for item in solved(people, settings()).unmatched}
        assert small.keys() == large.keys()
        assert large["far"] == small["far"]
        for id in large.keys() - {"far"}:
            assert (large[id].code, large[id].relaxation is not None) == ("places_taken", True)
            assert large[id].text.startswith("Of 3 on the other side, at least 3 would suit")
            assert dict(large[id].counts) == {"people": 3, "at_least": 3}

    @MANY
    @given(
        near_misses(),
        strict_settings(),
        st.sampled_from([1, 2, 256]),
        st.sampled_from([0, 1000]),
        st.sampled_from([4, 1000]),
    )
    def test_reasons_of_large_rounds_are_true(
        self, cohort: Cohort, rules_: ProgrammeSettings, nearest: int, looks: int, exactly: int
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {
                "MAX_FULL_PAIRS": 0,
                "NEAREST_PER_PERSON": nearest,
                "PAIR_BUDGET": looks,
                "EXACT_PAIR_BUDGET": exactly,
            }.items():
                patch.setattr(unmatched, name, value)
            answer = solved([*cohort[0], *cohort[1]], rules_)
        force = Force(cohort, rules_, answer.unmatched)
        for left in answer.unmatched:
            assert helped(left, force, seed=0)
            others, count = funnel(left, cohort, rules_)
            existing = dict(left.counts)
            assert existing.pop("at_least", 0) <= len(others)
            assert existing.items() <= count.items()
            assert (left.code == "places_taken") == bool(others)
