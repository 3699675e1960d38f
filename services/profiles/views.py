"""The responses of the HTTP API about people and imports."""

from collections.abc import Container, Mapping, Sequence
from datetime import date
from typing import Final

from pydantic import BaseModel

from contracts.catalogue import SERVICES
from contracts.envelope import Instant
from contracts.profiles import Absence, Availability, Offer, Seek, Style
from services.profiles.domain.access_policy import TAKING_PART, ImportReader
from services.profiles.domain.enrolment import ProgrammeEnrolment, Programmes, SeenNotice, missing_requirements
from services.profiles.domain.hr_record import ExternalId
from services.profiles.domain.imports import HrImport, queue_before
from services.profiles.domain.person import Person
from services.profiles.domain.style import StatementAnswers, derive_style


class EnrolmentView(BaseModel):
    """``missing`` names the requirements that the person does not meet yet to be ready."""

    programme_id: str
    side: str
    capacity: int
    state: str
    missing: tuple[str, ...]
    notice: SeenNotice | None
    confidentiality_acknowledged: bool
    optional_consents: tuple[str, ...]
    briefed_at: Instant | None
    waiting_since: Instant | None

    @classmethod
    def of(cls, enrolment: ProgrammeEnrolment, person: Person, programmes: Programmes) -> "EnrolmentView":
        programme = programmes.get(enrolment.programme_id)
        return cls(
            **enrolment.model_dump(
                include={
                    "programme_id", "side", "capacity", "state", "notice", "optional_consents", "briefed_at",
                    "waiting_since",
                }
            ),
            confidentiality_acknowledged=enrolment.acknowledged_at is not None,
            missing=(
                missing_requirements(enrolment, programme, person.facts())
                if programme and enrolment.state != "left"
                else ()
            ),
        )  # fmt: skip


class ContactDetailsView(BaseModel):
    """How a person is named and reached."""

    display_name: str
    channels: tuple[str, ...]
    locale: str
    time_zone: str | None
    delegates: tuple[str, ...]

    @classmethod
    def of(cls, person: Person) -> "ContactDetailsView":
        return cls(
            display_name=person.display_name(),
            channels=person.channels(),
            locale=person.locale(),
            time_zone=person.time_zone(),
            delegates=person.contact.delegates,
        )


class PrivateView(BaseModel):
    """Data that only the person themselves may see."""

    intro: str | None
    avoid: tuple[str, ...]
    statements: StatementAnswers | None
    style: Style


class ParticipationView(BaseModel):
    """An enrolment as the coordinators of its programme see it."""

    programme_id: str
    side: str
    capacity: int
    state: str
    missing: tuple[str, ...]
    confidentiality_acknowledged: bool
    briefed_at: Instant | None
    waiting_since: Instant | None

    @classmethod
    def of(cls, enrolment: ProgrammeEnrolment, person: Person, programmes: Programmes) -> "ParticipationView":
        full = EnrolmentView.of(enrolment, person, programmes)
        return cls(**full.model_dump(include=set(cls.model_fields)))


class ParticipantView(BaseModel):
    """A person who takes part, as the coordinators of the programme see them: what the task needs and no more.

    ``name`` is the name under which the person wants to be shown. ``offers`` and ``seeks`` are what the person has
    entered, and not what HR suggests for them.
    """

    member_id: str
    name: str
    organisation_id: str
    department_id: str
    site_id: str | None
    offers: tuple[Offer, ...]
    seeks: tuple[Seek, ...]
    enrolments: list[ParticipationView]

    @classmethod
    def of(cls, person: Person, programmes: Programmes, coordinated: Container[str]) -> "ParticipantView":
        hr = person.hr
        assert hr is not None, "an erased person is not shown"
        return cls(
            member_id=person.member_id,
            name=person.display_name(),
            organisation_id=hr.organisation_id,
            department_id=hr.department_id,
            site_id=hr.site_id,
            offers=person.topics.offers if person.entered.offers is not None else (),
            seeks=person.topics.seeks if person.entered.seeks is not None else (),
            enrolments=[
                ParticipationView.of(enrolment, person, programmes)
                for enrolment in person.enrolments
                if enrolment.programme_id in coordinated and enrolment.state in TAKING_PART
            ],
        )


class InvitationView(BaseModel):
    """An invitation as it was sent. It tells nothing about the person: not even whether they exist."""

    member_id: str
    programme_id: str
    side: str
    capacity: int | None


