"""No text of a request can break a service: what must not come in is refused with 422 at one border."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Response
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue

from chassis.core.ids import derived_id
from chassis.core.settings import Settings
from chassis.web import dev_tokens
from chassis.web.authentication import Unauthenticated, principal_from_claims
from chassis.web.http import Command, Page, RequestBody, allow, command, create_app, set_location
from chassis.web.text_border import fields_of_several_lines
from contracts.text import SEVERAL_LINES, find_fault

ANY_CHARACTER = st.characters(exclude_categories=())
ANY_TEXT = st.text(ANY_CHARACTER, max_size=12)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
TEXTS_THAT_ONCE_FAILED = ["\x1f", "\x00", "\x9b2J", "\u202e", "a\nb", "\ufffe"]


class Chapter(BaseModel):
    title: str
    lines: Annotated[str, SEVERAL_LINES] | None = None


class Tale(RequestBody):
    title: Annotated[str, Field(max_length=20)] = ""
    chapters: tuple[Chapter, ...] = ()
    morals: tuple[Annotated[str, SEVERAL_LINES], ...] = ()
    anything: JsonValue = None


stories = APIRouter()


@stories.post("/stories/{id}/parts")
async def add_part(
    id: str, body: Tale, command: Annotated[Command, command("admin")], response: Response, kind: str = ""
) -> dict[str, str]:
    set_location(response, "stories", id)
    json.dumps(body.model_dump(mode="json"), allow_nan=False)
    return {"id": derived_id(id, kind, command.op.key)}


@stories.get("/stories", dependencies=[allow("admin")])
async def list_stories() -> Page[int]:
    return Page(items=[])


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "jwks.json").write_text(json.dumps(dev_tokens.public_jwks(tmp_path)))
    app = create_app("alpha", Settings(jwks_url=(tmp_path / "jwks.json").as_uri()), routers=(stories,))
    headers = {"Authorization": f"Bearer {dev_tokens.issue_token(tmp_path, 'm-1', ('admin',))}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers) as client:
        yield client


def quoted(text: str) -> str:
    """Every byte of the text in percent form, also lone surrogates."""
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass")) or "%20"


async def post(client: httpx.AsyncClient, content: str, path: str = "/stories/one/parts") -> httpx.Response:
    return await client.post(path, content=content, headers={"Content-Type": "application/json"})


class TestEveryPlace:
    @pytest.mark.parametrize("text", TEXTS_THAT_ONCE_FAILED)
    @pytest.mark.parametrize("address", ["/stories/{}/parts", "/stories/one/parts?kind={}", "/stories?{}=1", "/{}"])
    async def test_unsafe_path_or_query_is_refused(self, admin: httpx.AsyncClient, address: str, text: str) -> None:
        response = await admin.post(address.format(quoted(text)), json={})
        assert response.status_code == 422
        assert response.json()["code"] == "unsafe_text"
        assert text not in response.text

    @pytest.mark.parametrize("content", [
        '{"title": "\\u001f"}',
        '{"title": "two\\nlines"}',
        '{"title": "\\ud800"}',
        '{"anything": {"\\ud800": 1}}',
        '{"anything": [[{"deep": ["\\u202e"]}]]}',
        '{"\\u0000": 1}',
        '{"chapters": [{"title": "two\\nlines"}]}',
        '{"chapters": [{"title": "one", "lines": "\\u009b"}]}',
    ])  # fmt: skip
    async def test_unsafe_body_is_refused_at_any_depth(self, admin: httpx.AsyncClient, content: str) -> None:
        response = await post(admin, content)
        assert (response.status_code, response.json()["code"]) == (422, "unsafe_text")

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9223372036854775808", "1" * 400])
    async def test_number_that_no_store_holds_is_refused(self, admin: httpx.AsyncClient, number: str) -> None:
        response = await post(admin, f'{{"anything": {number}}}')
        assert (response.status_code, response.json()["code"]) == (422, "invalid")

    async def test_line_breaks_pass_in_marked_fields_alone(self, admin: httpx.AsyncClient) -> None:
        story = {"chapters": [{"title": "one", "lines": "first\r\nsecond"}], "morals": ["a\nb"]}
        assert (await admin.post("/stories/one/parts", json=story)).status_code == 200
        assert fields_of_several_lines(Tale) == {"lines", "morals"}

    async def test_letters_of_any_language_pass_and_are_quoted(self, admin: httpx.AsyncClient) -> None:
        response = await admin.post("/stories/%C5%82%E2%80%8D/parts", json={"title": "می‌خواهم"})
        assert (response.status_code, response.headers["Location"]) == (200, "/stories/%C5%82%E2%80%8D")

    async def test_long_names_are_refused(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.post(f"/stories/{'a' * 300}/parts", json={})).status_code == 422
        assert (await admin.get("/stories", params={"a": "b" * 5000})).status_code == 422


class TestAnyText:
    @hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(id=ANY_TEXT, kind=ANY_TEXT, body=ANY_JSON, key=st.binary(max_size=8))
    async def test_no_request_fails(
        self, admin: httpx.AsyncClient, id: str, kind: str, body: object, key: bytes
    ) -> None:
        response = await admin.post(
            f"/stories/{quoted(id)}/parts?kind={quoted(kind)}",
            content=json.dumps({"anything": body}),
            headers=[(b"Content-Type", b"application/json"), (b"Idempotency-Key", key), (b"X-Any", key)],
        )
        assert response.status_code in (200, 404, 422), response.text


class TestClaims:
    @pytest.mark.parametrize("text", [*TEXTS_THAT_ONCE_FAILED, "\ud800"])
    @pytest.mark.parametrize("claim", ["sub", "member_id", "roles", "programmes"])
    def test_token_with_an_unsafe_claim_is_invalid(self, claim: str, text: str) -> None:
        names = {"member_id": settings.member_claim, "roles": settings.roles_claim}
        names["programmes"] = settings.programmes_claim
        value: object = text if claim in ("sub", "member_id") else ["one", text]
        with pytest.raises(Unauthenticated) as refused:
            principal_from_claims(settings, {"sub": "one", names.get(claim, claim): value})
        assert refused.value.code == "token_invalid"

    @given(st.text(st.characters(exclude_categories=["Cf"]), min_size=1, max_size=12), ANY_TEXT)
    def test_a_principal_holds_safe_text_only(self, subject: str, programme: str) -> None:
        claims = {"sub": subject, settings.programmes_claim: [programme]}
        try:
            principal = principal_from_claims(settings, claims)
        except Unauthenticated:
            assert find_fault(subject) or find_fault(programme)
        else:
            assert not find_fault(principal.subject)
            assert not any(map(find_fault, principal.programmes))


settings = Settings()
