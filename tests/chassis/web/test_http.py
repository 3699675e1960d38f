"""HTTP of every service: permissions, problems that never repeat the input, repeatable commands, limits."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from pydantic import BaseModel, Field, field_validator
from pymongo.errors import OperationFailure

from chassis.core.settings import Settings
from chassis.observability.health import Health
from chassis.storage.aggregates import KeyReused, TooBusy, VersionConflict
from chassis.storage.mongo import ConnectionFailure
from chassis.web import dev_tokens
from chassis.web.http import (
    Command,
    OpenRoute,
    Page,
    PageRequest,
    Principal,
    Problem,
    allow,
    build_page,
    command,
    create_app,
    set_etag,
)
from contracts.errors import CommandRejected
from tests.patience import patience

SECRET = "maria.silva@example.com"


class ThingChange(BaseModel):
    size: Annotated[int, Field(ge=1, le=5)] = 1
    note: str = ""
    marks: dict[str, int] = {}

    @field_validator("note")
    @classmethod
    def _plain(cls, value: str) -> str:
        if "@" in value:
            raise ValueError(f"{value} is an address")
        return value


ERRORS: dict[str, Exception] = {
    "key_reused": KeyReused(SECRET),
    "stale": VersionConflict(SECRET),
    "busy": TooBusy(SECRET),
    "unavailable": ConnectionFailure(SECRET),
    "slow": TimeoutError(SECRET),
    "stepped_down": OperationFailure(SECRET, 189),
    "wrong_query": OperationFailure(SECRET, 2),
    "refused": CommandRejected("full", "All seats are taken."),
    "problem": Problem(409, "Not now.", code="later"),
    "internal": RuntimeError(SECRET),
}


things = APIRouter(prefix="/things")


@things.get("/{id}", dependencies=[allow("member", "admin")])
async def get_thing(id: str, response: Response) -> dict[str, str]:
    set_etag(response, 7)
    return {"id": id}


@things.get("")
async def list_things(
    paging: Annotated[PageRequest, Depends()], principal: Annotated[Principal, allow("admin")]
) -> Page[int]:
    async def numbers() -> AsyncIterator[int]:
        start = int(paging.after or 0)
        for number in range(start + 1, min(start + paging.fetch_limit, 5) + 1):
            yield number

    items, following = await build_page(numbers(), paging, str)
    return Page(items=items, next=following)


@things.post("/{id}/change")
async def change_thing(id: str, change: ThingChange, command: Annotated[Command, command("admin")]) -> dict[str, Any]:
    return {"op": command.op.key, "request": command.op.request, "expect": command.expect}


@things.post("/upload")
async def upload_file(request: Request, command: Annotated[Command, command("admin", streamed=True)]) -> dict[str, Any]:
    size = 0
    async for part in request.stream():
        size += len(part)
    return {"size": size, "op": command.op.key}


@things.post("/fail/{name}", dependencies=[allow("admin")])
async def raise_error(name: str) -> None:
    raise ERRORS[name]


def settings(**more: Any) -> Settings:
    return Settings(**({"max_body_bytes": 1024, "max_upload_bytes": 4096} | more))


def health() -> Health:
    return Health(lambda: datetime.now(UTC), servers=("mongodb",))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "jwks.json").write_text(json.dumps(dev_tokens.public_jwks(tmp_path)))
    return tmp_path


def build_app(data: Path, *routers: APIRouter, **more: Any) -> FastAPI:
    app_settings = settings(jwks_url=(data / "jwks.json").as_uri(), **more)
    return create_app("alpha", app_settings, routers=routers or (things,))


@asynccontextmanager
async def open_client(app: FastAPI, data: Path, *roles: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {dev_tokens.issue_token(data, 'm-1', roles)}"} if roles else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


@pytest.fixture
async def admin(data: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(build_app(data), data, "admin") as client:
        yield client


def check_problem(response: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body.get("code") == code
    assert body["title"]
    assert SECRET not in response.text
    return body


class TestRoutePermissions:
    def test_route_without_roles_prevents_the_start(self, data: Path) -> None:
        inner, outer = APIRouter(), APIRouter(prefix="/outer")

        @inner.get("/open")
        async def open_to_all() -> None: ...

        outer.include_router(inner)
        with pytest.raises(OpenRoute, match="GET /outer/open"):
            build_app(data, outer)

    def test_router_may_declare_roles_for_all_its_routes(self, data: Path) -> None:
        router = APIRouter(dependencies=[allow("admin")])

        @router.get("/guarded")
        async def guarded() -> None: ...

        build_app(data, router)

    def test_at_least_one_role_is_required(self) -> None:
        with pytest.raises(ValueError, match="at least one role"):
            allow()

    async def test_missing_token(self, data: Path) -> None:
        async with open_client(build_app(data), data) as client:
            response = await client.get("/things/1")
            check_problem(response, 401, "token_missing")
            assert response.headers["www-authenticate"] == "Bearer"

    async def test_invalid_token(self, data: Path) -> None:
        async with open_client(build_app(data), data) as client:
            response = await client.get("/things/1", headers={"Authorization": f"Bearer {SECRET}"})
            check_problem(response, 401, "token_invalid")
            assert "invalid_token" in response.headers["www-authenticate"]

    @pytest.mark.parametrize(
        ("role", "path", "status"),
        [
            ("member", "/things/1", 200),
            ("admin", "/things/1", 200),
            ("coordinator", "/things/1", 403),
            ("service", "/things/1", 403),
            ("member", "/things", 403),
            ("admin", "/things", 200),
        ],
    )
    async def test_role_decides_about_access(self, data: Path, role: str, path: str, status: int) -> None:
        async with open_client(build_app(data), data, role) as client:
            assert (await client.get(path)).status_code == status

    async def test_unreachable_issuer_is_a_503(self, data: Path) -> None:
        app = build_app(data)
        (data / "jwks.json").unlink()
        async with open_client(app, data, "admin") as client:
            response = await client.get("/things/1")
            check_problem(response, 503, "issuer_unreachable")
            assert response.headers["retry-after"]

    @pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
    async def test_metrics_and_health_are_not_on_this_port(self, admin: httpx.AsyncClient, path: str) -> None:
        check_problem(await admin.get(path), 404, "not_found")

    async def test_description_is_open(self, data: Path) -> None:
        async with open_client(build_app(data), data) as client:
            description = (await client.get("/openapi.json")).json()
        assert description["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
        assert description["paths"]["/things/{id}"]["get"]["security"]
        assert "/metrics" not in description["paths"]
        assert "HTTPValidationError" not in str(description)
        assert {"400", "401", "403", "404", "422", "503"} <= description["paths"]["/things/{id}"]["get"][
            "responses"
        ].keys()
        assert {"404", "409", "412", "413"} <= description["paths"]["/things/upload"]["post"]["responses"].keys()


class TestProblemDocuments:
    @pytest.mark.parametrize(
        ("name", "status", "code"),
        [
            ("key_reused", 422, "key_reused"),
            ("stale", 412, "stale"),
            ("busy", 503, "busy"),
            ("unavailable", 503, "unavailable"),
            ("slow", 503, "unavailable"),
            ("stepped_down", 503, "unavailable"),
            ("wrong_query", 500, "internal"),
            ("refused", 409, "full"),
            ("problem", 409, "later"),
            ("internal", 500, "internal"),
        ],
    )
    async def test_each_error_has_its_problem(
        self, admin: httpx.AsyncClient, name: str, status: int, code: str
    ) -> None:
        response = await admin.post(f"/things/fail/{name}")
        check_problem(response, status, code)
        assert ("retry-after" in response.headers) == (status == 503)

    async def test_message_of_a_command_error_is_shown(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.post("/things/fail/refused")).json()["detail"] == "All seats are taken."

    async def test_unknown_path_and_wrong_method(self, admin: httpx.AsyncClient) -> None:
        check_problem(await admin.get(f"/nowhere/{SECRET}"), 404, "not_found")
        response = await admin.delete("/things/1")
        check_problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "GET"

    @pytest.mark.parametrize(
        ("body", "location", "message"),
        [
            ({"size": 9}, "body.size", "5 or less"),
            ({"size": SECRET}, "body.size", "whole number"),
            ({"note": SECRET}, "body.note", "is not valid"),
            ({"marks": {SECRET: "many"}}, "body.marks.*", "whole number"),
        ],
    )
    async def test_invalid_field_is_named_without_its_value(
        self, admin: httpx.AsyncClient, body: dict[str, Any], location: str, message: str
    ) -> None:
        (error,) = check_problem(await admin.post("/things/1/change", json=body), 422, "invalid")["errors"]
        assert error["location"] == location
        assert message in error["message"]

    async def test_body_that_is_not_json(self, admin: httpx.AsyncClient) -> None:
        headers = {"Content-Type": "application/json"}
        check_problem(await admin.post("/things/1/change", content=f"{{{SECRET}", headers=headers), 422, "invalid")

    async def test_responses_have_security_headers(self, admin: httpx.AsyncClient) -> None:
        response = await admin.get("/things/1")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]


class TestIdempotencyKeys:
    async def ask(
        self, client: httpx.AsyncClient, size: int = 1, path: str = "/things/1/change", **headers: str
    ) -> Any:
        response = await client.post(
            path, json={"size": size}, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert response.status_code == 200, response.text
        return response.json()

    async def test_same_key_is_the_same_operation(self, admin: httpx.AsyncClient) -> None:
        first = await self.ask(admin, idempotency_key="k-1")
        assert await self.ask(admin, idempotency_key="k-1") == first
        other = await self.ask(admin, size=2, idempotency_key="k-1")
        assert other["op"] == first["op"]
        assert other["request"] != first["request"], "another body has another request hash"

    async def test_key_counts_for_one_person_and_one_path(self, admin: httpx.AsyncClient, data: Path) -> None:
        first = await self.ask(admin, idempotency_key="k-1")
        assert (await self.ask(admin, 1, "/things/2/change", idempotency_key="k-1"))["op"] != first["op"]
        admin.headers["Authorization"] = f"Bearer {dev_tokens.issue_token(data, 'm-2', ['admin'])}"
        assert (await self.ask(admin, idempotency_key="k-1"))["op"] != first["op"]

    async def test_without_a_key_each_request_is_an_operation(self, admin: httpx.AsyncClient) -> None:
        assert (await self.ask(admin))["op"] != (await self.ask(admin))["op"]

    @pytest.mark.parametrize("key", ["", "two words", "x" * 256])
    async def test_invalid_key_is_rejected(self, admin: httpx.AsyncClient, key: str) -> None:
        check_problem(await admin.post("/things/1/change", json={}, headers={"Idempotency-Key": key}), 422, "invalid")

    @pytest.mark.parametrize(
        ("header", "value", "expect"),
        [
            ("x_other", "1", None),
            ("if_match", '"7"', 7),
            ("if_match", "*", None),
            ("if_match", 'W/"7"', -1),
            ("if_match", "seven", -1),
            ("if_none_match", "*", 0),
        ],
    )
    async def test_expected_version_comes_from_the_headers(
        self, admin: httpx.AsyncClient, header: str, value: str, expect: int | None
    ) -> None:
        assert (await self.ask(admin, 1, **{header: value}))["expect"] == expect

    async def test_etag_gives_the_version(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.get("/things/1")).headers["etag"] == '"7"'


class TestRequestLimits:
    async def test_announced_size_above_the_limit(self, admin: httpx.AsyncClient) -> None:
        check_problem(await admin.post("/things/1/change", json={"note": "x" * 2000}), 413, "too_large")

    async def test_received_size_above_the_limit(self, admin: httpx.AsyncClient) -> None:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b" " * 300

        headers = {"Content-Type": "application/json"}
        check_problem(await admin.post("/things/1/change", content=parts(), headers=headers), 413, "too_large")

    async def test_upload_has_its_own_limit(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.post("/things/upload", content=b"x" * 4000)).json()["size"] == 4000

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"x" * 1000

        check_problem(await admin.post("/things/upload", content=b"x" * 5000), 413, "too_large")
        check_problem(await admin.post("/things/upload", content=parts()), 413, "too_large")

    async def test_slow_body_of_a_stranger_takes_no_slot(self, data: Path) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.01)

        app = build_app(data, things, max_requests=1)
        async with open_client(app, data) as stranger, open_client(app, data, "admin") as admin:
            slow = asyncio.create_task(stranger.post("/things/1/change", content=endless()))
            assert (await admin.get("/things/1")).status_code == 200
            async with asyncio.timeout(patience(10)):
                assert (await slow).status_code == 401


class TestRequestSlots:
    """A route that waits, so that a test decides how many requests are open."""

    @pytest.fixture
    def leave(self) -> asyncio.Event:
        return asyncio.Event()

    @pytest.fixture
    def router(self, leave: asyncio.Event) -> APIRouter:
        router = APIRouter()

        @router.get("/slow", dependencies=[allow("admin")])
        async def slow() -> None:
            await leave.wait()

        @router.get("/fail", dependencies=[allow("admin")])
        async def fail() -> None:
            raise RuntimeError(SECRET)

        return router

    async def ask(self, client: httpx.AsyncClient, data: Path, member: str, path: str = "/slow") -> httpx.Response:
        token = dev_tokens.issue_token(data, member, ["admin"])
        return await client.get(path, headers={"Authorization": f"Bearer {token}"})

    async def test_requests_above_the_maximum_get_a_503(
        self, data: Path, router: APIRouter, leave: asyncio.Event
    ) -> None:
        async with open_client(build_app(data, router, max_requests=1), data, "admin") as client:
            first, second = [asyncio.create_task(self.ask(client, data, member)) for member in ("m-1", "m-2")]
            done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
            refused = done.pop().result()
            check_problem(refused, 503, "overloaded")
            assert refused.headers["retry-after"]
            leave.set()
            assert {(await first).status_code, (await second).status_code} == {200, 503}
            assert (await self.ask(client, data, "m-2")).status_code == 200

    async def test_requests_above_the_share_of_a_client_get_a_429(
        self, data: Path, router: APIRouter, leave: asyncio.Event
    ) -> None:
        app = build_app(data, router, max_requests=5, max_requests_per_client=2)
        async with open_client(app, data) as client:
            own = [asyncio.create_task(self.ask(client, data, "m-1")) for _ in range(3)]
            (refused,), _ = await asyncio.wait(own, return_when=asyncio.FIRST_COMPLETED)
            check_problem(refused.result(), 429, "too_many_requests")
            assert refused.result().headers["retry-after"]
            other = asyncio.create_task(self.ask(client, data, "m-2"))
            leave.set()
            assert (await other).status_code == 200
            assert sorted([(await task).status_code for task in own]) == [200, 200, 429]

    async def test_failed_request_frees_its_slot(self, data: Path, router: APIRouter) -> None:
        async with open_client(build_app(data, router, max_requests_per_client=1), data) as client:
            for _ in range(3):
                assert (await self.ask(client, data, "m-1", "/fail")).status_code == 500


class TestHostHeader:
    @pytest.mark.parametrize("path", ["/things/", "/things/1/", "/openapi.json/", "//things", "/docs/"])
    async def test_no_answer_repeats_the_host(self, data: Path, path: str) -> None:
        async with open_client(build_app(data), data, "admin") as client:
            response = await client.get(path, headers={"Host": "evil.example"})
            assert "location" not in response.headers
            assert "evil.example" not in response.text

    @pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/things/1"])
    async def test_no_page_repeats_the_host(self, data: Path, path: str) -> None:
        headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "//evil.example"}
        async with open_client(build_app(data), data, "admin") as client:
            response = await client.get(path, headers=headers)
            assert response.status_code == 200
            assert "evil.example" not in response.text + str(response.headers)


class TestSecurityHeaders:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/things/1", 200),
            ("HEAD", "/things/1", 405),
            ("OPTIONS", "/things/1", 405),
            ("DELETE", "/things/1", 405),
            ("TRACE", "/things/1", 405),
            ("GET", "/nowhere", 404),
            ("HEAD", "/nowhere", 404),
            ("OPTIONS", "*", 404),
            ("POST", "/things/fail/internal", 500),
            ("POST", "/things/fail/busy", 503),
            ("GET", "/openapi.json", 200),
        ],
    )
    async def test_every_answer_has_them(self, data: Path, method: str, path: str, status: int) -> None:
        async with open_client(build_app(data, hsts_max_age_s=100), data, "admin") as client:
            response = await client.request(method, path)
        assert response.status_code == status
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert response.headers["strict-transport-security"] == "max-age=100"

    async def test_plain_http_is_not_promised_to_be_https(self, admin: httpx.AsyncClient) -> None:
        assert "strict-transport-security" not in (await admin.get("/things/1")).headers


class TestPaging:
    async def test_pages_follow_each_other_to_the_end(self, admin: httpx.AsyncClient) -> None:
        first = (await admin.get("/things", params={"limit": 2})).json()
        assert first == {"items": [1, 2], "next": "2"}
        second = (await admin.get("/things", params={"limit": 2, "after": first["next"]})).json()
        assert second == {"items": [3, 4], "next": "4"}
        assert (await admin.get("/things", params={"limit": 2, "after": "4"})).json() == {"items": [5], "next": None}

    @pytest.mark.parametrize("limit", ["0", "201", "many"])
    async def test_page_size_is_limited(self, admin: httpx.AsyncClient, limit: str) -> None:
        check_problem(await admin.get("/things", params={"limit": limit}), 422, "invalid")
