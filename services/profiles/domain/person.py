"""A person: HR's record, their own entries, how to reach them, and where they take part.

Each part has one owner, and only that owner replaces it. So HR can never overwrite what a person entered, in whatever
order imports and entries arrive. A decision takes the current person and returns ``(person, events)``, or None when
there is nothing to do. A profile or contact event is published only when its public form has changed.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from typing import TypeAlias

from pydantic import Field

from contracts.base import FrozenModel
from contracts.days import end_of_day, local_day
from contracts.envelope import Instant, OutgoingEvent, Tombstone
from contracts.errors import CommandRejected, NotFound
from contracts.moment import Moment
from contracts.privacy import ErasureCompleted, ErasureRequested
from contracts.profiles import Absence, Availability, ContactChanged, Offer, ProfileChanged, Seek, Style
from contracts.text import has_url
from services.profiles.domain.base import ProfilesState
from services.profiles.domain.enrolment import (
    Invitation,
    ParticipationWish,
    ProgrammeEnrolment,
    Programmes,
    ReadinessFacts,
    create_invited,
    derive_state,
    invite_again,
    mark_left,
    update_participation,
)
from services.profiles.domain.hr_record import (
    Channel,
    ContactWishes,
    EmploymentState,
    Entered,
    ExternalId,
    HrRecord,
    is_time_zone,
)
from services.profiles.domain.style import StatementAnswers, derive_style
from services.profiles.domain.topics import OfferEntry, SeekEntry, resolve_offers, resolve_seeks, unknown_texts

MAX_STYLE_CHANGES = 3  # in ``STYLE_CHANGE_PERIOD``; enough to correct oneself, too few to try answers out
STYLE_CHANGE_PERIOD = timedelta(days=30)
MAX_AVOIDED = 50
MAX_ABSENCES = 20


class OrgPosition(FrozenModel):
    """A person's position in the organisation, as member ids. ``line`` begins with the manager.

    ``wanted`` is the key (the keyed hash of an external id) of a manager whom HR named and who cannot be used so far.
    """

    manager: str | None = None
    line: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    wanted: str | None = None


class PersonErasure(FrozenModel):
    """Everything that remains of an erased person.

    ``keys`` (keyed hashes of the external ids) and ``heir`` (the manager above, who takes over their reports) are
    stored only until the erasure in this service is complete.
    """

    requested_at: Instant
    keys: tuple[str, ...] = ()
    heir: str | None = None
    completed: dict[str, Instant] = Field(default_factory=dict)


class ResolvedTopics(FrozenModel):
    """The result of resolving the current topic texts at the last save. ``unknown`` texts are never published."""

    offers: tuple[Offer, ...] = ()
    seeks: tuple[Seek, ...] = ()
    unknown: tuple[str, ...] = ()


class Person(ProfilesState):
    """The aggregate. ``hr`` None: an erased person, whose stub stays for ever so that no import re-creates them."""

    member_id: str
    external_ids: tuple[ExternalId, ...] = ()
    hr: HrRecord | None = None
    place: OrgPosition = OrgPosition()
    employment: EmploymentState = "active"
    entered: Entered = Entered()
    statements: StatementAnswers | None = None
    style_changes: tuple[Instant, ...] = ()
    topics: ResolvedTopics = ResolvedTopics()
    contact: ContactWishes = ContactWishes()
    away: tuple[Absence, ...] = ()
    avoid: tuple[str, ...] = ()
    enrolments: tuple[ProgrammeEnrolment, ...] = ()
    erasure: PersonErasure | None = None

    def offer_words(self) -> tuple[OfferEntry, ...]:
        """The person's own entries, or HR's suggestion while there are none."""
        if self.entered.offers is not None:
            return self.entered.offers
        return self.hr.suggested.offers if self.hr else ()

    def seek_words(self) -> tuple[SeekEntry, ...]:
        if self.entered.seeks is not None:
            return self.entered.seeks
        return self.hr.suggested.seeks if self.hr else ()

    def languages(self) -> tuple[str, ...]:
        if self.entered.languages is not None:
            return self.entered.languages
        return self.hr.suggested.languages if self.hr else ()

    def experience_band(self) -> int | None:
        if self.entered.experience_band is not None:
            return self.entered.experience_band
        return self.hr.suggested.experience_band if self.hr else None

    def time_zone(self) -> str | None:
        return self.contact.time_zone or (self.hr.time_zone if self.hr else None)

    def display_name(self) -> str:
        return self.contact.display_name or (self.hr.name if self.hr else "")

    def locale(self) -> str:
        return self.contact.locale or (self.hr.locale if self.hr else None) or "en"

    def channels(self) -> tuple[Channel, ...]:
        has_email = self.hr is not None and self.hr.email is not None
        preferred: tuple[Channel, ...] = self.contact.channels or (("email", "inbox") if has_email else ("inbox",))
        return tuple(channel for channel in preferred if has_email or channel != "email") or ("inbox",)

    def enrolment_in(self, programme_id: str) -> ProgrammeEnrolment | None:
        return next((enrolment for enrolment in self.enrolments if enrolment.programme_id == programme_id), None)

    def facts(self) -> ReadinessFacts:
        assert self.hr is not None, "an erased person has no enrolments"
        return ReadinessFacts(
            organisation_id=self.hr.organisation_id,
            level=self.hr.level.normalised if self.hr.level else None,
            offers=len(self.topics.offers),
            seeks=len(self.topics.seeks),
            employed=self.employment != "left",
        )


Decision: TypeAlias = tuple[Person, list[OutgoingEvent]] | None


def public_profile(person: Person) -> OutgoingEvent:
    """The event for the profiles topic: everything that matching needs, or a tombstone for an erased person."""
    hr = person.hr
    if hr is None:
        return Tombstone(ProfileChanged, person.member_id)
    return ProfileChanged(
        member_id=person.member_id,
        organisation_id=hr.organisation_id,
        department_id=hr.department_id,
        site_id=hr.site_id,
        discipline_id=hr.discipline_id,
        level=hr.level.normalised if hr.level else None,
        experience_band=person.experience_band(),
        line=person.place.line,
        evaluators=person.place.evaluators,
        employment=person.employment,
        employed_until=hr.employed_until,
        offers=person.topics.offers,
        seeks=person.topics.seeks,
        languages=person.languages(),
        time_zone=person.time_zone(),
        availability=person.entered.availability or Availability(),
        meeting_mode=person.entered.meeting_mode or "either",
        style=derive_style(person.statements),
        avoid=person.avoid,
        away=person.away,
        personal_cap=person.entered.personal_cap,
        enrolments=tuple(enrolment.to_public() for enrolment in person.enrolments),
    )


def public_contact(person: Person) -> OutgoingEvent:
    """The event for the restricted contacts topic, or a tombstone for an erased person."""
    hr = person.hr
    if hr is None:
        return Tombstone(ContactChanged, person.member_id)
    return ContactChanged(
        member_id=person.member_id,
        display_name=person.display_name(),
        email=hr.email,
        channels=person.channels(),
        locale=person.locale(),
        time_zone=person.time_zone(),
        delegates=person.contact.delegates,
        employment=person.employment,
        away=person.away,
        avoid=person.avoid,
        taking_part=tuple(enrolment.to_taking_part() for enrolment in person.enrolments),
    )


def employment_at(hr: HrRecord, today: date) -> EmploymentState:
    """HR's value until the last day at work has passed, then ``left``."""
    return "left" if hr.employed_until is not None and hr.employed_until < today else hr.employment


