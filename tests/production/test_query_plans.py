"""On a server that uses indexes, no query of the services reads a whole collection, but for those named here.

Each query is made through the service's own code, recorded by the driver, and explained by the server. MongoDB serves
an ``$or`` by indexes exactly if it serves each branch by one. It serves a branch if an index begins with one of the
fields that it compares, and filters the rest. This server explains less, so each branch and each field is explained
alone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymongo import MongoClient, monitoring

from chassis.core.settings import Settings
from chassis.service import Chassis
from chassis.sweeps import Sweep
from chassis.web.authentication import Principal
from services.feedback.__main__ import build as build_feedback
from services.feedback.store import Feedback
from services.matcher.__main__ import build as build_matcher
from services.matcher.context import Matcher
from services.matcher.domain.rounds.round import Round
from services.notifier.__main__ import build as build_notifier
from services.notifier.store import Notifier
from services.profiles.__main__ import build as build_profiles
from services.profiles.permissions import build_import_filter
from services.profiles.store import LIVING, Profiles, build_member_filter, build_participant_filter
from tests.production.second_store import run_second_store

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
A_SERVICE = Principal("hr-job", None, frozenset({"service"}), frozenset())
FILTERING_COMMANDS = {"find": "filter", "count": "query", "aggregate": "pipeline"}
BUILDERS: dict[str, Callable[[Chassis], Any]] = {
    "matcher": build_matcher,
    "feedback": build_feedback,
    "notifier": build_notifier,
    "profiles": build_profiles,
}


@dataclass(frozen=True)
class RecordedQuery:
    collection: str
    filter: dict[str, Any]


@dataclass
class QueryRecorder(monitoring.CommandListener):
    """Records the filter of every read, update and deletion."""

    queries: list[RecordedQuery] = field(default_factory=list)

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        command = dict(event.command)
        name = event.command_name
        if name in ("update", "delete"):
            parts = command["updates" if name == "update" else "deletes"]
            self.queries += [RecordedQuery(command[name], dict(part["q"])) for part in parts]
        elif name == "aggregate":
            match: dict[str, Any] = next((stage["$match"] for stage in command["pipeline"] if "$match" in stage), {})
            self.queries.append(RecordedQuery(command[name], dict(match)))
        elif name in FILTERING_COMMANDS:
            self.queries.append(RecordedQuery(command[name], dict(command.get(FILTERING_COMMANDS[name], {}))))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


recorder = QueryRecorder()

pytestmark = pytest.mark.usefixtures("no_external_servers")


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_second_store(tmp_path_factory.mktemp("second") / "data") as url:
        yield url


@pytest.fixture
async def services(store_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """The context of each service, with its indexes on the second store."""
    monkeypatch.setenv("VICEVERSA_MONGO_PROFILE", "mongodb")
    listeners = monitoring._LISTENERS.command_listeners
    monitoring.register(recorder)
    contexts, opened = {}, []
    for name, build in BUILDERS.items():
        settings = Settings(mongo=store_url, topic_prefix="plans.", hmac_key="k" * 32, http_port=1)  # type: ignore[arg-type]
        chassis = Chassis(name, settings)
        opened.append(chassis)
        contexts[name] = build(chassis)
        await chassis.prepare_database()
    recorder.queries.clear()
    yield contexts
    for chassis in opened:
        chassis.mongo.close()
    listeners.remove(recorder)


async def consume(items: AsyncIterator[Any]) -> None:
    async for _ in items:
        pass


A_ROUND = cast("Round", SimpleNamespace(round_id="r", result=1))


def matcher_queries(m: Matcher) -> list[Awaitable[object]]:
    page: dict[str, Any] = {"limit": 50, "after": "x"}
    anybody: dict[str, Any] = {"member_id": None, "programme_id": None, "state": None, "round_id": None}
    return [
        m.pairings.earlier_pairs(of=["a", "b"]),
        m.pairings.of_member("a"),
        *(
            consume(m.pairings.page(**{**anybody, **chosen}, **page))
            for chosen in ({"member_id": "a"}, {"programme_id": "p"}, {"round_id": "r"})
        ),
        consume(m.pairings.page_of_conflicts("p", **page)),
        m.requests.of_member("a"),
        m.requests.open_in("p"),
        m.requests.open_in("p", of=["a"]),
        m.suggestions.standing_in("p"),
        m.suggestions.of_member("a"),
        m.rounds.last_published("p"),
        m.rounds.count({"programme_id": "p", "state": {"$in": ["computing", "publishing"]}}),
        consume(m.rounds.find({"programme_id": "p"}, **page)),
        consume(m.rounds.find({"named": "a"})),
        m.proposals.contains(A_ROUND, ("a", "b")),
        m.proposals.forget_member("a"),
        m.proposals.delete({"round_id": "r", "result": "r/1"}),
        consume(m.unmatched.page(A_ROUND, **page)),
        m.unmatched.forget_member("a"),
        m.unmatched.delete({"round_id": "r", "result": "r/1"}),
        m.receipts.forget_member("a"),
        consume(m.learning.decided_by("a")),
        m.examples.of_programme("p"),
        consume(m.members.find({"enrolments.programme_id": "p"})),
    ]


def feedback_queries(f: Feedback) -> list[Awaitable[object]]:
    return [
        consume(f.followups_of("a", limit=50, after="x")),
        consume(f.followups_in("p", limit=50, after="x")),
        consume(f.followups_with_calls("p")),
        consume(f.followups_with_contact("m")),
        consume(f.pairings_of("a", limit=50, after="x")),
        f.funnel("p", NOW),
        f.holds("a"),
        consume(f.contributions.find({"cell": "c", "taken": False})),
        f.contributions.delete({"members": "a"}),
        f.contributions.delete({"pairing_id": "x"}),
        f.followups.count({"programme_id": "p", "asked_for": "learned:senior"}),
        f.followups.count({"programme_id": "p", "met_by_day_30": {"$ne": None}}),
    ]


def notifier_queries(n: Notifier) -> list[Awaitable[object]]:
    return [
        n.holds("a"),
        n.delete_pairings_of("a"),
        consume(n.notifications_about("a")),
        consume(n.inbox("a", unread=False, limit=50, after="2027-01-04")),
        n.unread_count("a"),
        n.counts(),
        consume(n.contacts.find({"taking_part.programme_id": "p"})),
    ]


def profiles_queries(p: Profiles) -> list[Awaitable[object]]:
    return [
        p.find_mentioning("a"),
        p.unfinished_imports(),
        p.unfinished_imports("people"),
        consume(p.imports.find(build_import_filter(A_SERVICE, ["p"], unfinished=True), limit=50)),
        p.imports.count({"source": "hr", "kind": {"$ne": "invitations"}, "received_at": {"$gt": "2027-01-01"}}),
        consume(p.import_errors.find({"import_id": "i", "admins_only": {"$ne": True}}, limit=50, after="x")),
        consume(p.persons.find({**LIVING, "hr.email": {"$in": ["a@example.org"]}})),
        p.running_pairings(),
        p.uploads.delete("u"),
        p.uploads.delete_abandoned("2027-01-01", ["u"]),
        consume(p.import_errors.find({"import_id": "i"}, limit=50, after="x")),
        consume(p.persons.find({**LIVING, "enrolments.programme_id": "p"})),
        consume(p.persons.find(build_member_filter(email="a@example.org"), limit=50)),
        consume(p.persons.find(build_participant_filter(["p"], state="ready"), limit=50)),
    ]


QUERIES: dict[str, Callable[[Any], list[Awaitable[object]]]] = {
    "matcher": matcher_queries,
    "feedback": feedback_queries,
    "notifier": notifier_queries,
    "profiles": profiles_queries,
}


def branches(filter: dict[str, Any]) -> list[dict[str, Any]]:
    """The filters that an ``$or`` stands for, each with the conditions beside it; ``$and`` is merged."""
    rest = {name: value for name, value in filter.items() if name not in ("$or", "$and")}
    for part in filter.get("$and", []):
        rest |= part
    if "$or" in rest:
        return [inner for branch in rest.pop("$or") for inner in branches({**rest, **branch})]
    return [{**rest, **branch} for branch in filter.get("$or", [{}])]


def comparisons(filter: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each field that an index can serve: compared with a value or a range, and not merely by what it is not."""
    for name, condition in filter.items():
        operators = condition if isinstance(condition, dict) else {"$eq": condition}
        if "$elemMatch" in operators:
            for inner in comparisons(operators["$elemMatch"]):
                yield {f"{name}.{field}": value for field, value in inner.items()}
        elif not operators.keys() & {"$ne", "$nin", "$regex"}:
            yield {name: condition}


