"""HTTP clients of the simulated people: each uses their own token, and retries as a good client does."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from chassis.core.ids import new_id
from cli import connections
from cli.api import build_failure
from cli.console import Failure
from cli.installation import Addresses

MAX_CONCURRENT_REQUESTS = 6
"""Concurrent requests. The number is small, for a machine with two cores."""

_GIVE_UP_AFTER_S = 45.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 2.0
_PAGE_ITEMS = 200
_TOKEN_REUSE_S = 1800.0


class RequestRefused(Failure):
    """A service refused a request. ``problem_code`` is the code of its problem, such as ``not_proposed``."""

    def __init__(self, failure: Failure, problem_code: str) -> None:
        super().__init__(failure.message, failure.advice, code=failure.code)
        self.reason = problem_code


class DemoServices:
    """All services, for all callers in the demo. Every command has an Idempotency-Key, so a retry is safe."""

    def __init__(self, data: Path, addresses: Addresses) -> None:
        self.addresses = addresses
        self._data = data
        self._client = httpx.AsyncClient(timeout=30, trust_env=False)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)
        self._tokens: dict[str, tuple[str, float]] = {}

    async def close(self) -> None:
        await self._client.aclose()

    def member(self, member_id: str) -> "DemoCaller":
        return DemoCaller(self, member_id, ("member",), ())

    def coordinator(self, member_id: str, programme: str) -> "DemoCaller":
        return DemoCaller(self, member_id, ("member", "coordinator"), (programme,))

    def admin(self, subject: str = "viceversa-demo") -> "DemoCaller":
        return DemoCaller(self, None, ("admin",), (), subject)

    def get_token(
        self, member_id: str | None, roles: tuple[str, ...], programmes: tuple[str, ...], subject: str
    ) -> str:
        key = "|".join([member_id or subject, *roles, *programmes])
        token, issued_at = self._tokens.get(key, ("", 0.0))
        if not token or time.monotonic() - issued_at > _TOKEN_REUSE_S:
            token = connections.issue_local_token(
                self._data, self.addresses, member_id, roles, programmes, subject=member_id or subject
            )
            self._tokens[key] = (token, time.monotonic())
        return token

    async def read_metrics(self, service: str) -> list[Sample]:
        """The current metrics of a service."""
        response = await self.call("GET", f"{self.addresses.management_urls[service]}/metrics", {})
        return [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]

    async def call(self, method: str, url: str, headers: Mapping[str, str], **body: Any) -> httpx.Response:
        """Send a request, with retries while the service is down or busy. Raises ``Failure`` after a time limit."""
        until, pause = time.monotonic() + _GIVE_UP_AFTER_S, _FIRST_PAUSE_S
        async with self._slots:
            while True:
                try:
                    response = await self._client.request(method, url, headers=dict(headers), **body)
                    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                        return response
                    problem = f"is busy: {response.text[:200]}"
                except httpx.TransportError as error:
                    problem = f"does not answer ({type(error).__name__})"
                if time.monotonic() > until:
                    raise Failure(f"{url} {problem}.", "See its log in the data folder.")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_S)


class DemoCaller:
    """One person or the administrator, with their token."""

    def __init__(
        self,
        web: DemoServices,
        member_id: str | None,
        roles: tuple[str, ...],
        programmes: tuple[str, ...],
        subject: str = "viceversa-demo",
    ) -> None:
        self.web, self._who = web, (member_id, roles, programmes, subject)

    async def get(self, service: str, path: str, **query: str | int) -> Any:
        return await self._call("GET", service, path, params=query)

    async def send_json(self, method: str, service: str, path: str, body: Any) -> Any:
        return await self._call(method, service, path, json=body)

    async def post(self, service: str, path: str, body: Any = None) -> Any:
        return await self.send_json("POST", service, path, body if body is not None else {})

    async def put(self, service: str, path: str, body: Any) -> Any:
        return await self.send_json("PUT", service, path, body)

    async def send_content(self, service: str, path: str, content: bytes, content_type: str) -> Any:
        return await self._call("POST", service, path, content=content, content_type=content_type)

    async def list_items(self, service: str, path: str, **query: str | int) -> AsyncIterator[Any]:
        after: str | None = None
        while True:
            page = await self.get(service, path, **query, limit=_PAGE_ITEMS, **({"after": after} if after else {}))
            for item in page["items"]:
                yield item
            after = page.get("next")
            if not after:
                return

    async def _call(self, method: str, service: str, path: str, content_type: str | None = None, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.web.get_token(*self._who)}"}
        if method != "GET":
            headers["Idempotency-Key"] = new_id()
        if content_type:
            headers["Content-Type"] = content_type
        response = await self.web.call(method, self.web.addresses.urls[service] + path, headers, **body)
        if response.is_error:
            raise RequestRefused(build_failure(service, response), _problem_code(response))
        return response.json() if response.content else None


@asynccontextmanager
async def open_services(data: Path, addresses: Addresses) -> AsyncIterator[DemoServices]:
    services = DemoServices(data, addresses)
    try:
        yield services
    finally:
        await services.close()


def _problem_code(response: httpx.Response) -> str:
    try:
        return str(response.json().get("code", ""))
    except (ValueError, AttributeError):
        return ""
