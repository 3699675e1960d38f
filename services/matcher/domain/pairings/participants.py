"""A member's part in a pairing, taken from the profile."""

from typing import Any

from contracts.pairings import Participant
from contracts.profiles import ProfileChanged


def build_participant(profile: ProfileChanged, side: Any) -> Participant:
    """Somebody as a pairing's events name them."""
    return Participant(
        member_id=profile.member_id,
        side=side,
        organisation_id=profile.organisation_id,
        department_id=profile.department_id,
    )
