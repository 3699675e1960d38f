"""Fixtures of all tests: real servers, with topics and databases of its own for each test."""

import asyncio
import os
import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coverage
import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from deploy.local import ports, process, stack

process.bind_children()  # a test run that is killed leaves no server behind

os.environ.pop("COLUMNS", None)  # what is printed is as wide as it needs, wherever the tests run

# Loops that numba compiles check no bounds by default. With bounds, a wrong index is an error and not a crash.
os.environ["NUMBA_BOUNDSCHECK"] = "1"
os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "numba")

# The time of an example depends on the load of the machine, and no test measures time.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


STACKS = {
    "tests/journey": "first stack",
    "tests/journey/test_answers_in_two_worlds.py": "second stack",
    "tests/journey/test_poison.py": "second stack",
    "tests/journey/test_privacy.py": "second stack",
}
"""The shared stack of each file, by the file or its folder.

A stack is four services that poll and sweep until the session ends. Two would take half of a small machine, even
without a request.
"""
LONGEST = (
    "first stack",
    "second stack",
    "tests/lifecycle/test_year.py",
    "tests/fuzz/test_fuzz_http.py",
    "tests/production/test_lifecycle_under_rules.py",
    "tests/cli/test_demo.py",
    "tests/matcher/pairings/test_conflicts.py",
    "tests/matcher/rolling/test_rolling.py",
    "tests/matcher/learning/test_learning_service.py",
    "tests/matcher/rounds/test_review.py",
    "tests/chassis/test_simulation.py",
)
"""Slow groups, of a minute or more. They start first, so that no process starts one when the others are done."""
SLOW = (
    "tests/benchmarks",
    "tests/matcher/engine/test_weight_estimator.py",
    "tests/matcher/engine/test_large_rounds.py",
)
"""Files without servers that are too long for the fast tier. A single test gets the mark ``slow`` instead."""
UNTRACED = ("tests/lifecycle", "tests/chassis/test_simulation.py")
"""Files that compute without waiting. Tracing them for coverage would cost half of their time again."""
FAST_EXAMPLES = 10
EXAMPLES_OF_A_TEST = "_hypothesis_internal_use_settings"
STARTS_SERVERS = frozenset({"running_servers", "no_external_servers"})
"""A test that requests one of these fixtures, also through another fixture, needs servers or starts its own."""


def group_of(nodeid: str) -> str:
    """The group of a test that runs in one process: its shared stack, or its file."""
    file = nodeid.partition("::")[0]
    return STACKS.get(file) or STACKS.get(file.rpartition("/")[0]) or file


class GroupScheduling(LoadScopeScheduling):
    """A group goes to one process, in the order of ``LONGEST``. The groups of xdist itself need an older pytest."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    return GroupScheduling(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out tests that need servers, and those marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start the longest groups first; keep the order within a file. With --fast, leave out tests that need servers."""

    def rank(item: pytest.Item) -> int:
        group = group_of(item.nodeid)
        return LONGEST.index(group) if group in LONGEST else len(LONGEST)

    items.sort(key=rank)
    for item in items:
        if rank(item) < len(LONGEST) or item.nodeid.startswith(SLOW):
            item.add_marker("slow")
    if config.getoption("--fast"):
        for item in items:
            fewer_examples(item)
        left_out = [item for item in items if not belongs_to_fast_tier(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if belongs_to_fast_tier(item)]


def belongs_to_fast_tier(item: pytest.Item) -> bool:
    """Decide by the fixtures that the test requests, so that no list of tests is needed."""
    fixtures = item.fixturenames if isinstance(item, pytest.Function) else []
    return STARTS_SERVERS.isdisjoint(fixtures) and item.get_closest_marker("slow") is None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    tracing = coverage.Coverage.current() if item.nodeid.startswith(UNTRACED) else None
    if tracing is None:
        return (yield)
    tracing.stop()
    try:
        return (yield)
    finally:
        tracing.start()


def fewer_examples(item: pytest.Item) -> None:
    """Try a property with fewer examples in the fast tier. Hypothesis has no public way to do this."""
    test = getattr(item, "obj", None)
    usual: hypothesis.settings | None = getattr(test, EXAMPLES_OF_A_TEST, None)
    if usual is not None and usual.max_examples > FAST_EXAMPLES:
        function = getattr(test, "__func__", test)  # a method takes no attributes
        setattr(function, EXAMPLES_OF_A_TEST, hypothesis.settings(usual, max_examples=FAST_EXAMPLES))


@pytest.fixture(scope="session")
def running_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Running]:
    """Kafka and the store: those of VICEVERSA_KAFKA and VICEVERSA_MONGO, or one stack of the session's own."""
    data: Path = tmp_path_factory.mktemp("servers")
    if not os.environ.get("VICEVERSA_MONGO"):
        os.environ.setdefault("VICEVERSA_MONGO_PROFILE", "embedded")  # for every service that a test builds
    with stack.start(data, kafka_port=ports.any_free(), mongo_port=ports.any_free()) as running:
        yield running


@pytest.fixture(scope="session")
def servers(running_servers: stack.Running) -> stack.Endpoints:
    """Where they answer."""
    return running_servers.endpoints


@pytest.fixture
def prefix(servers: stack.Endpoints) -> Iterator[str]:
    """The test's own topic prefix, ten characters long; its databases and groups begin with the first nine.

    The length is fixed because dropping a database of the embedded store also destroys those whose names begin with
    its name. What the test made under the prefix is removed at its end.
    """
    yield from _names_of_its_own(servers)


@pytest.fixture(scope="session")
def session_prefix(servers: stack.Endpoints) -> Iterator[str]:
    """The same, for what runs as long as the session."""
    yield from _names_of_its_own(servers)


@pytest.fixture(scope="module")
def module_prefix(servers: stack.Endpoints) -> Iterator[str]:
    """The same, for what the tests of one file share."""
    yield from _names_of_its_own(servers)


@pytest.fixture(scope="session")
def second_session_prefix(servers: stack.Endpoints) -> Iterator[str]:
    """Others, for what must not meet the former."""
    yield from _names_of_its_own(servers)


def _names_of_its_own(servers: stack.Endpoints) -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:8]}"
    yield f"{name}."
    _drop_databases(servers.mongo, name)
    with ThreadPoolExecutor(1) as apart:  # An asynchronous test has an event loop of its own in this thread.
        apart.submit(lambda: asyncio.run(_delete_topics(servers.kafka, name))).result()


@pytest.fixture
def no_external_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the servers themselves: whatever the person running the tests has set does not count."""
    for variable in ("VICEVERSA_KAFKA", "VICEVERSA_MONGO", "VICEVERSA_MONGO_PROFILE"):
        monkeypatch.delenv(variable, raising=False)


def _drop_databases(uri: str, name: str) -> None:
    from pymongo import MongoClient

    client: MongoClient[dict[str, object]] = MongoClient(uri, serverSelectionTimeoutMS=2000)
    with client:
        for database in client.list_database_names():
            if database.startswith(name):
                client.drop_database(database)


async def _delete_topics(bootstrap: str, name: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        mine = [topic for topic in await admin.list_topics() if topic.startswith(name)]
        if mine:
            await admin.delete_topics(mine)
    finally:
        await admin.close()
