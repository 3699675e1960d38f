"""Random schedules on the real code: nothing is lost, nothing is applied twice, and the last records are right.

A failing seed is printed; ``simulate(seed)`` repeats it.
"""

import json
import logging
from typing import Any

import pytest

from chassis.storage.outbox import published_field
from tests.chassis.harness import COUNTERS, ChassisHarness, Counter
from tests.chassis.memory_store import matches
from tests.chassis.simulation import Simulation, records_of, simulate

SEEDS, SEEDS_PER_TEST = 1000, 100


def find_violations(end: Simulation) -> list[str]:
    problems: list[str] = []
    for id, document in end.documents.items():
        counter = Counter.model_validate(document)
        states, counts = records_of(end.log, id)
        added = list(counter.added)
        published = [json.loads(line.value or b"{}")["by"] for line in counts]
        first = {line.id: line.sequence for line in reversed(counts)}
        positions = {line.id: n for n, line in reversed(list(enumerate(counts)))}
        in_order = [first[id] for id in sorted(positions, key=lambda id: positions[id])]
        acknowledged = {amount for (of, amount), applied in end.confirmed.items() if of == id and applied}
        last = document["said"][published_field(COUNTERS.name)]
        rules = {
            "an operation was applied twice": len(added) == len(set(added)),
            "a client got a success that was not applied": acknowledged <= set(added),
            "a client got no success that was applied": set(added) <= acknowledged,
            "an event was lost, or published without a save": set(published) == set(added),
            "one event has two ids": len(first) == len(added),
            "first publications are out of order": in_order == sorted(in_order),
            "two events of one id differ": len({(line.id, line.value) for line in counts}) == len(first),
            "the outbox is not empty": not document["outbox"] and document["outbox_since"] is None,
            "a renewal brought back the lease of work that had ended": document["lease"] is None,
            "the last record does not have the last sequence": states[-1].sequence == last["sequence"],
            "the last record is outdated": (states[-1].value is None) == counter.gone
            and (counter.gone or json.loads(states[-1].value or b"{}")["value"] == counter.value),
        }
        problems += [f"{id}: {rule}" for rule, holds in rules.items() if not holds]
    return problems


class TestRandomSchedules:
    @pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
    def test_no_schedule_loses_doubles_or_outdates_anything(self, first: int, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL)
        for seed in range(first, first + SEEDS_PER_TEST):
            problems = list(find_violations(simulate(seed)))
            assert not problems, f"seed {seed}: {problems}"


class TestMemoryFilters:
    async def test_filters_match_like_the_real_store(self, harness: ChassisHarness) -> None:
        """For the operators that the protocol uses: equality on id and version, ``$pull`` by ids, ``$lte``, ``$in``."""
        documents = [
            {"_id": "a", "version": 1, "outbox": [{"id": "x"}, {"id": "y"}], "at": 5},
            {"_id": "b", "version": 2, "outbox": [], "at": None},
        ]
        await harness.collection.insert_many(documents)
        filters: list[dict[str, Any]] = [
            {"_id": "a", "version": 1},
            {"_id": "a", "version": 2},
            {"at": {"$lte": 5}},
            {"_id": {"$in": ["b"]}},
        ]
        for filter in filters:
            real = {matched["_id"] async for matched in harness.collection.find(filter)}
            assert real == {document["_id"] for document in documents if matches(document, filter)}, filter
        pulled = await harness.collection.update_one({"_id": "a"}, {"$pull": {"outbox": {"id": {"$in": ["x", "z"]}}}})
        assert pulled.matched_count == 1
        matched = await harness.collection.find_one({"_id": "a"})
        assert matched is not None
        assert matched["outbox"] == [{"id": "y"}]
