"""Fixtures of tests with an issuer."""

from collections.abc import AsyncIterator

import pytest

from deploy.local import ports
from tests.chassis.web.issuer import RSA_JWK, CountingIssuer, ManualMonotonic, serve


@pytest.fixture
def port() -> int:
    return ports.any_free()


@pytest.fixture
def monotonic() -> ManualMonotonic:
    return ManualMonotonic()


@pytest.fixture
async def provider(port: int) -> AsyncIterator[CountingIssuer]:
    issuer = CountingIssuer(f"http://127.0.0.1:{port}")
    issuer.keys = [RSA_JWK]
    async with serve(issuer.app, port):
        yield issuer
