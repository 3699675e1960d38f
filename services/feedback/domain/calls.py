"""Calls: a member would like to be called by the confidential contact of the programme.

A call belongs to the contact whom the programme named when it was made. Another contact gets it only when the caller
hands it over.
"""

from datetime import datetime

from contracts.errors import CommandRejected
from contracts.profiles import Side
from services.feedback.domain.followup import Decision, PairingFollowup

NOBODY = ""  # the contact was erased, so the call waits for its caller


def with_call(followup: PairingFollowup, side: Side, contact: str, now: datetime, *, call_me: bool) -> PairingFollowup:
    """Make the call, or take it back. A call that is open stays with its contact."""
    calls = {other: at for other, at in followup.calls.items() if other != side or call_me}
    contacts = {other: name for other, name in followup.call_contacts.items() if other != side or call_me}
    if call_me and side not in calls:
        calls[side] = now
        contacts[side] = contact
    return followup.model_copy(update={"calls": calls, "call_contacts": contacts})


def contact_of_call(followup: PairingFollowup, side: Side, named: str) -> str | None:
    """Who may read the call of this side; None without a call.

    ``named``: the contact of the programme. A call of an earlier release does not say to whom it was made; until then
    this was the contact whom the programme names.
    """
    return followup.call_contacts.get(side, named) if side in followup.calls else None


def hand_over_call(followup: PairingFollowup, side: Side, contact: str, named: str) -> Decision | None:
    """The caller gives the call to the contact whom the programme names now.

    Raises ``CommandRejected`` without a call, or when ``contact``, whom the caller saw, is not ``named`` any more.
    """
    if side not in followup.calls:
        raise CommandRejected("no_call", "You have not asked for a call.")
    if contact != named:
        raise CommandRejected("contact_changed", "The programme names another contact by now; read its name again.")
    if contact_of_call(followup, side, named) == contact and side in followup.call_contacts:
        return None
    return followup.model_copy(update={"call_contacts": {**followup.call_contacts, side: contact}}), []


def close_call(followup: PairingFollowup | None, side: Side, reader: str, named: str) -> Decision | None:
    """The contact has called this side. Only the contact to whom the call belongs closes it."""
    if followup is None or contact_of_call(followup, side, named) != reader:
        return None
    return with_call(followup, side, reader, followup.calls[side], call_me=False), []


def remove_contact(followup: PairingFollowup | None, member_id: str) -> Decision | None:
    """The contact was erased. Their open calls are nobody's until the callers hand them over."""
    if followup is None or member_id not in followup.call_contacts.values():
        return None
    contacts = {side: NOBODY if name == member_id else name for side, name in followup.call_contacts.items()}
    return followup.model_copy(update={"call_contacts": contacts}), []
