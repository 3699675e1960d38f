"""Learning on real servers: outcomes, batches, previewed and released versions, and privacy."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from benchmarks import cohort
from chassis.core.commands import Op
from chassis.core.ids import new_id
from contracts.envelope import Envelope, source_of
from contracts.feedback import Band, OutcomeRecorded
from contracts.programmes import PROGRAMMES, ProgrammeSettings, Weights
from services.matcher.domain.learning import weight_versions
from services.matcher.domain.learning.weight_versions import PendingRelease
from services.matcher.learning import commands
from tests.matcher.builders import PROGRAMME, person, settings
from tests.matcher.harness import World
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEARNS = {"matching__learning": True}
PATH = f"/programmes/{PROGRAMME}/learning"


def outcome(pairing_id: str, band: Band = "high", programme_id: str = PROGRAMME, **bands: Band) -> OutcomeRecorded:
    now = datetime.now(UTC)
    every = ("meetings", "senior_learned", "junior_learned", "senior_enjoyed", "junior_enjoyed")
    return OutcomeRecorded.model_validate(
        {
            "pairing_id": pairing_id,
            "programme_id": programme_id,
            "happened_at": now,
            "recorded_at": now,
            **dict.fromkeys(every, band),
            **bands,
        }
    )


def a_cause() -> Envelope:
    return Envelope(
        id=new_id(),
        type=OutcomeRecorded.TYPE,
        source=source_of("feedback"),
        subject="p",
        time=datetime.now(UTC),
        sequence=1,
        correlationid="p",
    )


async def hear(company: World, outcomes: Sequence[OutcomeRecorded], *, remaining: int | None = None) -> None:
    """Publish these outcomes. Each one becomes an example, unless ``remaining`` gives their number."""
    matcher = company.replicas[0].matcher
    before = await matcher.examples.count({})
    for item in outcomes:
        await company.say(item)
    await company.at_rest()
    assert await matcher.examples.count({}) == before + (len(outcomes) if remaining is None else remaining)


async def pairs_of(company: World, number: int, with_settings: ProgrammeSettings | None = None) -> list[str]:
    """Return the given number of pairs that one round has proposed."""
    await company.open_programme(with_settings or settings(**LEARNS))
    await company.people(
        *(person(f"s{n:02d}") for n in range(number)), *(person(f"j{n:02d}", "junior") for n in range(number))
    )
    round = await company.round()
    result = [
        stored.id async for stored in company.replicas[0].matcher.pairings.find({"plan.round_id": round["round_id"]})
    ]
    assert len(result) == number
    return result


async def at_midnight(company: World) -> None:
    """Advance to the next midnight, and wait until its work is done."""
    matcher = company.replicas[0].matcher
    before = {stored.id: stored.state.due async for stored in matcher.learning.find({})}
    await company.pass_time(timedelta(days=1))

    async def done() -> bool:
        after = {stored.id: stored.state.due async for stored in matcher.learning.find({})}
        return all(after[id] != due for id, due in before.items() if due is not None)

    await until(done)


async def ready_company(company: World) -> tuple[str, list[Mapping[str, Any]]]:
    """A generated company whose programme learns, after one round: the programme and its proposals."""
    id, plain = cohort.PROGRAMME, cohort.settings()
    matching = plain.matching.model_copy(update={"learning": True})
    await company.open_programme(plain.model_copy(update={"matching": matching}), id)
    people = cohort.cohort(120, seed=3)
    await company.people(*people)
    round = await company.round(programme_id=id)
    path = f"/rounds/{round['round_id']}/proposals?limit=200"
    proposals = (await company.replicas[0].get("admin", path))["items"]
    return id, [item for item in proposals if item["state"] == "proposed"]


async def computed(company: World, path: str) -> Mapping[str, Any]:
    result: list[Mapping[str, Any]] = []

    async def there() -> bool:
        result.append(await company.replicas[0].get("admin", path))
        return bool(result[-1]["state"] == "computed")

    await until(there)
    return result[-1]


class TestWeightVersions:
    async def test_weights_are_proposed_previewed_released_undone(self, company: World) -> None:
        id, proposals = await ready_company(company)
        first, path = company.replicas[0], f"/programmes/{id}/learning"
        assert len(proposals) >= 40
        ranked = sorted(proposals, key=lambda item: item["fit"]["perspective"])
        well = {item["pairing_id"] for item in ranked[len(ranked) // 2 :]}
        outcomes = [
            outcome(item["pairing_id"], "high" if item["pairing_id"] in well else "low", id) for item in proposals
        ]

        await hear(company, outcomes[:4])
        early = await first.ask("admin", "POST", f"{path}/proposals")
        assert (early.status_code, early.json()["code"]) == (409, "too_few_new_outcomes")
        await hear(company, outcomes[4:8])
        some = await first.do("admin", f"{path}/proposals")
        assert (some["outcomes"], some["latest"], some["versions"]) == (8, None, [])

        await hear(company, outcomes[8:])
        await hear(company, outcomes[:3], remaining=0)  # the same events again
        seen = await first.do("admin", f"{path}/proposals", key="now")
        again = await first.do("admin", f"{path}/proposals", key="now")
        assert again == seen
        [version] = seen["versions"]
        assert seen["outcomes"] == len(proposals)
        assert version["state"] == "proposed"
        assert version["estimate"]["points_to"]["perspective"]["share"] > 0.2
        assert version["estimate"]["gain"]["by"] > version["estimate"]["gain"]["noise"] > 0
        assert seen["bands"]["senior_learned"] == {"low": len(outcomes) - len(well), "high": len(well)}

        early = await first.ask("admin", "POST", f"{path}/1/release")
        assert (early.status_code, early.json()["code"]) == (409, "no_preview")
        assert (await first.ask("admin", "GET", f"{path}/1/preview")).json()["code"] == "no_preview"
        await company.people(*cohort.cohort(60, seed=4))  # the seats of the first cohort are taken
        request = await first.do("admin", f"{path}/1/preview")
        early = await first.ask("admin", "POST", f"{path}/1/release")
        assert early.status_code == 409 or request["state"] == "computed"
        preview = await computed(company, f"{path}/1/preview")
        assert preview["pairs_now"] > 0
        assert preview["gain"] is not None
        compared = await first.get("admin", preview["compare"])
        assert compared["people_with_other_partners"] > 0
        for trial in (preview["now"], preview["then"]):
            refused = await first.ask("admin", "POST", f"/rounds/{trial}/publish")
            assert refused.status_code == 409

        released = await first.do("coordinator:c1:benchmark", f"{path}/1/release")
        assert released["in_use"] == 1
        assert released["versions"][0]["decided_by"] == "c1"
        assert released["weights"] == version["estimate"]["weights"] != Weights().model_dump()
        programme = await first.get("admin", f"/programmes/{id}")
        assert (programme["version"], programme["settings"]["matching"]["weights"]) == (2, released["weights"])
        said = [record for record in await company.read_topic(PROGRAMMES) if record.key == id.encode()]
        assert len(said) >= 3  # created, opened, released

        undone = await first.do("admin", f"{path}/0/release")
        assert (undone["in_use"], undone["weights"]) == (0, Weights().model_dump())
        once_more = await first.do("admin", f"{path}/1/release")
        assert (once_more["in_use"], once_more["weights"]) == (1, released["weights"])

    async def test_the_sweep_finishes_an_interrupted_release(self, company: World) -> None:
        """The process died after the version was released and before the programme was updated."""
        await pairs_of(company, 1)
        matcher = company.replicas[0].matcher
        moment = matcher.clock.moment()
        weights = Weights(perspective=3.0)
        half = weight_versions.ProgrammeLearning(
            programme_id=PROGRAMME,
            start=Weights(),
            releasing=PendingRelease(version=0, base=Weights(), weights=weights, by=None, at=moment.now),
            lease=moment.recorded_at,
        )
        await matcher.learning.update(PROGRAMME, Op("half"), lambda _: (half, []))

        async def done() -> bool:
            stored = await matcher.learning.get(PROGRAMME)
            programme = (await matcher.programmes.load(PROGRAMME)).state
            return (
                stored is not None
                and (stored.state.releasing, stored.state.lease) == (None, None)
                and programme.settings.matching.weights == weights
            )

        await until(done)

    async def test_the_daily_review_proposes_and_changes_nothing(self, company: World) -> None:
        id, proposals = await ready_company(company)
        ranked = sorted(proposals, key=lambda item: item["fit"]["perspective"])
        half = len(ranked) // 2
        await hear(
            company, [outcome(item["pairing_id"], "low" if n < half else "high", id) for n, item in enumerate(ranked)]
        )
        await at_midnight(company)
        seen = await company.replicas[0].get("admin", f"/programmes/{id}/learning")
        assert [item["state"] for item in seen["versions"]] == ["proposed"]
        assert (seen["in_use"], seen["weights"]) == (0, Weights().model_dump())
        dismissed = await company.replicas[0].do("admin", f"/programmes/{id}/learning/1/dismiss")
        assert [item["state"] for item in dismissed["versions"]] == ["dismissed"]
        assert (await company.replicas[0].get("admin", f"/programmes/{id}"))["version"] == 1

    async def test_only_coordinators_of_the_programme_see_it(self, company: World) -> None:
        await company.open_programme(settings(**LEARNS))
        first = company.replicas[0]
        for who, status in (("member:s1", 403), ("coordinator:c:other", 403), (f"coordinator:c:{PROGRAMME}", 200)):
            assert (await first.ask(who, "GET", PATH)).status_code == status
        assert (await first.ask("admin", "GET", "/programmes/unknown/learning")).status_code == 404


class TestExamples:
    async def test_switching_learning_off_deletes_all_examples(self, company: World) -> None:
        pairs = await pairs_of(company, 6, settings())
        first = company.replicas[0]
        for item in pairs:
            await commands.record_outcome(outcome(item), a_cause(), first.matcher)
        assert (await first.matcher.learning.count({}), await first.matcher.examples.count({})) == (0, 0)
        on = settings(**LEARNS).model_dump(mode="json")
        await first.do("admin", f"/programmes/{PROGRAMME}/settings", on, method="PUT")
        await hear(company, [outcome(item) for item in pairs[:3]])
        off = settings().model_dump(mode="json")
        await first.do("admin", f"/programmes/{PROGRAMME}/settings", off, method="PUT")
        refused = await first.ask("admin", "POST", f"{PATH}/proposals")
        assert (refused.status_code, refused.json()["code"]) == (409, "learning_off")
        await at_midnight(company)
        assert await first.matcher.examples.count({}) == 0

    async def test_only_refusals_about_fit_are_stored_as_numbers(self, company: World) -> None:
        pairs = await pairs_of(company, 2)
        first = company.replicas[0]
        for id, reason in zip(pairs, ("prefer_somebody_else", "topics_do_not_fit"), strict=True):
            stored = await first.matcher.pairings.get(id)
            assert stored is not None
            body = {"answer": "declined", "reason": reason}
            await first.do(f"member:{stored.state.plan.junior.member_id}", f"/pairings/{id}/answer", body)
        await company.at_rest()
        [example] = [document async for document in first.matcher.examples.find({})]
        assert example["_id"] == pairs[1]
        text = str(example)
        assert not [who for who in ("s00", "s01", "j00", "j01", "topics", "junior", "senior") if who in text]

    async def test_an_erasure_deletes_examples_also_late_ones(
        self,
        company: World,
    ) -> None:
        pairs = await pairs_of(company, 3)
        await hear(company, [outcome(item) for item in pairs])
        first = company.replicas[0]
        stored = await first.matcher.pairings.get(pairs[0])
        assert stored is not None
        await company.gone(stored.state.plan.junior.member_id)
        await company.at_rest()
        assert await first.matcher.examples.count({}) == 2
        await hear(company, [outcome(pairs[0]), outcome(pairs[1])], remaining=0)
        assert await first.matcher.examples.get(pairs[0]) is None

    async def test_examples_are_deleted_after_the_retention(self, company: World) -> None:
        pairs = await pairs_of(company, 2, settings(**LEARNS, retention__months=3))
        await hear(company, [outcome(item) for item in pairs])
        await at_midnight(company)
        assert await company.replicas[0].matcher.examples.count({}) == 2
        await company.pass_time(timedelta(days=90))
        await at_midnight(company)
        assert await company.replicas[0].matcher.examples.count({}) == 0


class TestLearningPrivacy:
    async def test_answers_show_nothing_before_a_batch_is_full(self, company: World) -> None:
        """Two worlds: good answers in one, bad answers in the other, and another reason for a refusal."""
        looks: list[Any] = []
        worlds: tuple[tuple[Band, str], ...] = (("high", "no_time"), ("low", "topics_do_not_fit"))
        for band, reason in worlds:
            await company.forget_everything()
            pairs = await pairs_of(company, 6)
            first = company.replicas[0]
            refused = await first.matcher.pairings.get(pairs[5])
            assert refused is not None
            body = {"answer": "declined", "reason": reason}
            await first.do(f"member:{refused.state.plan.senior.member_id}", f"/pairings/{pairs[5]}/answer", body)
            await hear(
                company, [outcome(item, band) for item in pairs[:4]], remaining=4 + (reason == "topics_do_not_fit")
            )
            views = [await first.get("admin", PATH)]
            answer = await first.ask("admin", "POST", f"{PATH}/proposals")
            views.append((answer.status_code, {**answer.json(), "trace": None}))
            await at_midnight(company)
            views.append(await first.get("admin", PATH))
            due = [stored.state.due async for stored in first.matcher.learning.find({})]
            assert all((at.hour, at.minute, at.second) == (0, 0, 0) for at in due if at is not None)
            looks.append(views)
        assert looks[0] == looks[1]
        assert looks[0][0]["outcomes"] == 0

    async def test_counts_below_five_are_hidden(self, company: World) -> None:
        pairs = await pairs_of(company, 7)
        await hear(
            company, [outcome(item, "high" if n else "low", junior_learned="high") for n, item in enumerate(pairs)]
        )
        seen = await company.replicas[0].do("admin", f"{PATH}/proposals")
        assert seen["outcomes"] == 7
        assert seen["bands"]["senior_learned"] is None, "one answer was low; the number of the others would reveal it"
        assert seen["bands"]["junior_learned"] is None, "all were high; the number would tell the answer of each"
        assert "refusal" not in str(seen), "the number would distinguish lapse by refusal from lapse by expiry"
