"""Enrolment in a programme: ``invited -> enrolled -> ready -> left``, and back to ``enrolled`` when a person returns.

An import may invite, but only the person themselves enrols. *Ready* is never set directly. It is derived: the person is
enrolled, has seen the current notice, has a level, and has at least one known topic to offer and one to learn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from contracts import profiles
from contracts.base import FrozenModel
from contracts.envelope import Id, Instant
from contracts.errors import CommandRejected, NotFound
from contracts.programmes import ProgrammeChanged

EitherSide = Literal["senior", "junior", "either"]
Capacity = Annotated[int, Field(ge=0, le=20)]
Programmes: TypeAlias = Mapping[str, ProgrammeChanged]


class SeenNotice(FrozenModel):
    """The version of the privacy notice that the person saw, and when. A notice informs and needs no consent."""

    version: str
    at: Instant


class ProgrammeEnrolment(FrozenModel):
    """The participation of one person in one programme.

    ``left_with_job``: it ended because the employment did. Whoever leaves by themselves is not invited again.
    """

    programme_id: str
    side: EitherSide = "either"
    capacity: Capacity = 1
    state: Literal["invited", "enrolled", "ready", "left"] = "invited"
    notice: SeenNotice | None = None
    optional_consents: tuple[str, ...] = ()
    briefed_at: Instant | None = None
    acknowledged_at: Instant | None = None
    waiting_since: Instant | None = None
    invited_at: Instant | None = None
    enrolled_at: Instant | None = None
    left_at: Instant | None = None
    left_with_job: bool = False

    def to_public(self) -> profiles.Enrolment:
        return profiles.Enrolment(
            programme_id=self.programme_id,
            side=self.side,
            capacity=self.capacity,
            state=self.state,
            confidentiality_acknowledged=self.acknowledged_at is not None,
            waiting_since=self.waiting_since,
        )

    def to_taking_part(self) -> profiles.TakingPart:
        """The public form for the notifier. ``since`` stays the same while the person waits, is paired, waits again."""
        since = {"invited": self.invited_at, "left": self.left_at}.get(self.state)
        return profiles.TakingPart(
            programme_id=self.programme_id, state=self.state, since=since or self.enrolled_at or self.invited_at
        )


class Invitation(FrozenModel):
    """A request by HR or a coordinator that a person takes part. ``capacity`` None: the programme's default."""

    programme_id: Id
    side: EitherSide = "either"
    capacity: Capacity | None = None


class ParticipationWish(FrozenModel):
    """A person's statement about their participation; it enrols them. An absent field stays as it is."""

    side: EitherSide | None = None
    capacity: Capacity | None = None
    notice: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    confidentiality_acknowledged: bool | None = None
    optional_consents: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] | None = Field(
        None, max_length=20
    )
    briefed: bool | None = None


@dataclass(frozen=True)
class ReadinessFacts:
    """The facts outside the enrolment on which readiness and admission depend. ``offers``, ``seeks``: numbers."""

    organisation_id: str
    level: int | None
    offers: int
    seeks: int
    employed: bool


def create_invited(invitation: Invitation, programmes: Programmes, now: datetime) -> ProgrammeEnrolment:
    programme = programmes.get(invitation.programme_id)
    default = programme.settings.rules.default_capacity if programme else 1
    return ProgrammeEnrolment(
        programme_id=invitation.programme_id,
        side=invitation.side,
        capacity=default if invitation.capacity is None else invitation.capacity,
        invited_at=now,
    )


