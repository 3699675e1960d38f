"""A person: what HR says, what they say themselves, how to reach them, and where they take part.

Each part has one owner and is replaced by that owner alone, so no order of imports and entries lets HR overwrite what a
person entered. Every function takes the person as they are and returns ``(person, events)``, or None when there is
nothing to do. A profile or a contact is said only when its public form has really changed.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeAlias

from pydantic import Field

from contracts.envelope import Instant, OutgoingEvent, Tombstone
from contracts.errors import CommandRejected, NotFound
from contracts.privacy import ErasureCompleted, ErasureRequested
from contracts.profiles import Absence, Availability, ContactChanged, Offer, ProfileChanged, Seek
from services.profiles.domain import enrolment as enrolments_
from services.profiles.domain.base import State, Value
from services.profiles.domain.enrolment import Enrolment, Facts, Invitation, Participation, Programmes
from services.profiles.domain.hr_record import (
    Channel,
    ContactWishes,
    EmploymentState,
    Entered,
    ExternalId,
    HrRecord,
    is_time_zone,
)
from services.profiles.domain.style import Statements, style_of
from services.profiles.domain.topics import OfferWords, SeekWords, offers_of, seeks_of, unknown

MOST_AVOIDED = 50
MOST_ABSENCES = 20
SERVICES = frozenset({"profiles", "matcher", "notifier", "feedback"})


class Place(Value):
    """Where somebody stands in the organisation, as ids of members. ``line`` begins with the manager.

    ``wanted`` is the key (the keyed hash of an external id) of a manager whom HR named and who cannot be used so far.
    """

    manager: str | None = None
    line: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    wanted: str | None = None


class Erasure(Value):
    """All that is left of an erased person.

    ``keys`` (keyed hashes of the external ids) and ``heir`` (the manager above, to whom their reports go) stand here
    only until the rest is forgotten.
    """

    requested_at: Instant
    keys: tuple[str, ...] = ()
    heir: str | None = None
    completed: dict[str, Instant] = Field(default_factory=dict)


class Topics(Value):
    """What the taxonomy made of the words in force, at the last save; ``unknown`` words are never published."""

    offers: tuple[Offer, ...] = ()
    seeks: tuple[Seek, ...] = ()
    unknown: tuple[str, ...] = ()


class Person(State):
    """The aggregate. ``hr`` None is an erased person: a stub that stays for ever, so that nothing re-creates them."""

    member_id: str
    external_ids: tuple[ExternalId, ...] = ()
    hr: HrRecord | None = None
    place: Place = Place()
    employment: EmploymentState = "active"
    entered: Entered = Entered()
    statements: Statements | None = None
    topics: Topics = Topics()
    contact: ContactWishes = ContactWishes()
    away: tuple[Absence, ...] = ()
    avoid: tuple[str, ...] = ()
    enrolments: tuple[Enrolment, ...] = ()
    erasure: Erasure | None = None

    def offer_words(self) -> tuple[OfferWords, ...]:
        """What they entered, or what HR suggests as long as they have entered nothing."""
        if self.entered.offers is not None:
            return self.entered.offers
        return self.hr.suggested.offers if self.hr else ()

    def seek_words(self) -> tuple[SeekWords, ...]:
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
        email = self.hr is not None and self.hr.email is not None
        wished: tuple[Channel, ...] = self.contact.channels or (("email", "inbox") if email else ("inbox",))
        return tuple(channel for channel in wished if email or channel != "email") or ("inbox",)

    def enrolment_in(self, programme_id: str) -> Enrolment | None:
        return next((one for one in self.enrolments if one.programme_id == programme_id), None)

    def facts(self) -> Facts:
        assert self.hr is not None, "an erased person takes part in nothing"
        return Facts(
            organisation_id=self.hr.organisation_id,
            level=self.hr.level.normalised if self.hr.level else None,
            offers=len(self.topics.offers),
            seeks=len(self.topics.seeks),
            employed=self.employment != "left",
        )


Decision: TypeAlias = tuple[Person, list[OutgoingEvent]] | None


def public_profile(person: Person) -> OutgoingEvent:
    """What the profile topic says of this person: all that matching needs, or that they are gone."""
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
        style=style_of(person.statements),
        avoid=person.avoid,
        away=person.away,
        personal_cap=person.entered.personal_cap,
        enrolments=tuple(one.public() for one in person.enrolments),
    )


def public_contact(person: Person) -> OutgoingEvent:
    """What the restricted contact topic says of this person."""
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
        taking_part=tuple(one.taking_part() for one in person.enrolments),
    )


def employment_at(hr: HrRecord, today: date) -> EmploymentState:
    """HR's word, until the last day has passed."""
    return "left" if hr.employed_until is not None and hr.employed_until < today else hr.employment