def derive_consequences(before: Person | None, after: Person, programmes: Programmes, now: datetime) -> Decision:
    """Derive employment, topics, readiness and the next due time, and collect the events to publish."""
    assert after.hr is not None, "an erased person does not change"
    employment = employment_at(after.hr, local_day(now, after.time_zone()))
    after = after.model_copy(
        update={
            "employment": employment,
            "due": _employment_end(after.hr, employment, after.time_zone()),
            "topics": _resolve_topics(after),
        }
    )
    if after.enrolments:
        facts, enrolments = after.facts(), after.enrolments
        if before is not None and before.employment == "left" and employment != "left":
            enrolments = tuple(
                invite_again(enrolment, programmes.get(enrolment.programme_id), now) for enrolment in enrolments
            )
        enrolments = tuple(
            derive_state(enrolment, programmes.get(enrolment.programme_id), facts, now) for enrolment in enrolments
        )
        after = after.model_copy(update={"enrolments": enrolments})
    if before is None:
        return after, [public_profile(after), public_contact(after)]
    if after == before:
        return None
    events = [
        event
        for build_event in (public_profile, public_contact)
        if (event := build_event(after)) != build_event(before)
    ]
    return after, events


def _resolve_topics(person: Person) -> ResolvedTopics:
    offers, seeks = person.offer_words(), person.seek_words()
    if not offers and not seeks:
        return ResolvedTopics()
    return ResolvedTopics(
        offers=resolve_offers(offers), seeks=resolve_seeks(seeks), unknown=unknown_texts((*offers, *seeks))
    )


def _employment_end(hr: HrRecord, employment: EmploymentState, zone: str | None) -> datetime | None:
    """The end of the last day at work, where the person is."""
    if hr.employed_until in (None, date.max) or employment == "left":
        return None
    return end_of_day(hr.employed_until, [zone])


