from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from deploy.local import stack
from tests.feedback.harness import FeedbackHarness, running_feedback


@pytest_asyncio.fixture
async def company(servers: stack.Endpoints, prefix: str, tmp_path: Path) -> AsyncIterator[FeedbackHarness]:
    """A running feedback service that knows only programme ``p1``."""
    async with running_feedback(servers, prefix, tmp_path) as harness:
        yield harness
