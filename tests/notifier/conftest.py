from collections.abc import AsyncIterator

import pytest_asyncio

from deploy.local import stack
from tests.notifier.harness import NotifierHarness, notifier_harness, programme


@pytest_asyncio.fixture
async def notifier(servers: stack.Endpoints, prefix: str) -> AsyncIterator[NotifierHarness]:
    """A notifier that knows one open programme and no member."""
    with notifier_harness(servers, prefix) as harness:
        await harness.chassis.prepare_database()
        await harness.deliver(programme())
        yield harness
