from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.local import stack
from tests.matcher.harness import World, world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    servers: stack.Endpoints, module_prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """One matcher for all tests of a file; starting one for each would take longer than the tests."""
    async with world(servers, module_prefix, tmp_path_factory.mktemp("matcher")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def company(running: World) -> World:
    """A running matcher without any members yet."""
    await running.forget_everything()
    return running
