"""The pairings that a held import touches, for the admin who is to release it."""

from collections.abc import Sequence

from chassis.web.http import Principal
from services.profiles.permissions import is_in_own_line
from services.profiles.store import RUNNING_STATES, Profiles
from services.profiles.views import HeldPairingView, PairedMemberView


async def render_held_pairings(profiles: Profiles, principal: Principal, ids: Sequence[str]) -> list[HeldPairingView]:
    """These pairings with the names of their members, without those in which the caller has a conflict of interest."""
    pairings = await profiles.pairings.get_many(list(ids))
    member_ids = {person.member_id for pairing in pairings.values() for person in pairing.participants}
    own = {principal.member_id} if principal.member_id else set()
    persons = {id: stored.state for id, stored in (await profiles.persons.get_many(sorted(member_ids | own))).items()}
    me = persons.get(principal.member_id or "")
    views = []
    for id in ids:
        pairing = pairings.get(id)
        if pairing is None or pairing.state not in RUNNING_STATES:
            continue
        both = [persons[person.member_id] for person in pairing.participants if person.member_id in persons]
        if is_in_own_line(principal, me, both):
            continue
        names = {person.member_id: person.display_name() for person in both if person.hr is not None}
        views.append(
            HeldPairingView(
                pairing_id=id,
                programme_id=pairing.programme_id,
                members=[
                    PairedMemberView(member_id=person.member_id, name=names.get(person.member_id), side=person.side)
                    for person in pairing.participants
                ],
            )
        )
    return views
