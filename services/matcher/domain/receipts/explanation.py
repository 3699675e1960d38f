"""Texts that explain how a match was made, for each of the two and for coordinators.

The texts for the two name nobody, and reveal no more about the other than the reasons do. They are the same with and
without a draw, since the candidates of a draw depend on private wishes.
"""

from collections.abc import Mapping

from contracts.pairings import Origin
from contracts.profiles import Side
from services.matcher.domain.receipts.receipt import Receipt, VerificationCheck

ORIGIN_TEXTS_FOR_PARTICIPANTS: Mapping[Origin, str] = {
    "round": "All members who were ready were matched together, so that all pairs together fit as well as possible. "
    "Between equally good pairs, a draw decided.",
    "rolling": "You both had a free seat, and your fit was good among the members with a free seat at that time.",
    "request": "One of you asked the other by name.",
    "coordinator": "The coordinator of the programme thought that you would fit well together.",
}
ORIGIN_TEXTS_FOR_COORDINATORS: Mapping[Origin, str] = {
    "round": "In a round: all members who were ready were matched together.",
    "rolling": "Between rounds: both had a free seat.",
    "request": "One of them asked the other by name.",
    "coordinator": "Put together by the coordinator of the programme.",
}
CHECK_TEXTS: Mapping[VerificationCheck, str] = {
    "inputs": "what it was computed from",
    "senior": "the senior's profile",
    "junior": "the junior's profile",
    "settings": "the programme's settings",
    "taxonomy": "the list of topics",
    "algorithm": "the version of the algorithm",
    "fit": "the fit in all its parts",
    "reasons": "the reasons",
}
GREAT_DEAL_BENEFIT, GOOD_PART_BENEFIT = 0.6, 0.35  # lowest benefit that is described so


def explain_origin(origin: Origin, *, to_the_two: bool) -> str:
    return (ORIGIN_TEXTS_FOR_PARTICIPANTS if to_the_two else ORIGIN_TEXTS_FOR_COORDINATORS)[origin]


def explain_factors(receipt: Receipt, side: Side) -> tuple[str, ...]:
    """The factors of the match, for one of the two."""
    fit = receipt.fit
    own_benefit, partner_benefit = (fit.senior_benefit, fit.junior_benefit)[:: 1 if side == "senior" else -1]
    received, given = _describe_amount(own_benefit), _describe_amount(partner_benefit)
    gain = (
        f"Your partner can give you {received} of what you want to learn, and you can give {given} of "
        "what your partner wants to learn. The lower of the two gains counted most."
    )
    compatibility = (
        "Your ways of thinking and working, your languages and your free time counted. Nobody sees single answers."
    )
    perspective = "Different positions in the organisation never count against a match."
    return gain, compatibility, perspective


def _describe_amount(benefit: float) -> str:
    return (
        "a great deal"
        if benefit >= GREAT_DEAL_BENEFIT
        else "a good part"
        if benefit >= GOOD_PART_BENEFIT
        else "something"
    )
