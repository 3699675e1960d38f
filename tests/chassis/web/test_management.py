"""The management port: metrics and health, without a token, and nothing else."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from chassis.core.settings import Settings, SettingsError
from chassis.observability.health import Health
from chassis.web.management import create_management_app


@pytest.fixture
async def operator() -> AsyncIterator[httpx.AsyncClient]:
    app = create_management_app(Settings(), Health(lambda: datetime.now(UTC), servers=("mongodb",)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://management") as client:
        yield client


class TestManagementPort:
    async def test_health_and_metrics_need_no_token(self, operator: httpx.AsyncClient) -> None:
        assert (await operator.get("/health/live")).json()["status"] == "ok"
        ready = await operator.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["mongodb"]["ok"]) == (503, False)
        assert "viceversa_http_request_seconds" in (await operator.get("/metrics")).text

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/metrics", 200),
            ("HEAD", "/metrics", 200),
            ("POST", "/metrics", 405),
            ("OPTIONS", "/metrics", 405),
            ("GET", "/metrics/", 404),
            ("GET", "/openapi.json", 404),
            ("GET", "/members", 404),
        ],
    )
    async def test_every_answer_has_the_headers(
        self, operator: httpx.AsyncClient, method: str, path: str, status: int
    ) -> None:
        answer = await operator.request(method, path, headers={"Host": "evil.example"})
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "location" not in answer.headers

    def test_it_listens_on_loopback_beside_the_api(self) -> None:
        assert Settings(http_port=8101, http_host="192.0.2.1").management_host == "127.0.0.1"
        assert Settings(http_port=8101).find_management_port() == 9101
        assert Settings(http_port=8101, management_port=7000).find_management_port() == 7000
        with pytest.raises(SettingsError, match="VICEVERSA_MANAGEMENT_PORT"):
            Settings(http_port=65000).find_management_port()
