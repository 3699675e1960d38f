"""From a programme's settings to a formed pairing, over HTTP and Kafka, with one replica or two."""

import pytest

from contracts.pairings import ANSWERS, PAIRING_STATES, PAIRINGS
from tests.matcher.builders import PROGRAMME, person
from tests.matcher.harness import World
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestPairingJourney:
    async def test_pairings_of_a_round_form_when_both_accept(self, company: World) -> None:
        await company.open_programme()
        await company.people(person("s"), person("j", "junior"))
        first = company.replicas[0]
        published = await company.round()
        assert (published["pairs"], published["proposed"], published["withdrawn"]) == (1, 1, 0)
        [mine] = (await first.get("member:s", "/pairings"))["items"]
        assert mine["state"] == "proposed"
        assert mine["you"]["reasons"][0].startswith("You very much want to learn about Generative AI")
        path = f"/pairings/{mine['pairing_id']}"
        answered = await first.do("member:s", f"{path}/answer", {"answer": "accepted"})
        assert (answered["state"], answered["you"]["answer"]) == ("proposed", "accepted")
        assert (await first.get("member:j", path))["you"]["answer"] is None
        formed = await first.do("member:j", f"{path}/answer", {"answer": "accepted"})
        assert formed["state"] == "formed"
        assert formed["planned_end"] is not None

        async def is_published() -> bool:
            types = [record.header("ce_type") for record in await company.read_topic(PAIRINGS)]
            return types == ["mentoring.pairing.proposed.v1", "mentoring.pairing.formed.v1"]

        await until(is_published)
        assert len(await company.read_topic(ANSWERS)) == 2
        assert len(await company.read_topic(PAIRING_STATES)) >= 1
        assert (await first.get("admin", "/ledgers/s"))["held"][0]["programme_id"] == PROGRAMME
