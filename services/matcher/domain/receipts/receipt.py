"""The receipt of a proposal: how the pair was chosen, and from what, so that it can be recomputed.

What the match was computed from is kept as one canonical text, and its hash is that of exactly these bytes: a field
that a contract gains later changes no receipt. Nothing in it names a third person, neither whom somebody would rather
not be paired with nor anybody of the line: the rules about these were checked, and are not part of the fit. A salt in
every hash keeps a single answer from being guessed by trying all of them.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

from pydantic import Field, JsonValue

from contracts.base import FrozenModel
from contracts.envelope import Instant
from contracts.pairings import Focus, Origin
from contracts.profiles import Enrolment, ProfileChanged, Side
from contracts.programmes import Labels, Matching, ProgrammeSettings, Rules
from contracts.taxonomy import Taxonomy
from services.matcher.domain.fit.reasons import reasons
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.fit.score import Fit, fit, focus

ALGORITHM = "1"  # raised whenever the same inputs would give another fit, focus or reason
NOISE = 1e-9  # between two computations of the same figure on different machines
MILLIONTH = 1e-6  # as near as the fit that a round computes for many pairs at once comes to that of one pair

SEEN = {
    "member_id",
    "organisation_id",
    "department_id",
    "site_id",
    "discipline_id",
    "level",
    "experience_band",
    "offers",
    "seeks",
    "languages",
    "time_zone",
    "availability",
    "style",
}
"""What of a profile decides a fit and its reasons. Whatever a profile gains is private until it is named here."""

SIDES: tuple[Side, Side] = ("senior", "junior")

Check = Literal["inputs", "senior", "junior", "settings", "taxonomy", "algorithm", "fit", "reasons"]
CHECKS: tuple[Check, ...] = get_args(Check)


class RunnerUp(FrozenModel):
    """The best partner that a side could have had instead, found as if nobody had private wishes."""

    member_id: str
    score: float


class Chosen(FrozenModel):
    """How a pair was chosen among others; what does not apply to its origin is left out.

    ``probability``: with which the draw among near-equals took it, under ``seed``. ``override_cost``: the fit that was
    given up because a person chose otherwise, on the scale of a score.
    """

    seed: int | None = None
    probability: float | None = None
    runner_up: dict[Side, RunnerUp] = Field(default_factory=dict)
    override_cost: float | None = None


class Hashes(FrozenModel):
    """SHA-256, in hexadecimal, of the text of all inputs and of its parts."""

    inputs: str
    senior: str
    junior: str
    settings: str
    taxonomy: str


class MatchingSettings(FrozenModel):
    """What of a programme's settings decides a match."""

    organisations: tuple[str, ...]
    rules: Rules
    matching: Matching


class Inputs(FrozenModel):
    """All that fit and reasons depend on, but for the taxonomy, which is named by its hash."""

    algorithm: str
    on: date
    programme_id: str
    programme_version: int
    settings: MatchingSettings
    taxonomy: str
    profiles: dict[Side, ProfileChanged]
    salt: str


class Receipt(FrozenModel):
    """One for each attempt to propose a pair.

    ``inputs``: the canonical JSON of ``Inputs``. ``sequences``: which records of ``profiles.v1`` the two profiles were,
    for whoever runs the system; shown to nobody, since a private wish moves them too. ``chosen_with``: the fit by which
    a round chose the pair, where a profile has changed before it was published.
    """

    receipt_id: str
    pairing_id: str
    attempt: int
    programme_id: str
    programme_version: int
    origin: Origin
    round_id: str | None
    members: dict[Side, str]
    made_at: Instant
    algorithm: str
    inputs: str
    sequences: dict[Side, int]
    hashes: Hashes
    fit: Fit
    reasons: dict[Side, tuple[str, ...]]
    focus: tuple[Focus, ...]
    chosen_with: Fit | None = None
    chosen: Chosen = Field(default_factory=Chosen)


@dataclass(frozen=True)
class About:
    """What a receipt is for."""

    receipt_id: str
    pairing_id: str
    attempt: int
    origin: Origin
    round_id: str | None = None


@dataclass(frozen=True)
class Basis:
    """What a match is computed with; ``taxonomy_hash`` is ``hash_of_taxonomy``, worked out once for many."""

    programme_id: str
    programme_version: int
    settings: ProgrammeSettings
    taxonomy: Taxonomy
    taxonomy_hash: str
    on: date


@dataclass(frozen=True)
class Known:
    """Somebody as matching knew them; ``sequence`` is that of the profile's record."""

    member: Member
    sequence: int


@dataclass(frozen=True)
class Verification:
    """What recomputing a receipt showed. What could not be recomputed stands in ``unknown``."""

    agrees: tuple[Check, ...]
    differs: tuple[Check, ...]
    unknown: tuple[Check, ...]

    @property
    def verified(self) -> bool:
        """Its inputs are as they were, and give what it says.

        That algorithm or taxonomy are others by now takes nothing from that; where they change the result, this shows.
        """
        return not self.unknown and not set(self.differs) - {"algorithm", "taxonomy"}


