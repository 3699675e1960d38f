"""How a participant's command changes the follow-up of their pairing."""

from collections.abc import Callable
from typing import NamedTuple

from chassis.core.commands import Op
from chassis.web.http import Command, Problem, forbidden
from contracts.errors import NotFound
from contracts.moment import Moment
from contracts.profiles import Side
from services.feedback.domain.access_policy import Action
from services.feedback.domain.followup import Decision, PairingFollowup
from services.feedback.domain.followup_rules import follow_up
from services.feedback.permissions import followup_for
from services.feedback.store import Feedback

ParticipantDecision = Callable[[PairingFollowup, Side, Moment], Decision | None]


class ChangedFollowup(NamedTuple):
    """The follow-up after a command, the side of the caller, and when it happened."""

    followup: PairingFollowup
    side: Side
    moment: Moment


async def change_followup(
    pairing_id: str,
    command: Command,
    action: Action,
    decide: ParticipantDecision,
    feedback: Feedback,
    *,
    is_private: bool = False,
) -> ChangedFollowup:
    """Apply a participant's decision and everything that follows from it.

    ``is_private``: no trace of the request is stored, not even a hash. Such a command replaces what was there, so
    repeating it is harmless. Raises a problem when the caller may not do this.
    """
    _, side = await followup_for(command.principal, pairing_id, action, feedback)
    if side is None:
        raise forbidden("Only the two people in this pairing can do this.")
    own_side: Side = side
    if command.expect is not None:
        raise Problem(412, "A pairing has no ETag. Use an Idempotency-Key to repeat a request.", code="no_etag")
    moment = feedback.clock.moment()

    def decide_and_follow_up(followup: PairingFollowup | None) -> Decision | None:
        if followup is None or followup.gone:
            raise NotFound("pairing")
        return follow_up(decide(followup, own_side, moment), moment)

    op = Op.once() if is_private else command.op
    saved = await feedback.followups.update(pairing_id, op, decide_and_follow_up)
    return ChangedFollowup(saved.require_state(), own_side, moment)