def settle(before: Person | None, after: Person, programmes: Programmes, now: datetime) -> Decision:
    """Draw all conclusions: employment, readiness, the next due time, and what there is to say."""
    assert after.hr is not None, "an erased person does not change"
    employment = employment_at(after.hr, now.date())
    after = after.model_copy(
        update={"employment": employment, "due": _due(after.hr, employment), "topics": _topics(after)}
    )
    if after.enrolments:
        facts = after.facts()
        settled = tuple(
            enrolments_.settled(one, programmes.get(one.programme_id), facts, now) for one in after.enrolments
        )
        after = after.model_copy(update={"enrolments": settled})
    if before is None:
        return after, [public_profile(after), public_contact(after)]
    if after == before:
        return None
    said = [now_said for say in (public_profile, public_contact) if (now_said := say(after)) != say(before)]
    return after, said


def _topics(person: Person) -> Topics:
    offers, seeks = person.offer_words(), person.seek_words()
    if not offers and not seeks:
        return Topics()
    return Topics(offers=offers_of(offers), seeks=seeks_of(seeks), unknown=unknown((*offers, *seeks)))


def _due(hr: HrRecord, employment: EmploymentState) -> datetime | None:
    """The morning after the last day at work, in UTC."""
    if hr.employed_until is None or employment == "left":
        return None
    return datetime.combine(hr.employed_until + timedelta(days=1), time(), UTC)


def record(
    person: Person | None,
    member_id: str,
    hr: HrRecord,
    place: Place,
    invitation: Invitation | None,
    programmes: Programmes,
    now: datetime,
) -> Decision:
    """Take over HR's row. Nothing but HR's own part changes, and an invitation may be added.

    Where a person has several external ids, the one that was added last leads,
    and rows of the others change nothing. An erased person is not re-created.
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
            "place": place,
        }
    )
    if invitation is not None and after.enrolment_in(invitation.programme_id) is None:
        invited = enrolments_.invite(invitation, programmes, now)
        after = after.model_copy(update={"enrolments": (*after.enrolments, invited)})
    return settle(person, after, programmes, now)


def changed(
    person: Person | None, change: Callable[[Person], Person], programmes: Programmes, now: datetime
) -> Decision:
    """Apply one change of a living person. Raises ``CommandRejected`` when there is none."""
    living = alive(person)
    return settle(living, change(living), programmes, now)


def alive(person: Person | None) -> Person:
    """The person, or ``CommandRejected`` when unknown or erased."""
    if person is None or person.hr is None:
        raise NotFound("member", code="unknown_member", detail="there is no such member")
    return person


def enter(person: Person, entered: Entered) -> Person:
    """Replace what a person says of themselves."""
    return person.model_copy(update={"entered": entered})


def state(person: Person, statements: Statements, at: datetime) -> Person:
    """Replace the answers to the statements; they are stamped with the time at which they changed."""
    if person.statements is not None and statements == person.statements.model_copy(update={"at": None}):
        return person
    return person.model_copy(update={"statements": statements.model_copy(update={"at": at})})


def prefer(person: Person, contact: ContactWishes) -> Person:
    if person.member_id in contact.delegates:
        raise CommandRejected("own_delegate", "nobody can be their own delegate")
    if contact.time_zone is not None and not is_time_zone(contact.time_zone):
        raise CommandRejected("bad_time_zone", "this is not a time zone such as Europe/Vienna")
    return person.model_copy(update={"contact": contact})


def be_away(person: Person, away: Iterable[Absence]) -> Person:
    absences = tuple(sorted(away, key=lambda one: one.since))
    if len(absences) > MOST_ABSENCES:
        raise CommandRejected("too_many", f"at most {MOST_ABSENCES} stretches of absence are kept")
    if any(one.until is not None and one.until < one.since for one in absences):
        raise CommandRejected("backwards", "an absence cannot end before it begins")
    return person.model_copy(update={"away": absences})


def avoid(person: Person, members: Iterable[str]) -> Person:
    ids = tuple(dict.fromkeys(members))
    if len(ids) > MOST_AVOIDED:
        raise CommandRejected("too_many", f"at most {MOST_AVOIDED} people can be named")
    if person.member_id in ids:
        raise CommandRejected("oneself", "nobody can avoid themselves")
    return person.model_copy(update={"avoid": ids})


def take_part(person: Person, programme_id: str, wish: Participation, programmes: Programmes, now: datetime) -> Person:
    """Enrol, rejoin, or change what was said about taking part. Raises ``CommandRejected``."""
    known = person.enrolment_in(programme_id)
    after = enrolments_.take_part(known, wish, programmes.get(programme_id), person.facts(), now)
    return _with(person, after)


def leave(person: Person, programme_id: str, now: datetime) -> Person:
    known = person.enrolment_in(programme_id)
    if known is None:
        raise CommandRejected("not_enrolled", "this person does not take part in that programme")
    return _with(person, enrolments_.leave(known, now))


def invite(person: Person, invitation: Invitation, programmes: Programmes, now: datetime) -> Person:
    """Invite, unless they were invited before; who has left is not asked again."""
    if invitation.programme_id not in programmes:
        raise NotFound("programme", code="unknown_programme", detail="there is no such programme")
    if person.enrolment_in(invitation.programme_id) is not None:
        return person
    return _with(person, enrolments_.invite(invitation, programmes, now))


def identify(person: Person, external_id: ExternalId) -> Person:
    """Add how another HR system calls this person; from now on that system's rows lead."""
    if external_id in person.external_ids:
        return person
    return person.model_copy(update={"external_ids": (*person.external_ids, external_id)})