def apply_hr_record(
    person: Person | None,
    member_id: str,
    hr: HrRecord,
    position: OrgPosition,
    invitation: Invitation | None,
    programmes: Programmes,
    now: datetime,
) -> Decision:
    """Take over HR's row. It changes only HR's own part and may add an invitation.

    When a person has several external ids, the last one added is leading, and rows of the others change nothing. An
    erased person is not re-created.
    """
    if person is not None and person.hr is None:
        return None
    if person is not None and hr.external_id in person.external_ids[:-1]:
        return None
    ids = person.external_ids if person else ()
    after = (person or Person(member_id=member_id)).model_copy(
        update={
            "hr": hr,
            "external_ids": ids if hr.external_id in ids else (*ids, hr.external_id),
            "place": position,
        }
    )
    if invitation is not None:
        after = _invite(after, invitation, employment_at(hr, local_day(now, after.time_zone())), programmes, now)
    return derive_consequences(person, after, programmes, now)


def change_person(
    person: Person | None, change: Callable[[Person], Person], programmes: Programmes, now: datetime
) -> Decision:
    """Apply one change to a living person. Raises ``NotFound`` when there is no such person."""
    living = require_living(person)
    return derive_consequences(living, change(living), programmes, now)


def refresh_person(person: Person | None, programmes: Programmes, now: datetime) -> Decision:
    """Derive the consequences again, without another change. Raises ``NotFound`` when there is no living person."""
    return change_person(person, lambda living: living, programmes, now)


def require_living(person: Person | None) -> Person:
    """The person. Raises ``NotFound`` when they do not exist or were erased."""
    if person is None or person.hr is None:
        raise NotFound("member", code="unknown_member", detail="there is no such member")
    return person


def replace_entered(person: Person, entered: Entered) -> Person:
    """Replace everything that a person states about themselves."""
    return person.model_copy(update={"entered": entered})


def replace_statements(person: Person, statements: StatementAnswers, at: datetime) -> Person:
    """Replace the answers to the statements. ``at`` is stored as the time of the last change.

    Raises ``CommandRejected`` when the style has changed ``MAX_STYLE_CHANGES`` times lately: a member who tries many
    answers could find out those of others by comparing matches. To take all answers back is always possible.
    """
    if person.statements is not None and statements == person.statements.model_copy(update={"at": None}):
        return person
    changes = tuple(change for change in person.style_changes if at - change < STYLE_CHANGE_PERIOD)
    style = derive_style(statements)
    if style not in (derive_style(person.statements), Style()):
        if len(changes) >= MAX_STYLE_CHANGES:
            again = (changes[0] + STYLE_CHANGE_PERIOD).date()
            raise CommandRejected(
                "statements_changed_too_often",
                f"You have changed these answers {MAX_STYLE_CHANGES} times lately. You can change them after {again}.",
            )
        changes = (*changes, at)
    answered = statements.model_copy(update={"at": at})
    return person.model_copy(update={"statements": answered, "style_changes": changes})


def replace_contact(person: Person, contact: ContactWishes) -> Person:
    if person.member_id in contact.delegates:
        raise CommandRejected("own_delegate", "nobody can be their own delegate")
    if contact.display_name is not None and has_url(contact.display_name):
        raise CommandRejected("link_in_name", "a name must not contain the address of a web page")
    if contact.time_zone is not None and not is_time_zone(contact.time_zone):
        raise CommandRejected("bad_time_zone", "this is not a time zone such as Europe/Vienna")
    return person.model_copy(update={"contact": contact})


def replace_absences(person: Person, away: Iterable[Absence]) -> Person:
    absences = tuple(sorted(away, key=lambda absence: absence.since))
    if len(absences) > MAX_ABSENCES:
        raise CommandRejected("too_many", f"at most {MAX_ABSENCES} absences are allowed")
    if any(absence.until is not None and absence.until < absence.since for absence in absences):
        raise CommandRejected("backwards", "an absence cannot end before it begins")
    return person.model_copy(update={"away": absences})


def replace_avoided(person: Person, members: Iterable[str]) -> Person:
    ids = tuple(dict.fromkeys(members))
    if len(ids) > MAX_AVOIDED:
        raise CommandRejected("too_many", f"at most {MAX_AVOIDED} people can be avoided")
    if person.member_id in ids:
        raise CommandRejected("oneself", "nobody can avoid themselves")
    return person.model_copy(update={"avoid": ids})


def take_part_in(
    person: Person, programme_id: str, wish: ParticipationWish, programmes: Programmes, now: datetime
) -> Person:
    """Enrol, rejoin, or change earlier statements about the participation. Raises ``CommandRejected``."""
    enrolment = person.enrolment_in(programme_id)
    after = update_participation(enrolment, wish, programmes.get(programme_id), person.facts(), now)
    return _with_enrolment(person, after)


