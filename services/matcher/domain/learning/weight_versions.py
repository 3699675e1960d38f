"""The learning of one programme: evidence in batches, and versions of weights that a person releases.

    proposed -> released (again and again: an earlier one may be released anew)      proposed -> superseded, dismissed

Evidence is added in whole batches of at least ``MIN_BATCH_OUTCOMES`` outcomes, and everything shown depends on whole
batches alone. So before a batch is full, no single answer changes anything here. Five pairings involve at least five
people, since two people are never paired twice. Nothing here identifies the people behind an outcome.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Literal

from pydantic import Field

from contracts.base import FrozenModel
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import CommandRejected, NotFound
from contracts.feedback import Band
from contracts.moment import Moment
from contracts.programmes import Weights
from services.matcher.domain.learning.evidence import OutcomeField, WeightEstimate
from services.matcher.domain.programmes import programme as programmes
from services.matcher.domain.programmes.programme import Programme

MIN_BATCH_OUTCOMES = 5  # smallest number of outcomes in a batch, and of people behind a figure
MIN_EVIDENCE_GROWTH = 0.25  # new outcomes per earlier outcome that the next batch needs
RELEASE_LEASE = timedelta(seconds=30)  # machine time after which another replica finishes a release
MAX_VERSIONS = 20  # stored versions; older ones that were never used are dropped
ERASED = "erased"  # replaces the id of an erased member


class ReleasePreview(FrozenModel):
    """The ids of two trial rounds: with the weights in use (``now``) and with the proposed ones (``then``)."""

    now: str
    then: str


class WeightVersion(FrozenModel):
    """Weights that the evidence supports. ``base``: the weights in use when it was made."""

    version: int
    state: Literal["proposed", "released", "superseded", "dismissed"]
    base: Weights
    estimate: WeightEstimate
    made_at: Instant
    decided_at: Instant | None = None
    decided_by: str | None = None
    preview: ReleasePreview | None = None

    @property
    def weights(self) -> Weights:
        return self.estimate.weights


class PendingRelease(FrozenModel):
    """A release that the programme has not applied yet. ``version`` 0: the weights before any learning."""

    version: int
    base: Weights
    weights: Weights
    by: str | None
    at: Instant


class EvidenceBatch(FrozenModel):
    """All evidence so far, of which at least ``MIN_BATCH_OUTCOMES`` outcomes are new."""

    outcomes: int
    refusals: int
    bands: dict[OutcomeField, dict[Band, int]]
    through: Instant


class ProgrammeLearning(FrozenModel):
    """``through``: outcomes received until then are included. ``latest``: the last estimate, clear or not."""

    programme_id: str
    batches: int = 0
    through: Instant | None = None
    outcomes: int = 0
    refusals: int = 0
    bands: dict[OutcomeField, dict[Band, int]] = Field(default_factory=dict)
    latest: WeightEstimate | None = None
    start: Weights | None = None
    made: int = 0
    versions: tuple[WeightVersion, ...] = ()
    releasing: PendingRelease | None = None
    due: Instant | None = None
    lease: Instant | None = None

    def find_version(self, number: int) -> WeightVersion:
        """Raises ``NotFound``, and ``CommandRejected`` for 0, which is no proposed version."""
        if number == 0:
            raise CommandRejected(
                "not_proposed", "0 stands for the weights before any learning; it can be released alone."
            )
        version = next((candidate for candidate in self.versions if candidate.version == number), None)
        if version is None:
            raise NotFound("version")
        return version

    def find_version_in_use(self, weights: Weights) -> int | None:
        """The version that set these weights; 0 for those before any learning, None if a person chose others."""
        released = [version for version in self.versions if version.state == "released" and version.weights == weights]
        if released:
            return max(released, key=lambda version: version.decided_at or version.made_at).version
        return 0 if self.start is None or weights == self.start else None


Decision = tuple[ProgrammeLearning, Sequence[OutgoingEvent]]


def schedule_review(learning: ProgrammeLearning | None, programme_id: str, now: datetime) -> Decision | None:
    """Schedule a review for the next midnight. A shorter delay would reveal when the outcome came."""
    if learning is not None and learning.due is not None:
        return None
    return (learning or ProgrammeLearning(programme_id=programme_id)).model_copy(update={"due": next_midnight(now)}), []


def complete_review(learning: ProgrammeLearning, now: datetime, *, more: bool) -> Decision:
    """Complete a review. ``more``: the programme still learns, so review again tomorrow."""
    return learning.model_copy(update={"due": next_midnight(now) if more else None}), []


def next_midnight(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(0), UTC)


def is_batch_full(new_outcomes: int, earlier_outcomes: int, min_group: int = MIN_BATCH_OUTCOMES) -> bool:
    """Whether so many new outcomes fill a batch. ``min_group``: the smallest group that the programme reports on.

    Repeated looks after every few outcomes would find patterns by chance, so the evidence must grow by a share.
    """
    return new_outcomes >= max(MIN_BATCH_OUTCOMES, min_group, MIN_EVIDENCE_GROWTH * earlier_outcomes)


def add_batch(
    learning: ProgrammeLearning | None,
    programme_id: str,
    batches: int,
    batch: EvidenceBatch,
    estimate: WeightEstimate | None,
    base: Weights,
    now: datetime,
) -> Decision | None:
    """Add a batch with the estimate from all evidence; a clear estimate is proposed as a new version.

    ``batches``: their number when the evidence was read. ``estimate`` is None while there is too little evidence.
    Returns None if another batch came first.
    """
    learning = learning or ProgrammeLearning(programme_id=programme_id)
    if learning.batches != batches:
        return None
    after = learning.model_copy(update={**dict(batch), "batches": batches + 1, "latest": estimate})
    if estimate is None or not estimate.is_clear or estimate.weights == base:
        return after, []
    under_way = learning.releasing.version if learning.releasing is not None else None
    earlier_versions = [
        version.model_copy(update={"state": "superseded", "decided_at": now})
        if version.state == "proposed" and version.version != under_way
        else version
        for version in learning.versions
    ]
    proposed = WeightVersion(version=learning.made + 1, state="proposed", base=base, estimate=estimate, made_at=now)
    versions = _limit_versions([*earlier_versions, proposed])
    start = base if learning.find_version_in_use(base) is None else learning.start or base
    return after.model_copy(update={"versions": versions, "made": proposed.version, "start": start}), []


def record_preview(
    learning: ProgrammeLearning, number: int, weights: Weights, preview: ReleasePreview
) -> Decision | None:
    """Record the trials that show who would be matched differently. ``weights``: those in use."""
    version = learning.find_version(number)
    require_proposed(version, weights)
    if version.preview == preview:
        return None
    return _replace_version(learning, version.model_copy(update={"preview": preview})), []


def start_release(
    learning: ProgrammeLearning,
    number: int,
    weights: Weights,
    by: str | None,
    moment: Moment,
    *,
    reviewed: ReleasePreview | None = None,
) -> Decision | None:
    """A person decides to use this version, or an earlier one; 0 stands for the weights before any learning.

    ``weights``: those in use. ``reviewed``: a preview whose trials are both computed. None if these weights are in use,
    or if this release is under way. Raises ``CommandRejected``.
    """
    if learning.releasing is not None:
        if learning.releasing.version == number:
            return None
        raise CommandRejected("release_under_way", "Another version is being released at this moment.")
    if number == 0:
        target = learning.start
        if target is None:
            raise CommandRejected("nothing_learned", "Nothing has been learned yet, so there is nothing to go back to.")
    else:
        version = learning.find_version(number)
        target = version.weights
        if version.state != "released":
            require_proposed(version, weights)
            if version.preview is None or version.preview != reviewed:
                raise CommandRejected(
                    "no_preview", "First look at who would be matched differently: ask for its preview."
                )
    if target == weights:
        return None
    pending = PendingRelease(version=number, base=weights, weights=target, by=by, at=moment.now)
    return learning.model_copy(update={"releasing": pending, "lease": moment.recorded_at + RELEASE_LEASE}), []


def apply_weights(programme: Programme, pending: PendingRelease, moment: Moment) -> programmes.Decision | None:
    """Apply the weights of a release, as an ordinary change of settings. None if the programme has them."""
    if programme.settings.matching.weights == pending.weights:
        return None
    if programme.settings.matching.weights != pending.base:
        raise _weights_changed()
    matching = programme.settings.matching.model_copy(update={"weights": pending.weights})
    settings = programme.settings.model_copy(update={"matching": matching})
    return programmes.change_settings(programme, settings, moment)


def complete_release(learning: ProgrammeLearning, pending: PendingRelease, *, succeeded: bool) -> Decision | None:
    """Complete a release. Not ``succeeded``: the programme rejected the weights. None if that is recorded already."""
    if learning.releasing != pending:
        return None
    after = learning.model_copy(update={"releasing": None, "lease": None})
    if succeeded and pending.version:
        decided = {"state": "released", "decided_at": pending.at, "decided_by": pending.by}
        after = _replace_version(after, learning.find_version(pending.version).model_copy(update=decided))
    return after, []


def dismiss_version(learning: ProgrammeLearning, number: int, by: str | None, now: datetime) -> Decision | None:
    """A person decides against a proposed version; the evidence stays. Raises ``CommandRejected``."""
    version = learning.find_version(number)
    if version.state == "dismissed":
        return None
    if version.state != "proposed":
        raise CommandRejected(
            "not_proposed", "Only a proposed version can be dismissed; to undo one, release an earlier one."
        )
    if learning.releasing is not None and learning.releasing.version == number:
        raise CommandRejected("release_under_way", "This version is being released at this moment.")
    decided = {"state": "dismissed", "decided_at": now, "decided_by": by}
    return _replace_version(learning, version.model_copy(update=decided)), []


def erase_member(learning: ProgrammeLearning, member_id: str) -> Decision | None:
    """Erase the member's id from the decisions about versions."""
    versions = tuple(
        version.model_copy(update={"decided_by": ERASED}) if version.decided_by == member_id else version
        for version in learning.versions
    )
    releasing = learning.releasing
    if releasing is not None and releasing.by == member_id:
        releasing = releasing.model_copy(update={"by": ERASED})
    if versions == learning.versions and releasing == learning.releasing:
        return None
    return learning.model_copy(update={"versions": versions, "releasing": releasing}), []


def require_proposed(version: WeightVersion, weights: Weights) -> None:
    """Raises ``CommandRejected`` if it is not proposed, or was made from weights that are no longer in use."""
    if version.state != "proposed":
        raise CommandRejected("not_proposed", "This version is no longer proposed.")
    if version.base != weights:
        raise _weights_changed()


def _weights_changed() -> CommandRejected:
    return CommandRejected(
        "weights_changed", "The programme's weights have changed since this was made; the next batch makes a new one."
    )


def _replace_version(learning: ProgrammeLearning, version: WeightVersion) -> ProgrammeLearning:
    versions = tuple(version if existing.version == version.version else existing for existing in learning.versions)
    return learning.model_copy(update={"versions": versions})


def _limit_versions(versions: Sequence[WeightVersion]) -> tuple[WeightVersion, ...]:
    """The newest versions, and all older ones that were in use."""
    droppable = [version for version in versions if version.state in ("superseded", "dismissed")]
    dropped = {version.version for version in droppable[: max(0, len(versions) - MAX_VERSIONS)]}
    return tuple(version for version in versions if version.version not in dropped)