def _with(person: Person, enrolment: Enrolment) -> Person:
    others = tuple(one for one in person.enrolments if one.programme_id != enrolment.programme_id)
    known = person.enrolment_in(enrolment.programme_id)
    if known is None:
        return person.model_copy(update={"enrolments": (*others, enrolment)})
    return person.model_copy(
        update={"enrolments": tuple(enrolment if one is known else one for one in person.enrolments)}
    )


def stand(person: Person, place: Place) -> Person:
    """Take another place in the organisation, because somebody above has."""
    return person.model_copy(update={"place": place})


def erase(person: Person | None, hashed: Callable[[str], str], now: datetime, machine: datetime) -> Decision:
    """Replace the person by a stub, and say that they are gone. Asked twice it does nothing. Raises ``NotFound``.

    ``hashed`` makes of an external id the key under which it is remembered that this one is not to come back.
    ``lease`` drives what is left to forget: external ids, and mentions of this person in others.
    """
    if person is None:
        raise NotFound("member", code="unknown_member", detail="there is no such member")
    if person.hr is None:
        return None
    stub = Person(
        member_id=person.member_id,
        erasure=Erasure(
            requested_at=now, keys=tuple(hashed(one.ref) for one in person.external_ids), heir=person.place.manager
        ),
        lease=machine,
    )
    return stub, [
        public_profile(stub),
        public_contact(stub),
        ErasureRequested(member_id=person.member_id, requested_at=now),
    ]


def forgotten(person: Person | None, now: datetime) -> Decision:
    """This service holds nothing of them any longer: drop the last traces from the stub, and say so."""
    if person is None or person.erasure is None or "profiles" in person.erasure.completed:
        return None
    erasure = person.erasure.model_copy(
        update={"keys": (), "heir": None, "completed": {**person.erasure.completed, "profiles": now}}
    )
    return (
        person.model_copy(update={"erasure": erasure, "lease": None}),
        [ErasureCompleted(member_id=person.member_id, service="profiles", completed_at=now)],
    )


def note_completed(person: Person | None, service: str, at: datetime) -> Decision:
    """Another service has reported that it has forgotten them."""
    if person is None or person.erasure is None or service in person.erasure.completed:
        return None
    completed = {**person.erasure.completed, service: at}
    return person.model_copy(update={"erasure": person.erasure.model_copy(update={"completed": completed})}), []


def without(person: Person, gone: str, heir: str | None) -> Person:
    """Forget somebody who was erased: their reports move up to the manager above, so that lines stay closed."""

    def others(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(one for one in ids if one != gone)

    manager = heir if person.place.manager == gone else person.place.manager
    above = (heir if one == gone else one for one in person.place.line)
    line = tuple(dict.fromkeys(one for one in above if one is not None and one != person.member_id))
    place = person.place.model_copy(
        update={
            "manager": None if manager == person.member_id else manager,
            "line": line,
            "evaluators": others(person.place.evaluators),
        }
    )
    delegates = others(person.contact.delegates)
    return person.model_copy(
        update={
            "place": place,
            "avoid": others(person.avoid),
            "contact": person.contact.model_copy(update={"delegates": delegates}),
        }
    )
