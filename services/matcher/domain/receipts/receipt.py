"""The receipt of a proposal: how the pair was chosen and from which inputs, so that the match can be recomputed.

The inputs are stored as one canonical text, and the hash covers exactly these bytes, so a field that a contract gains
later changes no receipt. No third person is named, neither from the private lists nor from the line: the rules about
them were checked, and are not part of the fit. Every hash is salted; otherwise trying all answers would reveal one.
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
from services.matcher.domain.fit.hard_rules import Member
from services.matcher.domain.fit.reasons import build_reasons
from services.matcher.domain.fit.score import (
    Fit,
    StyleComparison,
    compare_styles,
    compare_styles_exactly,
    compute_fit,
    select_focus,
)

ALGORITHM_VERSION = "2"  # raised whenever the same inputs would give another fit, focus or reason
_STYLE_COMPARISONS: Mapping[str, StyleComparison] = {"1": compare_styles_exactly, ALGORITHM_VERSION: compare_styles}
FLOAT_TOLERANCE = 1e-9  # tolerance between computations on different machines
FLOAT32_TOLERANCE = 1e-6  # tolerance between the vectorised fit of a round and the fit of one pair

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
"""The profile fields that decide fit and reasons. A new field of a profile is private until it is listed here."""

SIDES: tuple[Side, Side] = ("senior", "junior")

VerificationCheck = Literal["inputs", "senior", "junior", "settings", "taxonomy", "algorithm", "fit", "reasons"]
VERIFICATION_CHECKS: tuple[VerificationCheck, ...] = get_args(VerificationCheck)


class RunnerUp(FrozenModel):
    """The best alternative partner of one side, computed as if nobody had private wishes."""

    member_id: str
    score: float


class Selection(FrozenModel):
    """How a pair was selected; fields that do not apply to its origin stay empty.

    ``probability``: of this pair in the draw among near-equals, under ``seed``. ``override_cost``: the fit lost because
    a person chose otherwise, on the scale of a score.
    """

    seed: int | None = None
    probability: float | None = None
    runner_up: dict[Side, RunnerUp] = Field(default_factory=dict)
    override_cost: float | None = None


class InputHashes(FrozenModel):
    """SHA-256 hashes (hexadecimal) of the text of all inputs and of its parts."""

    inputs: str
    senior: str
    junior: str
    settings: str
    taxonomy: str


class MatchingSettings(FrozenModel):
    """The settings of a programme that decide a match."""

    organisations: tuple[str, ...]
    rules: Rules
    matching: Matching


class MatchInputs(FrozenModel):
    """Everything that fit and reasons depend on. The taxonomy is given by its hash."""

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
    were, for operators; shown to nobody, since a private wish moves them too. ``chosen_with``: the fit by
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
    """The attempt that a receipt is for."""

    receipt_id: str
    pairing_id: str
    attempt: int
    origin: Origin
    round_id: str | None = None


@dataclass(frozen=True)
class MatchingBasis:
    """The common inputs of many matches. ``taxonomy_hash``: the result of ``hash_taxonomy``, computed once."""

    programme_id: str
    programme_version: int
    settings: ProgrammeSettings
    taxonomy: Taxonomy
    taxonomy_hash: str
    on: date


@dataclass(frozen=True)
class MemberSnapshot:
    """A member as matching saw them. ``sequence``: the number of the profile record."""

    member: Member
    sequence: int


@dataclass(frozen=True)
class Verification:
    """The result of recomputing a receipt. ``unknown``: checks that could not be recomputed."""

    agrees: tuple[VerificationCheck, ...]
    differs: tuple[VerificationCheck, ...]
    unknown: tuple[VerificationCheck, ...]

    @property
    def is_verified(self) -> bool:
        """Whether the inputs are unchanged and still give the recorded result.

        A newer algorithm or taxonomy alone does not matter; if it changes the result, another check differs.
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
    """The receipt of a proposal of these two. ``salt``: random, and drawn for this receipt alone."""
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
    match = _compute_match(senior.member, junior.member, basis.settings, basis.taxonomy, basis.on, ALGORITHM_VERSION)
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
    """Recompute the match from the stored inputs, with the current taxonomy and the algorithm of that time.

    If the hash of the inputs differs, nothing is recomputed and the other checks are unknown.
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
        inputs.algorithm,
    )
    results: dict[VerificationCheck, bool] = {
        "inputs": True,
        "senior": hash_salted(raw["profiles"]["senior"], inputs.salt) == receipt.hashes.senior,
        "junior": hash_salted(raw["profiles"]["junior"], inputs.salt) == receipt.hashes.junior,
        "settings": hash_salted(raw["settings"], inputs.salt) == receipt.hashes.settings,
        "taxonomy": hash_taxonomy(taxonomy) == receipt.hashes.taxonomy == inputs.taxonomy,
        "algorithm": receipt.algorithm == inputs.algorithm and inputs.algorithm in _STYLE_COMPARISONS,
        "fit": fits_agree(match.fit, receipt.fit),
        "reasons": match.reasons == receipt.reasons and match.focus == receipt.focus,
    }
    return Verification(
        tuple(check for check in VERIFICATION_CHECKS if results[check]),
        tuple(check for check in VERIFICATION_CHECKS if not results[check]),
        (),
    )


def has_profile_changed(receipt: Receipt, side: Side, profile: ProfileChanged | None) -> bool:
    """Whether the visible fields of a side have changed.

    It compares contents, not record numbers: a private wish is a new record too, and must not show.
    """
    inputs = read_inputs(receipt)
    return (
        inputs is None
        or profile is None
        or hash_salted(select_visible_fields(profile), inputs.salt) != getattr(receipt.hashes, side)
    )


def read_inputs(receipt: Receipt) -> MatchInputs | None:
    """The inputs; None if this version cannot read the text."""
    try:
        return MatchInputs.model_validate_json(receipt.inputs)
    except ValueError:
        return None


def drop_runner_up(receipt: Receipt, member_id: str) -> Receipt:
    """The receipt after the erasure of a runner-up: nothing names or derives from that member."""
    remaining = {
        side: runner_up for side, runner_up in receipt.chosen.runner_up.items() if runner_up.member_id != member_id
    }
    return receipt.model_copy(update={"chosen": receipt.chosen.model_copy(update={"runner_up": remaining})})


def select_visible_fields(profile: ProfileChanged) -> dict[str, JsonValue]:
    """The visible fields of a profile, without anything private."""
    return profile.model_dump(mode="json", include=VISIBLE_FIELDS)


def fits_agree(first: Fit, second: Fit, within: float = FLOAT_TOLERANCE) -> bool:
    """Whether all values of two fits agree within the tolerance; by default that of floating-point arithmetic."""
    figures: Mapping[str, float] = second.model_dump()
    return all(math.isclose(value, figures[name], abs_tol=within) for name, value in first.model_dump().items())


def to_canonical_json(value: JsonValue) -> str:
    """The canonical text of a JSON value: sorted keys, no whitespace. Raises ``ValueError`` for NaN."""
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
    senior: Member, junior: Member, settings: ProgrammeSettings, taxonomy: Taxonomy, on: date, algorithm: str
) -> _MatchResult:
    compare = _STYLE_COMPARISONS.get(algorithm, compare_styles)
    texts = build_reasons(senior.profile, junior.profile, settings, taxonomy, on, compare)
    return _MatchResult(
        compute_fit(senior, junior, settings, taxonomy, on, compare),
        {side: tuple(sentences) for side, sentences in texts.items()},
        select_focus(senior.profile, junior.profile, settings.matching.benefit, taxonomy),
    )


def _rebuild_member(inputs: MatchInputs, side: Side) -> Member:
    enrolment = Enrolment(programme_id=inputs.programme_id, side=side, state="ready")
    return Member(inputs.profiles[side], enrolment)


def _rebuild_settings(inputs: MatchInputs) -> ProgrammeSettings:
    """Programme settings in which the fields that decide no match are placeholders."""
    return ProgrammeSettings(
        labels={"en": Labels(name="-")},
        organisations=inputs.settings.organisations,
        confidential_contact="-",
        rules=inputs.settings.rules,
        matching=inputs.settings.matching,
    )
