"""Taking part in a programme: ``invited -> enrolled -> ready -> left``, and back to ``enrolled`` for who returns.

Importing is not joining: HR may invite, and only the person enrols. *Ready* is never set, it follows: enrolled, the
current notice seen, a level known, at least one topic offered and one sought.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from contracts import profiles
from contracts.envelope import Id, Instant
from contracts.errors import CommandRejected, NotFound
from contracts.programmes import ProgrammeChanged
from services.profiles.domain.base import Value

EitherSide = Literal["senior", "junior", "either"]
Capacity = Annotated[int, Field(ge=0, le=20)]
Programmes: TypeAlias = Mapping[str, ProgrammeChanged]


class Notice(Value):
    """Which version of the privacy notice was seen, and when. A notice informs; it asks for nothing."""

    version: str
    at: Instant


class Enrolment(Value):
    """One person in one programme."""

    programme_id: str
    side: EitherSide = "either"
    capacity: Capacity = 1
    state: Literal["invited", "enrolled", "ready", "left"] = "invited"
    notice: Notice | None = None
    optional_consents: tuple[str, ...] = ()
    briefed_at: Instant | None = None
    acknowledged_at: Instant | None = None
    waiting_since: Instant | None = None
    invited_at: Instant | None = None
    enrolled_at: Instant | None = None
    left_at: Instant | None = None

    def public(self) -> profiles.Enrolment:
        return profiles.Enrolment(
            programme_id=self.programme_id,
            side=self.side,
            capacity=self.capacity,
            state=self.state,
            confidentiality_acknowledged=self.acknowledged_at is not None,
            waiting_since=self.waiting_since,
        )

    def taking_part(self) -> profiles.TakingPart:
        """For the notifier; ``since`` stays the same while somebody waits, is paired, and waits again."""
        since = {"invited": self.invited_at, "left": self.left_at}.get(self.state)
        return profiles.TakingPart(
            programme_id=self.programme_id, state=self.state, since=since or self.enrolled_at or self.invited_at
        )


class Invitation(Value):
    """HR's wish that somebody takes part; ``capacity`` None is the programme's default."""

    programme_id: Id
    side: EitherSide = "either"
    capacity: Capacity | None = None


class Participation(Value):
    """What a person says about taking part; what is absent stays as it is. Sending it enrols."""

    side: EitherSide | None = None
    capacity: Capacity | None = None
    notice: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    confidentiality_acknowledged: bool | None = None
    optional_consents: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] | None = Field(
        None, max_length=20
    )
    briefed: bool | None = None


@dataclass(frozen=True)
class Facts:
    """What readiness and admission depend on, beside the enrolment itself."""

    organisation_id: str
    level: int | None
    offers: int
    seeks: int
    employed: bool


def invite(invitation: Invitation, programmes: Programmes, now: datetime) -> Enrolment:
    programme = programmes.get(invitation.programme_id)
    default = programme.settings.rules.default_capacity if programme else 1
    return Enrolment(
        programme_id=invitation.programme_id,
        side=invitation.side,
        capacity=default if invitation.capacity is None else invitation.capacity,
        invited_at=now,
    )


def take_part(
    before: Enrolment | None, wish: Participation, programme: ProgrammeChanged | None, facts: Facts, now: datetime
) -> Enrolment:
    """Enrol, rejoin, or change what was said before. Raises ``CommandRejected``.

    Whether this makes somebody ready is for ``settled`` to say.
    """
    if programme is None:
        raise NotFound("programme", code="unknown_programme", detail="there is no such programme")
    joining = before is None or before.state in ("invited", "left")
    if joining:
        _admit(programme, facts)
    if wish.notice is not None and wish.notice != programme.settings.notice:
        raise CommandRejected("outdated_notice", "this is not the current version of the programme's notice")
    known = before or Enrolment(programme_id=programme.programme_id, capacity=programme.settings.rules.default_capacity)
    if joining:
        known = known.model_copy(update={"state": "enrolled", "enrolled_at": now, "left_at": None})
    return known.model_copy(update=_said(known, wish, now))


def _said(known: Enrolment, wish: Participation, now: datetime) -> dict[str, object]:
    """What the wish changes; a confirmation given twice keeps the time of the first."""
    changes: dict[str, object] = {
        name: value for name in ("side", "capacity", "optional_consents") if (value := getattr(wish, name)) is not None
    }
    if wish.notice is not None and (known.notice is None or known.notice.version != wish.notice):
        changes["notice"] = Notice(version=wish.notice, at=now)
    if wish.confidentiality_acknowledged is not None:
        changes["acknowledged_at"] = (known.acknowledged_at or now) if wish.confidentiality_acknowledged else None
    if wish.briefed is not None:
        changes["briefed_at"] = (known.briefed_at or now) if wish.briefed else None
    return changes


def _admit(programme: ProgrammeChanged, facts: Facts) -> None:
    if programme.state != "open":
        raise CommandRejected("programme_not_open", "this programme takes nobody in at the moment")
    if facts.organisation_id not in programme.settings.organisations:
        raise CommandRejected("other_organisation", "this programme is for people of other organisations")
    if not facts.employed:
        raise CommandRejected("not_employed", "only people who work here can take part")


def leave(enrolment: Enrolment, now: datetime) -> Enrolment:
    if enrolment.state == "left":
        return enrolment
    return enrolment.model_copy(update={"state": "left", "left_at": now, "waiting_since": None})


def missing(enrolment: Enrolment, programme: ProgrammeChanged, facts: Facts) -> tuple[str, ...]:
    """What still keeps an enrolled person from being ready."""
    wanted = {
        "notice": enrolment.notice is not None and enrolment.notice.version == programme.settings.notice,
        "level": facts.level is not None,
        "offers": facts.offers > 0,
        "seeks": facts.seeks > 0,
    }
    return tuple(name for name, there in wanted.items() if not there)


def settled(enrolment: Enrolment, programme: ProgrammeChanged | None, facts: Facts, now: datetime) -> Enrolment:
    """The enrolment with its state as it follows from everything else.

    Without a known programme nothing is concluded, and an enrolment keeps its state.
    """
    if enrolment.state == "left":
        return enrolment
    if not facts.employed:
        return leave(enrolment, now)
    if enrolment.state == "invited" or programme is None:
        return enrolment
    if missing(enrolment, programme, facts):
        return enrolment.model_copy(update={"state": "enrolled", "waiting_since": None})
    return enrolment.model_copy(update={"state": "ready", "waiting_since": enrolment.waiting_since or now})
