"""Commands and queries about people.

A member reaches only their own data. In a path, ``me`` stands for the caller's own member id.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from chassis.web.http import Command, Page, Principal, allow, build_page, command, forbidden, not_found, set_etag
from contracts.envelope import Id
from contracts.errors import CommandRejected, NotFound
from contracts.profiles import Absence, MemberId
from contracts.taxonomy import load
from services.profiles.dependencies import ANY_ROLE, MemberCommand, Paging, ProfilesContext
from services.profiles.domain import person as people
from services.profiles.domain.access_policy import relation_to_member
from services.profiles.domain.enrolment import Invitation, ParticipationWish, Programmes
from services.profiles.domain.hr_record import ContactWishes, Entered, ExternalId, external_ref
from services.profiles.domain.person import MAX_ABSENCES, MAX_AVOIDED, Person
from services.profiles.domain.style import STATEMENT_TEXTS, Statement, StatementAnswers
from services.profiles.domain.unknown_topics import rank_topics
from services.profiles.permissions import find_coordinated
from services.profiles.store import UNKNOWN_TOPICS_ID, Profiles, build_member_filter, build_participant_filter
from services.profiles.views import (
    ErasureView,
    InvitationView,
    MemberView,
    ParticipantView,
    TopicView,
    UnknownTopicView,
)

router = APIRouter()

PersonChange: TypeAlias = Callable[[Person, Programmes, datetime], Person]


class AbsencesBody(BaseModel):
    away: Annotated[tuple[Absence, ...], Field(max_length=MAX_ABSENCES)]


class AvoidedMembersBody(BaseModel):
    members: Annotated[tuple[MemberId, ...], Field(max_length=MAX_AVOIDED)]


class StatementAnswersBody(BaseModel):
    """Answers to the statements, from -2 to +2. A statement whose answer is None or absent was skipped."""

    language: Annotated[str, Field(max_length=35)] = "en"
    answers: dict[Statement, Annotated[int, Field(ge=-2, le=2)] | None]


class InvitationBody(BaseModel):
    side: Literal["senior", "junior", "either"] = "either"
    capacity: Annotated[int, Field(ge=0, le=20)] | None = None


def require_own_id(member: str, principal: Principal) -> str:
    """The caller's own member id, given as itself or as ``me``. Refuses every other member with 403."""
    if principal.member_id is None or member not in ("me", principal.member_id):
        raise forbidden()
    return principal.member_id


def render_member(person: Person, programmes: Programmes, principal: Principal) -> MemberView | ParticipantView | None:
    """The person as the caller may see them; None when the caller may not see them at all."""
    coordinated = find_coordinated(principal, programmes)
    relation = relation_to_member(person, principal.member_id, principal.roles, coordinated)
    if relation == "stranger":
        return None
    if relation == "coordinator":
        return ParticipantView.of(person, programmes, coordinated)
    return MemberView.of(person, programmes, is_self=relation == "self")


def _render_all(
    persons: Iterable[Person], programmes: Programmes, principal: Principal
) -> list[MemberView | ParticipantView]:
    views = (render_member(person, programmes, principal) for person in persons)
    return [view for view in views if view is not None]


async def _change_own_data(
    profiles: Profiles, id: str, command: Command, change: PersonChange, response: Response
) -> MemberView:
    """Apply a person's own change and return the person as they are afterwards."""
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    saved = await profiles.persons.update(
        id,
        command.op,
        lambda person: people.change_person(person, lambda living: change(living, programmes, now), programmes, now),
        expect=command.expect,
    )
    set_etag(response, saved.version)
    return MemberView.of(people.require_living(saved.state), programmes, is_self=True)


@router.get("/members")
async def find_members(
    profiles: ProfilesContext,
    principal: Annotated[Principal, allow("coordinator", "admin", "service")],
    paging: Paging,
    external_id: Annotated[str | None, Query(max_length=64)] = None,
    source: Annotated[str, Query(max_length=64)] = "hr",
    name: Annotated[str | None, Query(min_length=2, max_length=100)] = None,
    email: Annotated[str | None, Query(max_length=320)] = None,
    programme: Annotated[str | None, Query(max_length=64)] = None,
    state: Literal["invited", "enrolled", "ready", "left"] | None = None,
) -> Page[MemberView | ParticipantView]:
    """Find people. A coordinator finds the people who take part in their programmes, by what they see of them."""
    programmes = await profiles.all_programmes()
    if principal.roles & {"admin", "service"}:
        if external_id is not None:
            persons = await _find_by_external_id(profiles, external_ref(source, external_id))
            return Page(items=_render_all(persons, programmes, principal))
        filter = build_member_filter(name=name, email=email, programme=programme, state=state)
    else:
        if external_id is not None or email is not None:
            raise forbidden("Only an admin finds people by their external id or e-mail address.")
        filter = build_participant_filter(
            find_coordinated(principal, programmes), name=name, programme=programme, state=state
        )
    results = profiles.persons.find(filter, limit=paging.fetch_limit, after=paging.after)
    stored_persons, after = await build_page(results, paging, lambda stored: stored.id)
    return Page(items=_render_all([stored.state for stored in stored_persons], programmes, principal), next=after)


