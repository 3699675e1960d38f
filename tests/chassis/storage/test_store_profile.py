"""Documents are the same under every store profile; only indexes, batches and rests differ."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from chassis.core.clocks import Clock
from chassis.core.commands import Op
from chassis.core.settings import Settings
from chassis.service import Chassis
from chassis.storage.aggregates import Aggregates, Change, SaveResult
from chassis.storage.mongo import Collection, Document, Documents
from chassis.storage.projections import Projection, ProjectionRow
from chassis.storage.store_profile import EMBEDDED, MONGODB, PROFILES, StoreProfile
from chassis.sweeps import MIN_INTERVAL_S, SearchStatistics, rest_after
from tests.chassis.harness import SERVICE, Counter, CounterChanged, add
from tests.chassis.memory_store import MemoryStore

DOCUMENTS = 2_500


class SizeRecorder:
    """A collection that records how many documents each bulk command carries."""

    def __init__(self, inner: Collection) -> None:
        self._inner = inner
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def insert_many(self, documents: Sequence[Document], *, ordered: bool) -> Any:
        self.sizes.append(len(documents))
        return await self._inner.insert_many(documents, ordered=ordered)

    async def bulk_write(self, operations: Sequence[Any], *, ordered: bool) -> Any:
        self.sizes.append(len(operations))
        return await self._inner.bulk_write(operations, ordered=ordered)


class IdlePublisher:
    def push(self, aggregates: Any, documents: Sequence[Document]) -> None: ...

    async def wait_for_room(self) -> None: ...


@pytest.fixture
def recorder() -> SizeRecorder:
    return SizeRecorder(MemoryStore().collection("counters"))


def counters_of(recorder: SizeRecorder, profile: StoreProfile) -> Aggregates[Counter]:
    return Aggregates(cast("Collection", recorder), Counter, SERVICE, IdlePublisher(), Clock(), profile=profile)


class TestBatches:
    @pytest.mark.parametrize(("profile", "sizes"), [(EMBEDDED, [1000, 1000, 500]), (MONGODB, [DOCUMENTS])])
    async def test_bulk_updates_are_as_large_as_the_profile_says(
        self, recorder: SizeRecorder, profile: StoreProfile, sizes: list[int]
    ) -> None:
        counters = counters_of(recorder, profile)
        await counters.update_many([Change(f"c{n}", Op("first"), add(f"c{n}", 1)) for n in range(DOCUMENTS)])
        assert recorder.sizes == sizes

    @pytest.mark.parametrize(("profile", "sizes"), [(EMBEDDED, [250] * 10), (MONGODB, [1000, 1000, 500])])
    async def test_projections_are_written_in_the_parts_of_the_profile(
        self, recorder: SizeRecorder, profile: StoreProfile, sizes: list[int]
    ) -> None:
        copies = Projection(cast("Collection", recorder), CounterChanged, profile)
        rows = [ProjectionRow(f"c{n}", 1, CounterChanged(counter_id=f"c{n}", value=n)) for n in range(DOCUMENTS)]
        assert await copies.apply(rows) == DOCUMENTS
        assert recorder.sizes == sizes

    @pytest.mark.parametrize(("profile", "sizes"), [(EMBEDDED, [1000, 1000, 500]), (MONGODB, [DOCUMENTS])])
    async def test_plain_documents_too(self, recorder: SizeRecorder, profile: StoreProfile, sizes: list[int]) -> None:
        documents = Documents(cast("Collection", recorder), profile)
        assert await documents.add_many([{"_id": f"d{n}"} for n in range(DOCUMENTS)]) == []
        assert recorder.sizes == sizes

    @pytest.mark.parametrize(("before", "after"), [(EMBEDDED, MONGODB), (MONGODB, EMBEDDED)])
    async def test_a_change_of_profile_goes_on_with_the_same_documents(
        self, recorder: SizeRecorder, before: StoreProfile, after: StoreProfile
    ) -> None:
        changes = [Change(f"c{n}", Op("first"), add(f"c{n}", 1)) for n in range(1_200)]
        await counters_of(recorder, before).update_many(changes)
        results = await counters_of(recorder, after).update_many(changes)
        assert all(isinstance(result, SaveResult) and result.repeated for result in results)


class TestRest:
    def test_only_the_embedded_store_rests_long_after_a_search(self) -> None:
        slow = SearchStatistics(found=0, searching=0.4)
        assert rest_after(slow, EMBEDDED) == pytest.approx(12.0)
        assert rest_after(slow, MONGODB) == pytest.approx(0.4)
        assert rest_after(SearchStatistics(found=0, searching=0.001), MONGODB) == MIN_INTERVAL_S


class TestSetting:
    @pytest.mark.parametrize("name", PROFILES)
    async def test_a_service_takes_its_profile_from_the_setting(self, name: Any) -> None:
        chassis = Chassis(SERVICE, Settings(mongo_profile=name))
        profile = PROFILES[name]
        assert chassis.mongo.profile is profile
        assert chassis.aggregates("counters", Counter).profile is profile
        assert chassis.projection("copies", CounterChanged).profile is profile
        assert chassis.documents("things").profile is profile
        chassis.mongo.close()

    def test_without_the_setting_the_store_is_mongodb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("VICEVERSA_MONGO_PROFILE", raising=False)
        assert PROFILES[Settings().mongo_profile] is MONGODB
