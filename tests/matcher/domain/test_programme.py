"""Programmes, their complete settings, and permissions by role."""

from typing import Any

import pytest
from pydantic import ValidationError

from contracts.errors import CommandRejected, InvalidCommand
from services.matcher.domain.access_policy import (
    ALLOWED_RELATIONS,
    Action,
    Relation,
    has_conflict_of_interest,
    is_allowed,
    relation_to_pairing,
    relation_to_programme,
)
from services.matcher.domain.programmes import programme as programmes
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rounds import round as rounds
from services.matcher.domain.rounds.round import Round, RoundProgress, RoundTotals
from tests.matcher.builders import MOMENT, NOW, PROGRAMME, person, settings


def programme() -> Programme:
    return programmes.create_programme(None, PROGRAMME, settings(), MOMENT)[0]


class TestProgrammeSettings:
    def test_have_versions_and_equal_settings_change_nothing(self) -> None:
        made = programme()
        assert programmes.change_settings(made, settings(), MOMENT) is None
        changed = programmes.change_settings(made, settings(rules__min_level_gap=4), MOMENT)
        assert changed is not None
        assert programmes.to_public_event(changed[0]).version == 2
        assert changed[1] == [programmes.to_public_event(changed[0])]

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            (
                {
                    "matching__weights__lower_benefit": 0,
                    "matching__weights__higher_benefit": 0,
                    "matching__weights__compatibility": 0,
                    "matching__weights__perspective": 0,
                },
                "sum to 0",
            ),
            ({"matching__weights__lower_benefit": 0, "matching__weights__higher_benefit": 0}, "no mentoring"),
            ({"matching__floors__benefit": 1}, "floor of 1"),
            ({"rules__max_level_gap": 1}, "smaller than the least one"),
            ({"matching__benefit__first_wish": 0}, "No wish can be covered"),
            ({"matching__benefit__depths": {"explain": 0, "use": 0, "teach": 0}}, "No wish can be covered"),
            (
                {"matching__ease__style": 0, "matching__ease__language": 0, "matching__ease__time": 0},
                "parts of the compatibility sum to 0",
            ),
            ({"matching__perspective__same__department": 0.9}, "could earn 1.55 for its perspective"),
            ({"matching__perspective__gaps": [{"levels": 2, "worth": 0}] * 2}, "gap in seniority occurs twice"),
            ({"matching__perspective__gaps": [{"levels": -2, "worth": 0}]}, "below the junior"),
            ({"starts": "2026-05-01", "ends": "2026-05-01"}, "end before it starts"),
            ({"meetings__first_held_by_working_day": 5}, "before it has to be booked"),
            ({"care__quiet_from_hour": 8}, "same hour"),
            ({"care__checkin_days": (0, 30, 30)}, "twice"),
            ({"organisations": ("acme", "acme")}, "twice"),
            ({"organisations": ("acme",), "rules__cross_organisation": True}, "only one organisation"),
            ({"labels": {"shakespeares_tongue": {"name": "x"}}}, "by language"),
            ({"retention__months": 1}, "longer than everything else"),
        ],
    )
    def test_contradictions_are_rejected_with_their_text(self, changes: dict[str, Any], text: str) -> None:
        with pytest.raises(InvalidCommand, match=text):
            programmes.check_settings(settings(**changes))

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.1])
    @pytest.mark.parametrize(
        "setting",
        [
            "matching__weights__lower_benefit",
            "matching__floors__benefit",
            "matching__benefit__first_wish",
            "matching__benefit__depths__use",
            "matching__ease__plateau",
            "matching__ease__time",
            "matching__perspective__experience",
            "matching__fairness__max_cost",
            "matching__draw__tolerance",
            "matching__waiting",
        ],
    )
    def test_non_finite_and_negative_numbers_are_rejected(self, setting: str, number: float) -> None:
        with pytest.raises(ValidationError):
            settings(**{setting: number})

    @pytest.mark.parametrize(
        "changes",
        [
            {"matching__weights__perspective": float("nan")},
            {"matching__weights__perspective": float("inf")},
            {"matching__weights__perspective": -1},
            {"rules__min_level_gap": 20},
            {"care__min_group": 4},
            {"organisations": ()},
            {"labels": {}},
            {"confidential_contact": ""},
        ],
    )
    def test_impossible_numbers_never_become_settings(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            settings(**changes)


class TestProgrammeStates:
    def test_another_contact_of_an_open_programme_has_a_date(self) -> None:
        """Nobody takes part in a draft, so nobody is to be told."""
        other = settings(confidential_contact="other")
        drafted = programmes.change_settings(programme(), other, MOMENT)
        assert drafted is not None
        assert drafted[0].contact_since is None
        opened = programmes.open_programme(drafted[0], MOMENT)
        assert opened is not None
        changed = programmes.change_settings(opened[0], settings(confidential_contact="third"), MOMENT)
        assert changed is not None
        assert changed[0].contact_since == MOMENT.now
        later = programmes.change_settings(
            changed[0], settings(confidential_contact="third", rules__min_level_gap=4), MOMENT
        )
        assert later is not None
        assert programmes.to_public_event(later[0]).contact_since == MOMENT.now

    def test_opens_and_closes_and_stays_closed(self) -> None:
        opened = programmes.open_programme(programme(), MOMENT)
        assert opened is not None
        assert programmes.open_programme(opened[0], MOMENT) is None
        closed = programmes.close_programme(opened[0], MOMENT)
        assert closed is not None
        with pytest.raises(CommandRejected, match="closed"):
            programmes.change_settings(closed[0], settings(rules__min_level_gap=4), MOMENT)
        with pytest.raises(CommandRejected, match="last day"):
            programmes.open_programme(
                programmes.create_programme(None, "p", settings(ends="2026-01-01"), MOMENT)[0], MOMENT
            )
        with pytest.raises(CommandRejected, match="already"):
            programmes.create_programme(programme(), PROGRAMME, settings(), MOMENT)


TOTALS = RoundTotals(
    seniors=3,
    juniors=2,
    pairs=2,
    unmatched_seniors=1,
    unmatched_juniors=0,
    total_fit=1.2,
    lowest_fit=0.5,
    why=None,
    places=2,
)


def started() -> Round:
    decided = rounds.start_round(None, "r", (PROGRAMME, 1, "open", settings()), 0, MOMENT)
    assert decided is not None
    return decided[0]


def after(decision: rounds.Decision | None) -> Round:
    assert decision is not None
    return decision[0]


class TestRoundLifecycle:
    def test_has_one_worker_until_its_lease_expires(self) -> None:
        first = after(rounds.claim_run(started(), NOW))
        assert rounds.claim_run(first, NOW) is None
        second = after(rounds.claim_run(first, NOW + rounds.ROUND_LEASE))
        assert second.run == 2
        assert rounds.complete_computation(second, 1, TOTALS, MOMENT) is None, (
            "a newer computation has replaced the first"
        )
        done = rounds.complete_computation(second, 2, TOTALS, MOMENT)
        assert [type(event).__name__ for event in (done or (None, []))[1]] == ["RoundComputed"]

    def test_published_batches_count_once(self) -> None:
        ready = after(rounds.complete_computation(after(rounds.claim_run(started(), NOW)), 1, TOTALS, MOMENT))
        going = after(rounds.claim_run(after(rounds.start_publication(ready, MOMENT)), NOW))
        once = after(rounds.record_published_batch(going, 2, "000000", 1, 0, NOW))
        assert rounds.record_published_batch(once, 2, "000000", 1, 0, NOW) is None
        twice = after(rounds.record_published_batch(once, 2, "000001", 0, 1, NOW))
        assert (twice.proposed, twice.withdrawn) == (1, 1)
        done = rounds.complete_publication(twice, 2, MOMENT)
        assert [type(event).__name__ for event in (done or (None, []))[1]] == ["RoundPublished"]
        with pytest.raises(CommandRejected, match="gone out"):
            rounds.discard_round(twice, MOMENT)

    def test_discarding_stops_the_worker(self) -> None:
        working = after(rounds.claim_run(started(), NOW))
        discarded = after(rounds.discard_round(working, MOMENT))
        assert rounds.record_progress(discarded, 1, RoundProgress(), NOW) is None
        with pytest.raises(CommandRejected, match="computed round"):
            rounds.start_publication(discarded, MOMENT)
        with pytest.raises(CommandRejected, match="open programmes"):
            rounds.start_round(None, "r", (PROGRAMME, 1, "draft", settings()), 0, MOMENT)


TABLE: dict[Relation, str] = {
    #               see  own  answ char paus resu rene end  conf prog mana roun ledg
    "participant": "yes  yes  yes  yes  yes  yes  yes  yes  no   yes  no   no   yes",
    "coordinator": "yes  no   no   no   yes  yes  no   yes  yes  yes  yes  yes  no",
    "conflicted":  "no   no   no   no   no   no   no   no   no   yes  no   no   no",
    "admin":       "yes  no   no   no   yes  yes  no   yes  yes  yes  yes  yes  yes",
    "service":     "no   no   no   no   no   no   no   no   no   yes  no   no   no",
    "stranger":    "no   no   no   no   no   no   no   no   no   yes  no   no   no",
}  # fmt: skip
ACTIONS: tuple[Action, ...] = (
    "see_pairing", "see_own_answer", "answer", "charter", "pause", "resume", "renew", "end",
    "decide_conflict", "see_programme", "manage_programme", "run_rounds", "see_ledger",
)  # fmt: skip


class TestMatcherAccessPolicy:
    @pytest.mark.parametrize("relation", list(TABLE))
    @pytest.mark.parametrize("action", ACTIONS)
    def test_table_cell_by_cell(self, relation: Relation, action: Action) -> None:
        assert is_allowed(relation, action) == (TABLE[relation].split()[ACTIONS.index(action)] == "yes")
        assert set(ACTIONS) == set(ALLOWED_RELATIONS)

    @pytest.mark.parametrize(
        ("member", "roles", "coordinates", "conflicted", "relation"),
        [
            ("s", {"member"}, False, False, "participant"),
            ("s", {"coordinator", "admin"}, True, True, "participant"),
            ("c", {"coordinator"}, True, False, "coordinator"),
            ("c", {"coordinator"}, True, True, "conflicted"),
            ("c", {"coordinator"}, False, False, "stranger"),
            ("a", {"admin"}, False, False, "admin"),
            ("a", {"admin"}, False, True, "stranger"),
            ("x", {"member"}, False, False, "stranger"),
            (None, {"service"}, False, False, "stranger"),
        ],
    )
    def test_relation_to_a_pairing(
        self, member: str | None, roles: set[str], coordinates: bool, conflicted: bool, relation: str
    ) -> None:
        actual = relation_to_pairing(
            member, roles, coordinates=coordinates, participants={"s", "j"}, conflicted=conflicted
        )
        assert actual == relation

    def test_relation_to_a_programme(self) -> None:
        assert relation_to_programme({"coordinator"}, coordinates=True) == "coordinator"
        assert relation_to_programme({"coordinator"}, coordinates=False) == "stranger"
        assert relation_to_programme({"admin", "coordinator"}, coordinates=False) == "admin"
        assert relation_to_programme({"service"}, coordinates=False) == "service"

    def test_conflict_of_interest_covers_the_line_both_ways(self) -> None:
        me = person("c", line=("boss",))
        report, boss, colleague = person("j", "junior", line=("c",)), person("boss"), person("x")
        assert has_conflict_of_interest("c", me, [report])
        assert has_conflict_of_interest("c", me, [boss, colleague])
        assert not has_conflict_of_interest("c", me, [colleague])
        assert has_conflict_of_interest("c", None, [report])
        assert not has_conflict_of_interest(None, None, [report])