def update_participation(
    before: ProgrammeEnrolment | None,
    wish: ParticipationWish,
    programme: ProgrammeChanged | None,
    facts: ReadinessFacts,
    now: datetime,
) -> ProgrammeEnrolment:
    """Enrol, rejoin, or change earlier statements. Raises ``CommandRejected``.

    ``derive_state`` decides afterwards whether the person is ready.
    """
    if programme is None:
        raise NotFound("programme", code="unknown_programme", detail="there is no such programme")
    is_joining = before is None or before.state in ("invited", "left")
    if is_joining:
        _require_admission(programme, facts)
    if wish.notice is not None and wish.notice != programme.settings.notice:
        raise CommandRejected("outdated_notice", "this is not the current version of the programme's notice")
    enrolment = before or ProgrammeEnrolment(
        programme_id=programme.programme_id, capacity=programme.settings.rules.default_capacity
    )
    if is_joining:
        enrolment = enrolment.model_copy(
            update={"state": "enrolled", "enrolled_at": now, "left_at": None, "left_with_job": False}
        )
    return enrolment.model_copy(update=_collect_changes(enrolment, wish, now))


def _collect_changes(enrolment: ProgrammeEnrolment, wish: ParticipationWish, now: datetime) -> dict[str, object]:
    """The fields that the wish changes. A confirmation given twice keeps the time of the first one."""
    changes: dict[str, object] = {
        name: value for name in ("side", "capacity", "optional_consents") if (value := getattr(wish, name)) is not None
    }
    if wish.notice is not None and (enrolment.notice is None or enrolment.notice.version != wish.notice):
        changes["notice"] = SeenNotice(version=wish.notice, at=now)
    if wish.confidentiality_acknowledged is not None:
        changes["acknowledged_at"] = (enrolment.acknowledged_at or now) if wish.confidentiality_acknowledged else None
    if wish.briefed is not None:
        changes["briefed_at"] = (enrolment.briefed_at or now) if wish.briefed else None
    return changes


def _require_admission(programme: ProgrammeChanged, facts: ReadinessFacts) -> None:
    if programme.state != "open":
        raise CommandRejected("programme_not_open", "this programme takes nobody in at the moment")
    if facts.organisation_id not in programme.settings.organisations:
        raise CommandRejected("other_organisation", "this programme is for people of other organisations")
    if not facts.employed:
        raise CommandRejected("not_employed", "only people who work here can take part")


def mark_left(enrolment: ProgrammeEnrolment, now: datetime, *, with_job: bool = False) -> ProgrammeEnrolment:
    if enrolment.state == "left":
        return enrolment
    return enrolment.model_copy(
        update={"state": "left", "left_at": now, "waiting_since": None, "left_with_job": with_job}
    )


def invite_again(
    enrolment: ProgrammeEnrolment, programme: ProgrammeChanged | None, now: datetime
) -> ProgrammeEnrolment:
    """The invitation of a person who works here again, where their enrolment ended with their former employment."""
    if not enrolment.left_with_job or enrolment.state != "left" or programme is None or programme.state != "open":
        return enrolment
    return enrolment.model_copy(
        update={"state": "invited", "invited_at": now, "left_at": None, "left_with_job": False, "enrolled_at": None}
    )


def missing_requirements(
    enrolment: ProgrammeEnrolment, programme: ProgrammeChanged, facts: ReadinessFacts
) -> tuple[str, ...]:
    """The requirements that an enrolled person does not meet yet to be ready."""
    requirements = {
        "notice": enrolment.notice is not None and enrolment.notice.version == programme.settings.notice,
        "level": facts.level is not None,
        "offers": facts.offers > 0,
        "seeks": facts.seeks > 0,
    }
    return tuple(name for name, is_met in requirements.items() if not is_met)


def derive_state(
    enrolment: ProgrammeEnrolment, programme: ProgrammeChanged | None, facts: ReadinessFacts, now: datetime
) -> ProgrammeEnrolment:
    """The enrolment with the state that follows from all facts.

    While the programme is unknown, the enrolment keeps its state.
    """
    if enrolment.state == "left":
        return enrolment
    if not facts.employed:
        return mark_left(enrolment, now, with_job=True)
    if enrolment.state == "invited" or programme is None:
        return enrolment
    if missing_requirements(enrolment, programme, facts):
        return enrolment.model_copy(update={"state": "enrolled", "waiting_since": None})
    return enrolment.model_copy(update={"state": "ready", "waiting_since": enrolment.waiting_since or now})
