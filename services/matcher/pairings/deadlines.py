"""Pairings and requests whose deadline has passed."""

from chassis.core.commands import Op
from chassis.storage.aggregates import Stored, stored_instant
from services.matcher.context import Matcher
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings import request as requests
from services.matcher.domain.pairings.pairing import RUNNING_STATES, Pairing
from services.matcher.domain.pairings.request import PartnerRequest
from services.matcher.pairings import conflicts
from services.matcher.pairings.proposals import pairing_id_of


async def when_a_pairing_is_due(stored: Stored[Pairing], matcher: Matcher) -> None:
    """An unanswered proposal lapses, a pause ends, the planned end is reached, or a conflict ends the pairing.

    A conflict is checked once more before it ends a pairing: the settings may have changed.
    """
    if stored.state.conflict is not None:
        await conflicts.check_pairing(stored.id, matcher)
    moment = matcher.clock.moment()
    await matcher.pairings.update(
        stored.id,
        Op(f"due/{stored_instant(stored.state.due)}/{stored.state.state}"),
        lambda pairing: pairings.apply_deadline(pairing, moment) if pairing else None,
    )


async def when_a_request_is_due(stored: Stored[PartnerRequest], matcher: Matcher) -> None:
    """The request lapses, unless its pairing has formed and a crash prevented the save of that here."""
    pairing = await matcher.pairings.get(pairing_id_of(stored.id))
    formed = pairing.id if pairing is not None and pairing.state.state in RUNNING_STATES else None
    moment = matcher.clock.moment()

    def decide(request: PartnerRequest | None) -> requests.Decision | None:
        if request is None:
            return None
        if formed is not None and request.state == "open":
            return requests.accept_request(request, formed, moment)
        return requests.lapse_if_due(request, moment)

    await matcher.requests.update(stored.id, Op(f"due/{stored_instant(stored.state.due)}/lapse"), decide)
