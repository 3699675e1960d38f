"""Figures that must not move in the moment in which a person acts."""

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter

from chassis.core.settings import Settings
from chassis.observability import metrics
from chassis.observability.metrics import RELEASE_INTERVAL_S, RELEASE_MINIMUM, HeldBack
from chassis.web import dev_tokens
from chassis.web.http import allow, create_app
from contracts.catalogue import TOPICS


class Watch:
    """A clock that stands still until it is set."""

    seconds = RELEASE_INTERVAL_S * 10 + 1

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture(autouse=True)
def held_back(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_member_commands", HeldBack(watch))
    monkeypatch.setattr(metrics, "_private_events", HeldBack(watch))


class TestHeldBack:
    def test_nothing_shows_before_the_release_time(self, watch: Watch) -> None:
        shown: list[int] = []
        held_back = HeldBack(watch)
        for number in range(RELEASE_MINIMUM):
            held_back.add(lambda number=number: shown.append(number))  # type: ignore[misc]
        held_back.release()
        assert shown == []
        watch.seconds += RELEASE_INTERVAL_S
        held_back.release()
        assert shown == list(range(RELEASE_MINIMUM))

    def test_a_few_wait_for_others(self, watch: Watch) -> None:
        shown: list[int] = []
        held_back = HeldBack(watch)
        for number in range(RELEASE_MINIMUM):
            assert shown == []
            held_back.add(lambda number=number: shown.append(number))  # type: ignore[misc]
            watch.seconds += RELEASE_INTERVAL_S
        held_back.release()
        assert shown == list(range(RELEASE_MINIMUM))

    def test_what_came_after_the_release_time_waits(self, watch: Watch) -> None:
        shown: list[int] = []
        held_back = HeldBack(watch)
        for number in range(RELEASE_MINIMUM):
            held_back.add(lambda number=number: shown.append(number))  # type: ignore[misc]
        watch.seconds += RELEASE_INTERVAL_S
        held_back.add(lambda: shown.append(99))
        held_back.release()
        assert 99 not in shown
        assert len(shown) == RELEASE_MINIMUM


class TestMemberCommands:
    """Two routes by which members act. Nobody can tell from the figures which one was used, nor when."""

    @pytest.fixture
    def client(self, tmp_path: Path) -> httpx.AsyncClient:
        router = APIRouter()

        @router.post("/asked/{id}/accept", dependencies=[allow("member")])
        async def accept(id: str) -> None: ...

        @router.put("/asked/{id}/decline", dependencies=[allow("member", "admin")])
        async def decline(id: str) -> None: ...

        @router.post("/rounds", dependencies=[allow("admin")])
        async def compute() -> None: ...

        (tmp_path / "jwks.json").write_text(json.dumps(dev_tokens.public_jwks(tmp_path)))
        app = create_app("held", Settings(jwks_url=(tmp_path / "jwks.json").as_uri()), routers=[router])
        token = dev_tokens.issue_token(tmp_path, "m-1", ["member", "admin"])
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://held", headers={"Authorization": f"Bearer {token}"}
        )

    def figures(self) -> str:
        """Every figure of this service."""
        return "\n".join(line for line in metrics.render_metrics().decode().splitlines() if 'service="held"' in line)

    async def test_figures_do_not_move_with_an_answer(self, client: httpx.AsyncClient, watch: Watch) -> None:
        before = self.figures()
        assert (await client.post("/asked/1/accept")).status_code == 200
        assert self.figures() == before
        watch.seconds += 10 * RELEASE_INTERVAL_S
        assert self.figures() == before, "one answer alone never shows"

    async def test_figures_show_no_route_of_an_answer(self, client: httpx.AsyncClient, watch: Watch) -> None:
        for _ in range(RELEASE_MINIMUM):
            await client.post("/asked/1/accept")
            await client.put("/asked/1/decline")
        watch.seconds += RELEASE_INTERVAL_S
        shown = self.figures()
        assert "/asked" not in shown
        assert f'viceversa_http_request_seconds_count{{method="*",route="{metrics.MEMBER_COMMAND}"' in shown

    async def test_commands_of_others_show_at_once(self, client: httpx.AsyncClient) -> None:
        await client.post("/rounds")
        assert 'route="/rounds"' in self.figures()


class TestPrivateEvents:
    def test_answers_and_outcomes_are_private_acts(self) -> None:
        assert {topic.name for topic in TOPICS if topic.holds_private_acts} >= {"answers.v1", "outcomes.v1"}
        assert not any(topic.holds_private_acts for topic in TOPICS if not topic.restricted)

    def test_handled_event_shows_later_and_with_others(self, watch: Watch) -> None:
        for number in range(RELEASE_MINIMUM):
            metrics.count_handled("held-events", "answers.v1", "answer.v1", [datetime.now(UTC)], is_private=True)
            assert "held-events" not in metrics.render_metrics().decode(), number
        watch.seconds += RELEASE_INTERVAL_S
        assert f'topic="answers.v1",type="answer.v1"}} {RELEASE_MINIMUM}.0' in metrics.render_metrics().decode()

    def test_lag_of_a_few_events_does_not_show(self) -> None:
        metrics.set_lag("held-lag", "answers.v1", 0, RELEASE_MINIMUM - 1, is_private=True)
        assert 'viceversa_consumer_lag{partition="0",service="held-lag",topic="answers.v1"} 0.0' in (
            metrics.render_metrics().decode()
        )