def stages(plan: Any) -> Iterator[str]:
    if isinstance(plan, dict):
        if "stage" in plan:
            yield str(plan["stage"])
        for inner in plan.values():
            yield from stages(inner)
    elif isinstance(plan, list):
        for inner in plan:
            yield from stages(inner)


def find_scans(store_url: str, service: str) -> list[RecordedQuery]:
    """The recorded queries that the server would serve by reading the whole collection."""
    client: MongoClient[dict[str, Any]] = MongoClient(store_url)
    with client:
        database = client[f"plans_{service}"]

        def is_served(collection: str, filter: dict[str, Any]) -> bool:
            explained = database.command("explain", {"find": collection, "filter": filter})
            return "IXSCAN" in stages(explained["queryPlanner"]["winningPlan"])

        return [
            RecordedQuery(query.collection, filter)
            for query in recorder.queries
            if query.filter
            for filter in branches(query.filter)
            if not any(is_served(query.collection, comparison) for comparison in comparisons(filter))
        ]


class TestQueryPlans:
    @pytest.mark.parametrize("service", QUERIES)
    async def test_queries_are_served_by_an_index(self, services: dict[str, Any], store_url: str, service: str) -> None:
        queries = QUERIES[service](services[service].context)
        for query in queries:
            await query
        assert len(recorder.queries) >= len(queries)
        assert find_scans(store_url, service) == []

    @pytest.mark.parametrize("service", QUERIES)
    async def test_sweeps_are_served_by_an_index(self, services: dict[str, Any], store_url: str, service: str) -> None:
        sweeps: list[Sweep[Any]] = list(services[service].sweeps)
        assert sweeps
        for sweep in sweeps:
            await sweep._page(NOW, None)
            await sweep._page(NOW, {sweep.on: NOW, "_id": "x"})
        assert find_scans(store_url, service) == []

    async def test_a_query_without_an_index_is_a_scan(self, services: dict[str, Any], store_url: str) -> None:
        """The check itself can fail: a search by a part of a name is the one query that no index serves."""
        profiles: Profiles = services["profiles"].context
        await consume(profiles.persons.find(build_member_filter(name="Ada"), limit=50))
        assert [query.collection for query in find_scans(store_url, "profiles")] == ["persons"]