async def _find_by_external_id(profiles: Profiles, ref: str) -> list[Person]:
    members = await profiles.keys.find_members([ref])
    persons = await profiles.persons.get_many(list(members.values()))
    return [stored.state for stored in persons.values() if stored.state.hr]


@router.get("/members/{member}")
async def show_member(
    member: str,
    profiles: ProfilesContext,
    principal: Annotated[Principal, allow("member", "coordinator", "admin", "service")],
    response: Response,
) -> MemberView | ParticipantView:
    """Answers 404 when the caller may not see the person, as when they do not exist.

    Only the person gets the ETag: it counts every save, and would tell others that something private has changed.
    """
    id = principal.member_id if member == "me" else member
    stored = await profiles.persons.get(id) if id else None
    view = (
        render_member(stored.state, await profiles.all_programmes(), principal) if stored and stored.state.hr else None
    )
    if stored is None or view is None:
        raise not_found("member")
    if stored.id == principal.member_id:
        set_etag(response, stored.version)
    return view


@router.put("/members/{member}/entered")
async def put_entered(
    member: str, body: Entered, profiles: ProfilesContext, command: MemberCommand, response: Response
) -> MemberView:
    """Replace everything that a person says about themselves. For an absent field, HR's suggestion counts."""
    id = require_own_id(member, command.principal)
    return await _change_own_data(
        profiles, id, command, lambda person, _, __: people.replace_entered(person, body), response
    )


@router.put("/members/{member}/statements")
async def put_statements(
    member: str, body: StatementAnswersBody, profiles: ProfilesContext, command: MemberCommand, response: Response
) -> MemberView:
    """Only the person sees the answers. Matching sees the four dimensions."""
    answers = StatementAnswers(language=body.language, answers=body.answers)
    id = require_own_id(member, command.principal)
    return await _change_own_data(
        profiles, id, command, lambda person, _, now: people.replace_statements(person, answers, now), response
    )


@router.put("/members/{member}/contact")
async def put_contact(
    member: str, body: ContactWishes, profiles: ProfilesContext, command: MemberCommand, response: Response
) -> MemberView:
    id = require_own_id(member, command.principal)
    return await _change_own_data(
        profiles, id, command, lambda person, _, __: people.replace_contact(person, body), response
    )


@router.put("/members/{member}/away")
async def put_absences(
    member: str, body: AbsencesBody, profiles: ProfilesContext, command: MemberCommand, response: Response
) -> MemberView:
    """Replace the absences. No reason is asked for."""
    id = require_own_id(member, command.principal)
    return await _change_own_data(
        profiles, id, command, lambda person, _, __: people.replace_absences(person, body.away), response
    )


@router.put("/members/{member}/avoid")
async def put_avoided(
    member: str, body: AvoidedMembersBody, profiles: ProfilesContext, command: MemberCommand, response: Response
) -> MemberView:
    """Replace the list of people with whom this person would rather not be paired.

    Nobody else sees the list, or can tell it. A proposal with such a person may still come; leave it unanswered, and it
    lapses. What was said before stays: withdraw a request, decline a proposal or end a pairing yourself.
    """
    id = require_own_id(member, command.principal)
    persons = await profiles.persons.get_many(list(set(body.members)))
    if any(avoided not in persons or persons[avoided].state.hr is None for avoided in body.members):
        raise NotFound("member", code="unknown_member", detail="one of these people is not known here")
    return await _change_own_data(
        profiles, id, command, lambda person, _, __: people.replace_avoided(person, body.members), response
    )


@router.get("/statements", dependencies=[ANY_ROLE])
async def list_statements() -> dict[Statement, str]:
    """The statements of "How I like to think and work"."""
    return STATEMENT_TEXTS


@router.put("/members/{member}/enrolments/{programme}")
async def put_enrolment(
    member: str,
    programme: str,
    body: ParticipationWish,
    profiles: ProfilesContext,
    command: MemberCommand,
    response: Response,
) -> MemberView:
    """Enrol, come back, or change earlier answers. An absent field stays as it is."""
    id = require_own_id(member, command.principal)

    def change(person: Person, programmes: Programmes, now: datetime) -> Person:
        return people.take_part_in(person, programme, body, programmes, now)

    return await _change_own_data(profiles, id, command, change, response)


@router.post("/members/{member}/enrolments/{programme}/leave")
async def leave_programme(
    member: str, programme: str, profiles: ProfilesContext, command: MemberCommand, response: Response
) -> MemberView:
    id = require_own_id(member, command.principal)
    return await _change_own_data(
        profiles, id, command, lambda person, _, now: people.leave_programme(person, programme, now), response
    )


