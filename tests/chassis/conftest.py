from collections.abc import AsyncIterator

import pytest_asyncio

from deploy.local import stack
from tests.chassis.harness import World, world


@pytest_asyncio.fixture
async def toys(servers: stack.Endpoints, prefix: str) -> AsyncIterator[World]:
    async with world(servers.kafka, servers.mongo, prefix) as made:
        yield made