def made(
    about: About,
    basis: Basis,
    senior: Known,
    junior: Known,
    made_at: Instant,
    salt: str,
    *,
    chosen_with: Fit | None = None,
    chosen: Chosen | None = None,
) -> Receipt:
    """The receipt of a proposal of these two. ``salt``: as random as an id, and drawn for this receipt alone."""
    settings = basis.settings.model_dump(mode="json", include=set(MatchingSettings.model_fields))
    profiles: dict[str, JsonValue] = {"senior": seen(senior.member.profile), "junior": seen(junior.member.profile)}
    text = canonical(
        {
            "algorithm": ALGORITHM,
            "on": basis.on.isoformat(),
            "programme_id": basis.programme_id,
            "programme_version": basis.programme_version,
            "settings": settings,
            "taxonomy": basis.taxonomy_hash,
            "profiles": profiles,
            "salt": salt,
        }
    )
    found = _computed(senior.member, junior.member, basis.settings, basis.taxonomy, basis.on)
    return Receipt(
        receipt_id=about.receipt_id,
        pairing_id=about.pairing_id,
        attempt=about.attempt,
        programme_id=basis.programme_id,
        programme_version=basis.programme_version,
        origin=about.origin,
        round_id=about.round_id,
        members={"senior": senior.member.id, "junior": junior.member.id},
        made_at=made_at,
        algorithm=ALGORITHM,
        inputs=text,
        sequences={"senior": senior.sequence, "junior": junior.sequence},
        hashes=Hashes(
            inputs=hash_of(text),
            senior=salted(profiles["senior"], salt),
            junior=salted(profiles["junior"], salt),
            settings=salted(settings, salt),
            taxonomy=basis.taxonomy_hash,
        ),
        fit=found.fit,
        reasons=found.reasons,
        focus=found.focus,
        chosen_with=None if chosen_with is None or same(chosen_with, found.fit, MILLIONTH) else chosen_with,
        chosen=chosen or Chosen(),
    )


def verify(receipt: Receipt, taxonomy: Taxonomy) -> Verification:
    """Compute everything again from the inputs that were kept, with the taxonomy and the algorithm of today.

    Inputs that are not what they were are not computed with: what would have come of them stays unknown.
    """
    if hash_of(receipt.inputs) != receipt.hashes.inputs:
        return Verification((), ("inputs",), CHECKS[1:])
    inputs = read(receipt)
    if inputs is None:
        return Verification(("inputs",), (), CHECKS[1:])
    raw = json.loads(receipt.inputs)
    found = _computed(_member(inputs, "senior"), _member(inputs, "junior"), _settings(inputs), taxonomy, inputs.on)
    held: dict[Check, bool] = {
        "inputs": True,
        "senior": salted(raw["profiles"]["senior"], inputs.salt) == receipt.hashes.senior,
        "junior": salted(raw["profiles"]["junior"], inputs.salt) == receipt.hashes.junior,
        "settings": salted(raw["settings"], inputs.salt) == receipt.hashes.settings,
        "taxonomy": hash_of_taxonomy(taxonomy) == receipt.hashes.taxonomy == inputs.taxonomy,
        "algorithm": receipt.algorithm == inputs.algorithm == ALGORITHM,
        "fit": same(found.fit, receipt.fit),
        "reasons": found.reasons == receipt.reasons and found.focus == receipt.focus,
    }
    return Verification(
        tuple(check for check in CHECKS if held[check]), tuple(check for check in CHECKS if not held[check]), ()
    )


def changed_since(receipt: Receipt, side: Side, now: ProfileChanged | None) -> bool:
    """Whether what matching sees of a side is another by now.

    It compares contents and not the numbers of records: a private wish is a new record too, and must not show.
    """
    inputs = read(receipt)
    return inputs is None or now is None or salted(seen(now), inputs.salt) != getattr(receipt.hashes, side)


def read(receipt: Receipt) -> Inputs | None:
    """Its inputs; None where the text is none that this version can read."""
    try:
        return Inputs.model_validate_json(receipt.inputs)
    except ValueError:
        return None


def without(receipt: Receipt, member_id: str) -> Receipt:
    """As it stands when somebody who was only a runner-up is forgotten: nothing names them or came from them."""
    others = {side: one for side, one in receipt.chosen.runner_up.items() if one.member_id != member_id}
    return receipt.model_copy(update={"chosen": receipt.chosen.model_copy(update={"runner_up": others})})


def seen(profile: ProfileChanged) -> dict[str, JsonValue]:
    """What matching sees of a profile, with everything private left out."""
    return profile.model_dump(mode="json", include=SEEN)


def same(one: Fit, other: Fit, within: float = NOISE) -> bool:
    """Whether no figure of two fits is further apart than ``within``: a machine's arithmetic, if not told otherwise."""
    figures: Mapping[str, float] = other.model_dump()
    return all(math.isclose(value, figures[name], abs_tol=within) for name, value in one.model_dump().items())


def canonical(value: JsonValue) -> str:
    """The one text of a JSON value: keys sorted, nothing between the signs. Raises ``ValueError`` for NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def salted(value: JsonValue, salt: str) -> str:
    return hash_of(canonical({"salt": salt, "value": value}))


def hash_of_taxonomy(taxonomy: Taxonomy) -> str:
    return hash_of(canonical(taxonomy.model_dump(mode="json")))


@dataclass(frozen=True)
class _Computed:
    fit: Fit
    reasons: dict[Side, tuple[str, ...]]
    focus: tuple[Focus, ...]


def _computed(senior: Member, junior: Member, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date) -> _Computed:
    why = reasons(senior.profile, junior.profile, settings, taxonomy, on)
    return _Computed(
        fit(senior, junior, settings, taxonomy, on),
        {side: tuple(texts) for side, texts in why.items()},
        focus(senior.profile, junior.profile, settings.matching.benefit, taxonomy),
    )


def _member(inputs: Inputs, side: Side) -> Member:
    enrolment = Enrolment(programme_id=inputs.programme_id, side=side, state="ready")
    return Member(inputs.profiles[side], enrolment)


def _settings(inputs: Inputs) -> ProgrammeSettings:
    """With what decides no match left empty."""
    return ProgrammeSettings(
        labels={"en": Labels(name="-")},
        organisations=inputs.settings.organisations,
        confidential_contact="-",
        rules=inputs.settings.rules,
        matching=inputs.settings.matching,
    )
