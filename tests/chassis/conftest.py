from collections.abc import AsyncIterator

import pytest_asyncio

from deploy.local import stack
from tests.chassis.harness import ChassisHarness, open_harness


@pytest_asyncio.fixture
async def harness(servers: stack.Endpoints, prefix: str) -> AsyncIterator[ChassisHarness]:
    async with open_harness(servers.kafka, servers.mongo, prefix) as opened:
        yield opened
