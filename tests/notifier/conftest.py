from collections.abc import AsyncIterator

import pytest_asyncio

from deploy.local import stack
from tests.notifier.harness import NotifierHarness, notifier_harness, programme


@pytest_asyncio.fixture
async def notifier(servers: stack.Endpoints, prefix: str) -> AsyncIterator[NotifierHarness]:
    """A notifier that knows an open programme and nobody yet."""
    with notifier_harness(servers, prefix) as made:
        await made.chassis.prepare_database()
        await made.deliver(programme())
        yield made