class MemberView(BaseModel):
    """A person, whole. ``private`` is present only when the person themselves asks."""

    member_id: str
    external_ids: tuple[ExternalId, ...]
    name: str
    email: str | None
    organisation_id: str
    department_id: str
    site_id: str | None
    discipline_id: str | None
    level: int | None
    employment: str
    employed_until: date | None
    manager: str | None
    line: tuple[str, ...]
    evaluators: tuple[str, ...]
    offers: tuple[Offer, ...]
    seeks: tuple[Seek, ...]
    unknown_topics: tuple[str, ...]
    languages: tuple[str, ...]
    experience_band: int | None
    availability: Availability
    meeting_mode: str
    time_zone: str | None
    personal_cap: int | None
    away: tuple[Absence, ...]
    contact: ContactDetailsView
    enrolments: list[EnrolmentView]
    private: PrivateView | None = None

    @classmethod
    def of(cls, person: Person, programmes: Programmes, *, is_self: bool) -> "MemberView":
        hr = person.hr
        assert hr is not None, "an erased person is not shown"
        return cls(
            member_id=person.member_id,
            external_ids=person.external_ids,
            name=hr.name,
            email=hr.email,
            organisation_id=hr.organisation_id,
            department_id=hr.department_id,
            site_id=hr.site_id,
            discipline_id=hr.discipline_id,
            level=hr.level.normalised if hr.level else None,
            employment=person.employment,
            employed_until=hr.employed_until,
            manager=person.place.manager,
            line=person.place.line,
            evaluators=person.place.evaluators,
            offers=person.topics.offers,
            seeks=person.topics.seeks,
            unknown_topics=person.topics.unknown,
            languages=person.languages(),
            experience_band=person.experience_band(),
            availability=person.entered.availability or Availability(),
            meeting_mode=person.entered.meeting_mode or "either",
            time_zone=person.time_zone(),
            personal_cap=person.entered.personal_cap,
            away=person.away,
            contact=ContactDetailsView.of(person),
            enrolments=[EnrolmentView.of(enrolment, person, programmes) for enrolment in person.enrolments],
            private=_private_view(person) if is_self else None,
        )


def _private_view(person: Person) -> PrivateView:
    return PrivateView(
        intro=person.entered.intro,
        avoid=person.avoid,
        statements=person.statements,
        style=derive_style(person.statements),
    )


class ErasureView(BaseModel):
    """The progress of an erasure: ``completed`` services hold no data any longer, ``pending`` ones have to report."""

    member_id: str
    requested_at: Instant
    completed: dict[str, Instant]
    pending: list[str]
    done: bool

    @classmethod
    def of(cls, stub: Person) -> "ErasureView":
        assert stub.erasure is not None, "the person was erased"
        pending = sorted(set(SERVICES) - stub.erasure.completed.keys())
        return cls(
            member_id=stub.member_id,
            requested_at=stub.erasure.requested_at,
            completed=stub.erasure.completed,
            pending=pending,
            done=not pending,
        )


class ImportView(BaseModel):
    """An import: its progress, and the results of its rows.

    Who reads decides what it tells. An admin reads everything. A service reads the results of its own rows, and nothing
    of pairings. A coordinator reads how many rows of their list are well written: whether a row reached a person would
    tell who exists. What is not told is null.
    """

    import_id: str
    kind: str
    source: str
    programme_id: str | None
    state: str
    size: int
    total: int | None
    rows: int
    created: int | None
    changed: int | None
    unchanged: int | None
    failed: int
    remarks: int | None
    running_pairings: int | None
    touched_pairings: int | None
    held_rows: int | None
    waits_behind: int | None
    waits_for: str | None
    received_at: Instant
    finished_at: Instant | None
    uploaded_by: str | None
    released_by: str | None
    cancelled_by: str | None
    failure: str | None

    @classmethod
    def of(cls, hr_import: HrImport, reader: ImportReader, queue: Sequence[HrImport]) -> "ImportView":
        """``queue``: the unfinished imports of people."""
        before = queue_before(hr_import, queue) if hr_import.state == "received" else None
        shown = {
            **hr_import.model_dump(include=set(cls.model_fields) - {"rows"}),
            **hr_import.tally.model_dump(),
            "held_rows": len(hr_import.held_lines or ()),
            "waits_behind": None if before is None else len(before),
            "waits_for": before[0].import_id if before else None,
        }
        return cls(**shown | dict.fromkeys(HIDDEN_IMPORT_FIELDS[reader]))


_HIDDEN_FROM_SERVICES = (
    "running_pairings", "touched_pairings", "held_rows", "waits_for", "uploaded_by", "released_by", "cancelled_by",
)  # fmt: skip
HIDDEN_IMPORT_FIELDS: Final[Mapping[ImportReader, tuple[str, ...]]] = {
    "admin": (),
    "service": _HIDDEN_FROM_SERVICES,
    "coordinator": (*_HIDDEN_FROM_SERVICES, "total", "created", "changed", "unchanged", "remarks"),
}


class HeldPairingView(BaseModel):
    """A running pairing that the held rows of an import touch."""

    pairing_id: str
    programme_id: str
    members: list["PairedMemberView"]


class PairedMemberView(BaseModel):
    member_id: str
    name: str | None
    side: str


class IssueView(BaseModel):
    """A problem in the file. ``refused``: its row was not imported."""

    line: int
    column: str
    code: str
    message: str
    refused: bool


class TopicView(BaseModel):
    id: str
    name: str
    parent: str | None
    aliases: tuple[str, ...]


class UnknownTopicView(BaseModel):
    """A text that the taxonomy does not know, and the number of people who entered it."""

    words: str
    people: int
