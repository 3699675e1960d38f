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
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.rules import Member
from services.matcher.domain.fit.score import Fit, compute_fit, select_focus

ALGORITHM_VERSION = "1"  # raised whenever the same inputs would give another fit, focus or reason
FLOAT_TOLERANCE = 1e-9  # between two computations of the same figure on different machines
FLOAT32_TOLERANCE = 1e-6  # as near as the fit that a round computes for many pairs at once comes to that of one pair

VISIBLE_FIELDS = {
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

VerificationCheck = Literal["inputs", "senior", "junior", "settings", "taxonomy", "algorithm", "fit", "reasons"]
VERIFICATION_CHECKS: tuple[VerificationCheck, ...] = get_args(VerificationCheck)


class RunnerUp(FrozenModel):
    """The best partner that a side could have had instead, found as if nobody had private wishes."""

    member_id: str
    score: float


class Selection(FrozenModel):
    """How a pair was chosen among others; what does not apply to its origin is left out.

    ``probability``: with which the draw among near-equals took it, under ``seed``. ``override_cost``: the fit that was
    given up because a person chose otherwise, on the scale of a score.
    """

    seed: int | None = None
    probability: float | None = None
    runner_up: dict[Side, RunnerUp] = Field(default_factory=dict)
    override_cost: float | None = None


class InputHashes(FrozenModel):
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


class MatchInputs(FrozenModel):
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

    ``inputs``: the canonical JSON of ``MatchInputs``. ``sequences``: which records of ``profiles.v1`` the two profiles
    were, for whoever runs the system; shown to nobody, since a private wish moves them too. ``chosen_with``: the fit by
    which a round chose the pair, where a profile has changed before it was published.
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
    hashes: InputHashes
    fit: Fit
    reasons: dict[Side, tuple[str, ...]]
    focus: tuple[Focus, ...]
    chosen_with: Fit | None = None
    chosen: Selection = Field(default_factory=Selection)


@dataclass(frozen=True)
class ReceiptSubject:
    """What a receipt is for."""

    receipt_id: str
    pairing_id: str
    attempt: int
    origin: Origin
    round_id: str | None = None


@dataclass(frozen=True)
class MatchingBasis:
    """What a match is computed with; ``taxonomy_hash`` is ``hash_taxonomy``, worked out once for many."""

    programme_id: str
    programme_version: int
    settings: ProgrammeSettings
    taxonomy: Taxonomy
    taxonomy_hash: str
    on: date


@dataclass(frozen=True)
class MemberSnapshot:
    """Somebody as matching knew them; ``sequence`` is that of the profile's record."""

    member: Member
    sequence: int


@dataclass(frozen=True)
class Verification:
    """What recomputing a receipt showed. What could not be recomputed stands in ``unknown``."""

    agrees: tuple[VerificationCheck, ...]
    differs: tuple[VerificationCheck, ...]
    unknown: tuple[VerificationCheck, ...]

    @property
    def is_verified(self) -> bool:
        """Its inputs are as they were, and give what it says.

        That algorithm or taxonomy are others by now takes nothing from that; where they change the result, this shows.
        """
        return not self.unknown and not set(self.differs) - {"algorithm", "taxonomy"}


def issue_receipt(
    subject: ReceiptSubject,
    basis: MatchingBasis,
    senior: MemberSnapshot,
    junior: MemberSnapshot,
    made_at: Instant,
    salt: str,
    *,
    chosen_with: Fit | None = None,
    chosen: Selection | None = None,
) -> Receipt:
    """The receipt of a proposal of these two. ``salt``: as random as an id, and drawn for this receipt alone."""
    settings = basis.settings.model_dump(mode="json", include=set(MatchingSettings.model_fields))
    profiles: dict[str, JsonValue] = {
        "senior": select_visible_fields(senior.member.profile),
        "junior": select_visible_fields(junior.member.profile),
    }
    text = to_canonical_json(
        {
            "algorithm": ALGORITHM_VERSION,
            "on": basis.on.isoformat(),
            "programme_id": basis.programme_id,
            "programme_version": basis.programme_version,
            "settings": settings,
            "taxonomy": basis.taxonomy_hash,
            "profiles": profiles,
            "salt": salt,
        }
    )
    match = _compute_match(senior.member, junior.member, basis.settings, basis.taxonomy, basis.on)
    return Receipt(
        receipt_id=subject.receipt_id,
        pairing_id=subject.pairing_id,
        attempt=subject.attempt,
        programme_id=basis.programme_id,
        programme_version=basis.programme_version,
        origin=subject.origin,
        round_id=subject.round_id,
        members={"senior": senior.member.id, "junior": junior.member.id},
        made_at=made_at,
        algorithm=ALGORITHM_VERSION,
        inputs=text,
        sequences={"senior": senior.sequence, "junior": junior.sequence},
        hashes=InputHashes(
            inputs=hash_text(text),
            senior=hash_salted(profiles["senior"], salt),
            junior=hash_salted(profiles["junior"], salt),
            settings=hash_salted(settings, salt),
            taxonomy=basis.taxonomy_hash,
        ),
        fit=match.fit,
        reasons=match.reasons,
        focus=match.focus,
        chosen_with=None
        if chosen_with is None or fits_agree(chosen_with, match.fit, FLOAT32_TOLERANCE)
        else chosen_with,
        chosen=chosen or Selection(),
    )


def verify_receipt(receipt: Receipt, taxonomy: Taxonomy) -> Verification:
    """Compute everything again from the inputs that were kept, with the taxonomy and the algorithm of today.

    Inputs that are not what they were are not computed with: what would have come of them stays unknown.
    """
    if hash_text(receipt.inputs) != receipt.hashes.inputs:
        return Verification((), ("inputs",), VERIFICATION_CHECKS[1:])
    inputs = read_inputs(receipt)
    if inputs is None:
        return Verification(("inputs",), (), VERIFICATION_CHECKS[1:])
    raw = json.loads(receipt.inputs)
    match = _compute_match(
        _rebuild_member(inputs, "senior"),
        _rebuild_member(inputs, "junior"),
        _rebuild_settings(inputs),
        taxonomy,
        inputs.on,
    )
    results: dict[VerificationCheck, bool] = {
        "inputs": True,
        "senior": hash_salted(raw["profiles"]["senior"], inputs.salt) == receipt.hashes.senior,
        "junior": hash_salted(raw["profiles"]["junior"], inputs.salt) == receipt.hashes.junior,
        "settings": hash_salted(raw["settings"], inputs.salt) == receipt.hashes.settings,
        "taxonomy": hash_taxonomy(taxonomy) == receipt.hashes.taxonomy == inputs.taxonomy,
        "algorithm": receipt.algorithm == inputs.algorithm == ALGORITHM_VERSION,
        "fit": fits_agree(match.fit, receipt.fit),
        "reasons": match.reasons == receipt.reasons and match.focus == receipt.focus,
    }
    return Verification(
        tuple(check for check in VERIFICATION_CHECKS if results[check]),
        tuple(check for check in VERIFICATION_CHECKS if not results[check]),
        (),
    )


def has_profile_changed(receipt: Receipt, side: Side, profile: ProfileChanged | None) -> bool:
    """Whether what matching sees of a side is another by now.

    It compares contents and not the numbers of records: a private wish is a new record too, and must not show.
    """
    inputs = read_inputs(receipt)
    return (
        inputs is None
        or profile is None
        or hash_salted(select_visible_fields(profile), inputs.salt) != getattr(receipt.hashes, side)
    )


def read_inputs(receipt: Receipt) -> MatchInputs | None:
    """Its inputs; None where the text is none that this version can read."""
    try:
        return MatchInputs.model_validate_json(receipt.inputs)
    except ValueError:
        return None


def drop_runner_up(receipt: Receipt, member_id: str) -> Receipt:
    """As it stands when somebody who was only a runner-up is forgotten: nothing names them or came from them."""
    remaining = {
        side: runner_up for side, runner_up in receipt.chosen.runner_up.items() if runner_up.member_id != member_id
    }
    return receipt.model_copy(update={"chosen": receipt.chosen.model_copy(update={"runner_up": remaining})})


def select_visible_fields(profile: ProfileChanged) -> dict[str, JsonValue]:
    """What matching sees of a profile, with everything private left out."""
    return profile.model_dump(mode="json", include=VISIBLE_FIELDS)


def fits_agree(first: Fit, second: Fit, within: float = FLOAT_TOLERANCE) -> bool:
    """Whether no figure of two fits is further apart than ``within``: a machine's arithmetic, if not told otherwise."""
    figures: Mapping[str, float] = second.model_dump()
    return all(math.isclose(value, figures[name], abs_tol=within) for name, value in first.model_dump().items())


def to_canonical_json(value: JsonValue) -> str:
    """The one text of a JSON value: keys sorted, nothing between the signs. Raises ``ValueError`` for NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def hash_salted(value: JsonValue, salt: str) -> str:
    return hash_text(to_canonical_json({"salt": salt, "value": value}))


def hash_taxonomy(taxonomy: Taxonomy) -> str:
    return hash_text(to_canonical_json(taxonomy.model_dump(mode="json")))


@dataclass(frozen=True)
class _MatchResult:
    fit: Fit
    reasons: dict[Side, tuple[str, ...]]
    focus: tuple[Focus, ...]


def _compute_match(
    senior: Member, junior: Member, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date
) -> _MatchResult:
    texts = build_reasons(senior.profile, junior.profile, settings, taxonomy, on)
    return _MatchResult(
        compute_fit(senior, junior, settings, taxonomy, on),
        {side: tuple(sentences) for side, sentences in texts.items()},
        select_focus(senior.profile, junior.profile, settings.matching.benefit, taxonomy),
    )


def _rebuild_member(inputs: MatchInputs, side: Side) -> Member:
    enrolment = Enrolment(programme_id=inputs.programme_id, side=side, state="ready")
    return Member(inputs.profiles[side], enrolment)


def _rebuild_settings(inputs: MatchInputs) -> ProgrammeSettings:
    """With what decides no match left empty."""
    return ProgrammeSettings(
        labels={"en": Labels(name="-")},
        organisations=inputs.settings.organisations,
        confidential_contact="-",
        rules=inputs.settings.rules,
        matching=inputs.settings.matching,
    )