def leave_programme(person: Person, programme_id: str, now: datetime) -> Person:
    enrolment = person.enrolment_in(programme_id)
    if enrolment is None:
        raise CommandRejected("not_enrolled", "this person does not take part in that programme")
    return _with_enrolment(person, mark_left(enrolment, now))


def invite_person(person: Person, invitation: Invitation, programmes: Programmes, now: datetime) -> Person:
    """Invite the person, unless they were invited before. A person who chose to leave is not invited again."""
    if invitation.programme_id not in programmes:
        raise NotFound("programme", code="unknown_programme", detail="there is no such programme")
    return _invite(person, invitation, person.employment, programmes, now)


def _invite(
    person: Person, invitation: Invitation, employment: EmploymentState, programmes: Programmes, now: datetime
) -> Person:
    """Invite a person for the first time, or one who works here again. An enrolment that ended keeps its answers."""
    enrolment = person.enrolment_in(invitation.programme_id)
    if enrolment is None:
        return _with_enrolment(person, create_invited(invitation, programmes, now))
    if employment == "left":
        return person
    return _with_enrolment(person, invite_again(enrolment, programmes.get(invitation.programme_id), now))


def add_external_id(person: Person, external_id: ExternalId) -> Person:
    """Add the id that another HR system uses for this person. From now on the rows of that system are leading."""
    if external_id in person.external_ids:
        return person
    return person.model_copy(update={"external_ids": (*person.external_ids, external_id)})


def _with_enrolment(person: Person, enrolment: ProgrammeEnrolment) -> Person:
    others = tuple(existing for existing in person.enrolments if existing.programme_id != enrolment.programme_id)
    previous = person.enrolment_in(enrolment.programme_id)
    if previous is None:
        return person.model_copy(update={"enrolments": (*others, enrolment)})
    return person.model_copy(
        update={"enrolments": tuple(enrolment if existing is previous else existing for existing in person.enrolments)}
    )


def replace_position(person: Person, position: OrgPosition) -> Person:
    """Set another position in the organisation, after somebody above has moved."""
    return person.model_copy(update={"place": position})


def erase_person(person: Person | None, hash_ref: Callable[[str], str], moment: Moment) -> Decision:
    """Replace the person by a stub and publish tombstones. A second call does nothing. Raises ``NotFound``.

    ``hash_ref`` turns an external id into the key that prevents it from being imported again. The ``lease`` triggers
    the rest of the erasure: external ids, and mentions of this person in the records of others.
    """
    if person is None:
        raise NotFound("member", code="unknown_member", detail="there is no such member")
    if person.hr is None:
        return None
    stub = Person(
        member_id=person.member_id,
        erasure=PersonErasure(
            requested_at=moment.now,
            keys=tuple(hash_ref(external_id.ref) for external_id in person.external_ids),
            heir=person.place.manager,
        ),
        lease=moment.recorded_at,
    )
    return stub, [
        public_profile(stub),
        public_contact(stub),
        ErasureRequested(member_id=person.member_id, requested_at=moment.now),
    ]


def complete_own_erasure(person: Person | None, now: datetime) -> Decision:
    """This service stores nothing else about them: clear the stub and publish the completion."""
    if person is None or person.erasure is None or "profiles" in person.erasure.completed:
        return None
    erasure = person.erasure.model_copy(
        update={"keys": (), "heir": None, "completed": {**person.erasure.completed, "profiles": now}}
    )
    return (
        person.model_copy(update={"erasure": erasure, "lease": None}),
        [ErasureCompleted(member_id=person.member_id, service="profiles", completed_at=now)],
    )


def record_completed_erasure(person: Person | None, service: str, at: datetime) -> Decision:
    """Another service has reported that its erasure is complete."""
    if person is None or person.erasure is None or service in person.erasure.completed:
        return None
    completed = {**person.erasure.completed, service: at}
    return person.model_copy(update={"erasure": person.erasure.model_copy(update={"completed": completed})}), []


def remove_mentions(person: Person, erased_id: str, heir: str | None) -> Person:
    """Remove an erased person from this record. Their reports move to ``heir``, so that lines stay connected."""

    def keep_others(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(member for member in ids if member != erased_id)

    manager = heir if person.place.manager == erased_id else person.place.manager
    above = (heir if member == erased_id else member for member in person.place.line)
    line = tuple(dict.fromkeys(member for member in above if member is not None and member != person.member_id))
    position = person.place.model_copy(
        update={
            "manager": None if manager == person.member_id else manager,
            "line": line,
            "evaluators": keep_others(person.place.evaluators),
        }
    )
    delegates = keep_others(person.contact.delegates)
    return person.model_copy(
        update={
            "place": position,
            "avoid": keep_others(person.avoid),
            "contact": person.contact.model_copy(update={"delegates": delegates}),
        }
    )
