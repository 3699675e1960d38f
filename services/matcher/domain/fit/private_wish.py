"""What a private wish does: a member would rather not be paired with somebody, and nobody else may learn of it.

A wish is no rule. It excludes no pair, and changes no list, refusal, count, time or message that anybody else sees.
A pair that a wish is against comes about like every other, and comes to nothing in its own time: the member with the
wish need not answer, and an unanswered proposal lapses. These are all its effects:

* A round that draws between near-equal pairs takes those that no wish is against (``engine.tie_lottery``).
* The member's own shortlist leaves the person out, and the member cannot ask them.
* A request of the person stays hidden from the member, and lapses unanswered.
* The member is told that they need not answer a proposal with the person, and gets no reminder.

A wish takes back nothing that the member has said: a request of their own, an answer, a running pairing.
"""

from contracts.profiles import ProfileChanged


def would_rather_not(profile: ProfileChanged | None, other: str) -> bool:
    """Whether this member would rather not be paired with ``other``. For decisions that only this member sees."""
    return profile is not None and other in profile.avoid