@router.post("/members/{member}/enrolments/{programme}/invitation")
async def invite_member(
    member: Id,
    programme: Id,
    body: InvitationBody,
    profiles: ProfilesContext,
    command: Annotated[Command, command("coordinator", "admin", "service")],
) -> InvitationView:
    """Invite a person. Neither an import nor an invitation enrols anybody: the person decides.

    To a coordinator the answer is the same for everybody, so that it does not tell who exists, takes part or has left.
    """
    principal, programmes = command.principal, await profiles.all_programmes()
    is_admin = "admin" in principal.roles
    sources = profiles.settings.sources_of(principal.subject, principal.roles)
    if not is_admin and not sources and programme not in find_coordinated(principal, programmes):
        raise forbidden("This programme is coordinated by others.")
    if programme not in programmes:
        raise NotFound("programme", code="unknown_programme", detail="there is no such programme")
    invitation, now = Invitation(programme_id=programme, side=body.side, capacity=body.capacity), profiles.clock.now()

    def change(person: Person) -> Person:
        return people.invite_person(person, invitation, programmes, now)

    # A coordinator's key is not compared with its request, and no version is: both would tell that the person exists.
    op = command.op if is_admin else replace(command.op, request="")
    try:
        await profiles.persons.update(member, op, lambda person: people.change_person(person, change, programmes, now))
    except NotFound:
        if is_admin:
            raise
    return InvitationView(member_id=member, programme_id=programme, side=body.side, capacity=body.capacity)


@router.post("/members/{member}/external-ids")
async def add_external_id(
    member: Id, body: ExternalId, profiles: ProfilesContext, command: Annotated[Command, command("admin")]
) -> MemberView:
    """Add the id that another HR system uses for this person. From then on the rows of that system are leading.

    Only an admin does this: it decides which source may overwrite the data of the other.
    """
    stored = await profiles.persons.get(member)
    people.require_living(stored.state if stored else None)
    if not await profiles.keys.assign(body, member):
        raise CommandRejected("taken", "this external id belongs to another person")
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    saved = await profiles.persons.update(
        member,
        command.op,
        lambda person: people.change_person(
            person, lambda living: people.add_external_id(living, body), programmes, now
        ),
    )
    return MemberView.of(people.require_living(saved.state), programmes, is_self=False)


@router.post("/members/{member}/erasure", status_code=202)
async def erase_member(
    member: str, profiles: ProfilesContext, command: Annotated[Command, command("member", "admin")]
) -> ErasureView:
    """Erase this person in every service. ``GET /erasures/{member}`` shows the progress."""
    is_admin_request = "admin" in command.principal.roles and member != "me"
    id = member if is_admin_request else require_own_id(member, command.principal)
    hash_ref, moment = await profiles.keys.hasher(), profiles.clock.moment()
    saved = await profiles.persons.update(
        id,
        command.op,
        lambda person: people.erase_person(person, hash_ref, moment),
        expect=None if is_admin_request else command.expect,  # only the person knows the version
    )
    return ErasureView.of(saved.require_state())


@router.get("/erasures/{member}")
async def show_erasure(
    member: str, profiles: ProfilesContext, principal: Annotated[Principal, allow("member", "admin", "service")]
) -> ErasureView:
    may_see_any = bool(principal.roles & {"admin", "service"}) and member != "me"
    stored = await profiles.persons.get(member if may_see_any else require_own_id(member, principal))
    if stored is None or stored.state.erasure is None:
        raise not_found("erasure")
    return ErasureView.of(stored.state)


@router.get("/topics", dependencies=[ANY_ROLE])
async def search_topics(query: Annotated[str, Query(max_length=80)] = "") -> Page[TopicView]:
    """The topics whose id, name or alias contains the query. Without a query: the whole taxonomy."""
    text = query.strip().casefold()
    return Page(
        items=[
            TopicView(id=topic.id, name=topic.name, parent=topic.parent, aliases=topic.aliases)
            for topic in load().topics
            if any(text in candidate.casefold() for candidate in (topic.id, topic.name, *topic.aliases))
        ]
    )


@router.get("/topics/unknown")
async def list_unknown_topics(
    profiles: ProfilesContext, principal: Annotated[Principal, allow("coordinator", "admin")]
) -> Page[UnknownTopicView]:
    """The texts that people entered and the taxonomy does not know, most frequent first.

    An admin sees all of them at once. A coordinator sees those of at least five people, in a list made once a week.
    """
    if "admin" in principal.roles:
        topics = rank_topics(await profiles.count_unknown_topics(), 1)
    else:
        released = await profiles.unknown_topics.get(UNKNOWN_TOPICS_ID)
        topics = released.state.items if released is not None else ()
    return Page(items=[UnknownTopicView(words=topic.words, people=topic.people) for topic in topics])
