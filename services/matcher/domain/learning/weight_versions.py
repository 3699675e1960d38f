"""What a programme has learned about its weights: evidence in batches, and versions that a person releases.

    proposed -> released (again and again: an earlier one may be released anew)      proposed -> superseded, dismissed

Evidence comes in by whole batches only, each of at least ``MIN_BATCH_OUTCOMES`` outcomes, and whatever is shown depends
on whole batches alone: as long as one is not full, nothing here differs by what somebody answered. Five pairings are of
at least five people, since two people are never paired twice. Nothing here says whose outcomes they were.
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

MIN_BATCH_OUTCOMES = 5  # outcomes that come in together at least, and people that a figure is of at least
MIN_EVIDENCE_GROWTH = 0.25  # of the outcomes that are in, so many must be new before they are looked at again
RELEASE_LEASE = timedelta(seconds=30)  # machine time after which somebody else finishes a release
MAX_VERSIONS = 20  # versions; older ones that are not in use are forgotten
ERASED = "erased"  # stands for whoever was forgotten


class ReleasePreview(FrozenModel):
    """Two trials by their ids: everybody who is free, matched with the weights in use, and with the proposed ones."""

    now: str
    then: str


class WeightVersion(FrozenModel):
    """Weights that the outcomes speak for; ``base`` are those that were in use when it was made."""

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
    """A release that the programme has not been told of yet; ``version`` 0: the weights before any learning."""

    version: int
    base: Weights
    weights: Weights
    by: str | None
    at: Instant


class EvidenceBatch(FrozenModel):
    """All evidence there is, once at least ``MIN_BATCH_OUTCOMES`` outcomes of it are new."""

    outcomes: int
    refusals: int
    bands: dict[OutcomeField, dict[Band, int]]
    through: Instant


class ProgrammeLearning(FrozenModel):
    """``through``: outcomes heard until then are in. ``latest``: what the last batch said, whether clear or not."""

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
        """Raises ``NotFound``, and ``CommandRejected`` for 0, which nobody proposed."""
        if number == 0:
            raise CommandRejected(
                "not_proposed", "0 stands for the weights before any learning; it can be released alone."
            )
        version = next((candidate for candidate in self.versions if candidate.version == number), None)
        if version is None:
            raise NotFound("version")
        return version

    def find_version_in_use(self, weights: Weights) -> int | None:
        """The version that set these weights; 0 for those before any learning, None where a person chose others."""
        released = [version for version in self.versions if version.state == "released" and version.weights == weights]
        if released:
            return max(released, key=lambda version: version.decided_at or version.made_at).version
        return 0 if self.start is None or weights == self.start else None


Decision = tuple[ProgrammeLearning, Sequence[OutgoingEvent]]


def schedule_review(learning: ProgrammeLearning | None, programme_id: str, now: datetime) -> Decision | None:
    """There is something to look at, at the next midnight: not so many hours after it came, which would tell when."""
    if learning is not None and learning.due is not None:
        return None
    return (learning or ProgrammeLearning(programme_id=programme_id)).model_copy(update={"due": next_midnight(now)}), []


def complete_review(learning: ProgrammeLearning, now: datetime, *, more: bool) -> Decision:
    """It was looked at; ``more``: there is evidence left that is to be looked at again."""
    return learning.model_copy(update={"due": next_midnight(now) if more else None}), []


def next_midnight(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(0), UTC)


def is_batch_full(new_outcomes: int, earlier_outcomes: int, min_group: int = MIN_BATCH_OUTCOMES) -> bool:
    """Whether so many new outcomes are a batch, beside those known; ``k`` is the programme's smallest group.

    Who looks again after every few outcomes finds in chance what they look for: evidence has to grow by a share.
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
    """A batch came in, and this is what all evidence says now; what it says clearly is proposed.

    ``batches``: how many there were when the evidence was read; None where another came first. ``found`` None: there is
    too little evidence yet.
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
    """These trials show who would be matched differently; again, since people change. ``weights`` are those in use."""
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
    """A person decides to use this version, or one that was in use before: 0 is what was there before any learning.

    ``weights`` are those in use; ``seen`` is a preview of which both trials are computed. None where they are this
    version's, and where its release is under way.
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
    """The programme with the weights of a release; an ordinary change of its settings. None where it has them."""
    if programme.settings.matching.weights == pending.weights:
        return None
    if programme.settings.matching.weights != pending.base:
        raise _weights_changed()
    matching = programme.settings.matching.model_copy(update={"weights": pending.weights})
    settings = programme.settings.model_copy(update={"matching": matching})
    return programmes.change_settings(programme, settings, moment)


def complete_release(learning: ProgrammeLearning, pending: PendingRelease, *, succeeded: bool) -> Decision | None:
    """The programme has the weights; or, not ``done``, it cannot have them any longer. None where that is noted."""
    if learning.releasing != pending:
        return None
    after = learning.model_copy(update={"releasing": None, "lease": None})
    if succeeded and pending.version:
        decided = {"state": "released", "decided_at": pending.at, "decided_by": pending.by}
        after = _replace_version(after, learning.find_version(pending.version).model_copy(update=decided))
    return after, []


def dismiss_version(learning: ProgrammeLearning, number: int, by: str | None, now: datetime) -> Decision | None:
    """A person decides against a proposed version; the evidence stays."""
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
    """Without the name of whoever decided about versions."""
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
    """Raises ``CommandRejected`` where it is not, or was made from other weights than those in use."""
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
    """The newest ones, and of the older ones those that were in use."""
    droppable = [version for version in versions if version.state in ("superseded", "dismissed")]
    dropped = {version.version for version in droppable[: max(0, len(versions) - MAX_VERSIONS)]}
    return tuple(version for version in versions if version.version not in dropped)
