"""The table of permissions cell by cell, relations to a pairing, and conflicts."""

import itertools
from typing import get_args

import pytest

from contracts.profiles import ProfileChanged
from services.feedback.domain.access_policy import (
    ALLOWED,
    Action,
    Relation,
    has_conflict,
    is_allowed,
    relation_to_pairing,
)
from services.feedback.domain.colleague import Colleague

FACTS = {"participant", "coordinator", "admin"}


class TestAccessTable:
    @pytest.mark.parametrize(("relation", "action"), list(itertools.product(get_args(Relation), get_args(Action))))
    def test_facts_are_for_three_relations_the_rest_for_two(self, relation: Relation, action: Action) -> None:
        """Participants, coordinators and admins may see facts. Everything else is for participants only."""
        assert is_allowed(relation, action) == (relation in (FACTS if action == "see_facts" else {"participant"}))
        assert set(ALLOWED) == set(get_args(Action))


class TestRelation:
    @pytest.mark.parametrize(
        ("member", "roles", "coordinates", "conflicted", "relation"),
        [
            ("s", {"member"}, False, False, "participant"),
            ("s", {"member", "coordinator", "admin"}, True, True, "participant"),
            ("c", {"coordinator"}, True, False, "coordinator"),
            ("c", {"coordinator"}, True, True, "conflicted"),
            ("c", {"coordinator"}, False, False, "stranger"),
            ("a", {"admin"}, False, False, "admin"),
            ("a", {"admin"}, False, True, "stranger"),
            (None, {"service"}, False, False, "stranger"),
            ("x", {"member"}, True, False, "stranger"),
        ],
    )
    def test_follows_from_roles_and_participation(
        self, member: str | None, roles: set[str], coordinates: bool, conflicted: bool, relation: Relation
    ) -> None:
        actual = relation_to_pairing(
            member, roles, coordinates=coordinates, participants=("s", "j"), conflicted=conflicted
        )
        assert actual == relation


class TestConflict:
    def test_is_the_line_above_and_below_and_the_evaluators(self) -> None:
        def somebody(id: str, *line: str, judged_by: tuple[str, ...] = ()) -> Colleague:
            return Colleague(member_id=id, line=line, evaluators=judged_by)

        me = somebody("me", "above")
        assert has_conflict("me", me, [somebody("above")])
        assert has_conflict("me", me, [somebody("below", "me", "above")])
        assert has_conflict("me", me, [somebody("other", judged_by=("me",))])
        assert not has_conflict("me", me, [somebody("other", "above")])
        assert not has_conflict(None, None, [me])


class TestColleague:
    def test_contains_nothing_private_of_the_profile(self) -> None:
        profile = ProfileChanged(
            member_id="m", organisation_id="halden", department_id="it", avoid=("x",), time_zone="Europe/Berlin"
        )
        stored = Colleague.model_validate_json(profile.model_dump_json())
        assert set(stored.model_dump()) == {"member_id", "line", "evaluators", "time_zone"}
