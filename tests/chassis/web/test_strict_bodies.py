"""A request with a field that nobody knows, or with a value of another type, is refused and not half obeyed."""

import importlib
import json
from datetime import date
from typing import Annotated, Any

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from chassis.core.settings import Settings
from chassis.service import Chassis
from chassis.web.http import create_app
from chassis.web.strict_bodies import check_strictly, field_names
from contracts.catalogue import SERVICES
from contracts.envelope import Day, Instant
from tests.processes import Desk

WINDOWS = [{"weekday": 0, "start": 1320, "end": "120"}]
REFUSED = [
    ("profiles", "PUT", "/members/me/away", {"away": [{"since": "2026-12-10", "to": "2026-12-20"}]}, "body.away.0.to"),
    ("profiles", "PUT", "/members/me/away", {"away": [{"since": 0, "until": 86400}]}, "body.away.0.since"),
    ("profiles", "PUT", "/members/me/away", {"away": [{"since": "0"}]}, "body.away.0.since"),
    ("profiles", "PUT", "/members/me/entered", {"offer": [], "personalCap": 2}, "body.personalCap"),
    ("profiles", "PUT", "/members/me/entered", {"experience_band": True}, "body.experience_band"),
    ("profiles", "PUT", "/members/me/entered", {"experience_band": "7"}, "body.experience_band"),
    ("profiles", "PUT", "/members/me/entered", {"availability": {"kind": "weekly", "windows": WINDOWS}}, "end"),
    ("profiles", "PUT", "/members/me/contact", {"timezone": "Europe/Vienna"}, "body.timezone"),
    ("profiles", "PUT", "/members/me/enrolments/g", {"capacities": 3}, "body.capacities"),
    ("profiles", "PUT", "/members/me/avoid", {"member": []}, "body.member"),
    ("profiles", "PUT", "/members/me/statements", {"answers": {}, "languages": "de"}, "body.languages"),
    ("notifier", "PUT", "/preferences", {"channels": {"mail": True}}, "body"),
    ("matcher", "POST", "/pairings/P/pause", {"until": 1}, "body.until"),
    ("matcher", "POST", "/pairings/P/pause", {"until": "tomorrow"}, "body.until"),
    ("feedback", "POST", "/pairings/P/sessions", {"starts_at": 0}, "body.starts_at"),
    ("feedback", "POST", "/pairings/P/sessions", {"starts_at": "1700000000"}, "body.starts_at"),
    ("feedback", "POST", "/pairings/P/sessions", {"starts_at": "2026-12-10T10:00:00Z", "held": "true"}, "body.held"),
    ("matcher", "PUT", "/programmes/p/settings", {"rules": {"max_level_gap ": 8}}, "body.rules.*"),
    ("matcher", "PUT", "/programmes/p/settings", {"matchng": {}}, "body.matchng"),
    ("matcher", "PUT", "/programmes/p/settings", {"starts": "31.12.2026"}, "body.starts"),
]  # fmt: skip


def build_app(service: str) -> Any:
    settings = Settings(hmac_key="only for tests, only for tests, only")  # type: ignore[arg-type]
    parts = importlib.import_module(f"services.{service}.__main__").build(Chassis(service, settings))
    return create_app(service, settings, routers=parts.routers, verifier=Desk())  # type: ignore[arg-type]


class TestRealBodies:
    @pytest.mark.parametrize(("service", "method", "path", "body", "location"), REFUSED)
    async def test_each_mistake_is_refused_and_named(
        self, service: str, method: str, path: str, body: Any, location: str
    ) -> None:
        """Without a store: a body that passed would fail otherwise."""
        transport = httpx.ASGITransport(build_app(service))
        who = {"Authorization": "Bearer member+coordinator+admin:m-1"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=who) as client:
            response = await client.request(method, path, json=body)
        assert response.status_code == 422, response.text
        assert any(location in error["location"] for error in response.json()["errors"]), response.text

    @pytest.mark.parametrize("service", SERVICES)
    def test_every_operation_with_a_body_is_covered(self, service: str) -> None:
        bodies = [
            field.field_info.annotation
            for route in iter_route_contexts(build_app(service).routes)
            if (field := getattr(route, "body_field", None)) is not None
        ]
        assert bodies
        for annotation in bodies:
            with pytest.raises(RequestValidationError) as refusal:
                check_strictly(annotation, b'{"no such field": 1}')
            assert "extra_forbidden" in {error["type"] for error in refusal.value.errors()}


class Leaf(BaseModel):
    day: Day
    at: Instant
    count: Annotated[int, Field(ge=0)] = 0
    share: float = 0.0
    is_open: bool = False
    name: str = ""


class Tree(BaseModel):
    leaf: Leaf
    leaves: tuple[Leaf, ...] = ()


WRONG: dict[str, st.SearchStrategy[Any]] = {
    "day": st.integers() | st.floats(allow_nan=False) | st.booleans() | st.integers().map(str) | st.text(max_size=9),
    "at": st.integers() | st.floats(allow_nan=False) | st.booleans() | st.integers().map(str) | st.dates().map(str),
    "count": st.booleans() | st.floats(allow_nan=False) | st.text() | st.none(),
    "share": st.booleans() | st.text() | st.none(),
    "is_open": st.integers() | st.sampled_from(["true", "yes", "1"]) | st.none(),
    "name": st.integers() | st.booleans() | st.none(),
}


class TestLaw:
    @given(st.data(), st.dates())
    def test_one_wrong_leaf_is_named_at_any_depth(self, data: st.DataObject, day: date) -> None:
        leaf: dict[str, Any] = {"day": day.isoformat(), "at": "2026-03-01T10:00:00Z"}
        tree: dict[str, Any] = {"leaf": dict(leaf), "leaves": [dict(leaf), dict(leaf)]}
        check_strictly(Tree, json.dumps(tree).encode())
        parent, prefix = data.draw(
            st.sampled_from([(tree["leaf"], ("leaf",)), (tree["leaves"][1], ("leaves", 1))]), label="parent"
        )
        name = data.draw(st.sampled_from([*WRONG, "unknown"]))
        parent[name] = data.draw(WRONG.get(name, st.none() | st.integers()))
        with pytest.raises(RequestValidationError) as refusal:
            check_strictly(Tree, json.dumps(tree).encode())
        assert [error["loc"] for error in refusal.value.errors()] == [("body", *prefix, name)]

    def test_misspelt_field_is_told_with_the_nearest_known_one(self) -> None:
        assert field_names(Tree) >= {"leaf", "leaves", "day", "count"}
        with pytest.raises(RequestValidationError) as refusal:
            check_strictly(Tree, b'{"leaf": {"day": "2026-03-01", "at": "2026-03-01T10:00:00Z", "cuont": 1}}')
        assert [error["ctx"] for error in refusal.value.errors()] == [{"similar": "count"}]
