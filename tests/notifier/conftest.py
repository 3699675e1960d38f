from collections.abc import AsyncIterator

import pytest_asyncio

from deploy.local import stack
from tests.notifier.harness import World, programme, world


@pytest_asyncio.fixture
async def notifier(servers: stack.Endpoints, prefix: str) -> AsyncIterator[World]:
    """A notifier that knows an open programme and nobody yet."""
    with world(servers, prefix) as made:
        await made.chassis.prepare_database()
        await made.say(programme())
        yield made
