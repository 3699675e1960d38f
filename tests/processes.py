"""Helpers for tests of one running service: callers, events published by hand, and waiting for results."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import httpx
from fastapi import FastAPI

from chassis.core.ids import new_id
from chassis.messaging.kafka import Producer
from chassis.service import Chassis, ServiceDefinition
from chassis.web.authentication import Principal, TokenVerifier
from chassis.web.http import create_app
from contracts.envelope import Envelope, EventData, Tombstone, source_of
from tests.patience import patience

LIMIT_S = patience(20)


class Desk:
    """Accept a token of the form ``role[:member[:programmes[:undeclared]]]``.

    An account without member is declared, but with a fourth part. The tests of the chassis cover real tokens.
    """

    async def verify(self, token: str) -> Principal:
        role, member, programmes, undeclared, *_ = [*token.split(":"), "", "", ""]
        return Principal(
            subject=member or role,
            member_id=member or None,
            roles=cast("Any", frozenset(role.split("+"))),
            programmes=frozenset(programmes.split(",")) - {""},
            no_member=not member and not undeclared,
        )


class Asking:
    """Client of a service's API for the person whom a token of ``Desk`` names."""

    client: httpx.AsyncClient

    async def ask(
        self, who: str, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {who}"} | ({"Idempotency-Key": key} if key else {})
        return await self.client.request(method, path, json=body, headers=headers)

    async def get(self, who: str, path: str) -> Any:
        answer = await self.ask(who, "GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()


def app_of(chassis: Chassis, parts: ServiceDefinition[Any]) -> FastAPI:
    return create_app(
        chassis.service,
        chassis.settings,
        routers=parts.routers,
        context=parts.context,
        verifier=cast("TokenVerifier", Desk()),
    )


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service", timeout=LIMIT_S)


async def say(producer: Producer, prefix: str, event: EventData | Tombstone, service: str, sequence: int) -> None:
    """Publish an event in the name of ``service``. The broker has acknowledged it when this returns."""
    kind = event.type if isinstance(event, Tombstone) else type(event)
    key = event.key if isinstance(event, Tombstone) else event.key()
    envelope = Envelope(
        id=new_id(),
        type=kind.TYPE,
        source=source_of(service),
        subject=key,
        time=datetime.now(UTC),
        sequence=sequence,
        correlationid=key,
    )
    value = None if isinstance(event, Tombstone) else event.model_dump_json().encode()
    topic = kind.TOPIC.full_name(prefix)
    await (await producer.send(topic, key=key.encode(), value=value, headers=envelope.headers()))


async def until(there: Callable[[], Awaitable[bool]], longest: float = LIMIT_S) -> None:
    """Wait for a condition. Fails when the condition does not become true in time."""
    async with asyncio.timeout(longest):
        while not await there():  # noqa: ASYNC110 - the awaited change happens in another process
            await asyncio.sleep(0.05)


async def until_ready(chassis: Chassis) -> None:
    async def ready() -> bool:
        return chassis.health.check_readiness().ok

    await until(ready)
