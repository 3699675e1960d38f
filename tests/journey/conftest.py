"""One stack for all journey tests.

It starts once, with its own names, ports and business clock. Each test creates its own programme and members in it
(`people.a_programme`), and leaves every process running.
"""

from collections.abc import Iterator

import pytest

from deploy.local.stack import Endpoints
from tests.conftest import group_of
from tests.journey.actors import Actors, assemble
from tests.journey.span_collector import Collector, collecting
from tests.journey.stack import Stack, running_stack


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """The receiver of all spans of the first stack."""
    with collecting() as made:
        yield made


@pytest.fixture(scope="session")
def stack(
    servers: Endpoints, session_prefix: str, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Issuer and services as separate processes on real Kafka and a real store."""
    with running_stack(tmp_path_factory.mktemp("stack"), servers, session_prefix, collector.url) as running:
        yield running


@pytest.fixture(scope="session")
def cast(stack: Stack) -> Actors:
    """The people of the authorization tests, in two programmes. test_access_fields.py reads them before all changes."""
    return assemble(stack)


@pytest.fixture(scope="session")
def collector_apart() -> Iterator[Collector]:
    """The receiver of all spans of the second stack."""
    with collecting() as made:
        yield made


@pytest.fixture(scope="session")
def second_stack(
    servers: Endpoints,
    second_session_prefix: str,
    collector_apart: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """A second stack, for tests that poison topics, force compaction, and read every byte."""
    data = tmp_path_factory.mktemp("apart")
    with running_stack(data, servers, second_session_prefix, collector_apart.url) as running:
        yield running


@pytest.hookimpl(trylast=True)  # objects of the tests end first
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> None:
    """Close a stack right after its last test, so that it costs later tests nothing."""
    if nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid):
        for running in item.funcargs.values():
            if isinstance(running, Stack):
                running.close()
