"""Commands and queries about people. A member has only their own data; ``me`` stands for the asker's own id."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from chassis.web.http import (
    Command,
    Page,
    PageRequest,
    Principal,
    allow,
    build_page,
    command,
    forbidden,
    not_found,
    set_etag,
)
from contracts.envelope import Id
from contracts.errors import CommandRejected, NotFound
from contracts.profiles import Absence, MemberId
from contracts.taxonomy import load
from services.profiles.domain import person as people
from services.profiles.domain.enrolment import Invitation, Participation, Programmes
from services.profiles.domain.hr_record import ContactWishes, Entered, ExternalId, ref
from services.profiles.domain.person import MOST_ABSENCES, MOST_AVOIDED, Person
from services.profiles.domain.style import WORDS, Statement, Statements
from services.profiles.store import ALIVE, Profiles, search
from services.profiles.views import ErasureView, Member, TopicView, UnknownWords

FEW = 5  # people; words that fewer wrote could tell who they are, and only an admin sees them

MOST_WORDS = 1000  # unknown ones that are shown: enough to see what the taxonomy lacks

ANYBODY = allow("member", "coordinator", "admin", "service")

Self: TypeAlias = Annotated[Command, command("member")]
Change: TypeAlias = Callable[[Person, Programmes, datetime], Person]


class Absences(BaseModel):
    away: Annotated[tuple[Absence, ...], Field(max_length=MOST_ABSENCES)]


class Avoided(BaseModel):
    members: Annotated[tuple[MemberId, ...], Field(max_length=MOST_AVOIDED)]


class Answers(BaseModel):
    """Answers to the statements, from -2 to +2; None, or absent, is skipped."""

    language: Annotated[str, Field(max_length=35)] = "en"
    answers: dict[Statement, Annotated[int, Field(ge=-2, le=2)] | None]


class Invited(BaseModel):
    side: Literal["senior", "junior", "either"] = "either"
    capacity: Annotated[int, Field(ge=0, le=20)] | None = None


def routes(profiles: Profiles) -> APIRouter:
    router = APIRouter()
    _queries(router, profiles)
    _own(router, profiles)
    _participation(router, profiles)
    _lifecycle(router, profiles)
    _topics(router, profiles)
    return router


def own_id(member: str, principal: Principal) -> str:
    """The asker's own member id, by its name or as ``me``; anybody else's is none of their business."""
    if principal.member_id is None or member not in ("me", principal.member_id):
        raise forbidden()
    return principal.member_id


def may_see(person: Person, principal: Principal) -> bool:
    """Admins and services everybody, a coordinator the people of their programmes, a member themselves."""
    if principal.roles & {"admin", "service"} or person.member_id == principal.member_id:
        return True
    theirs = {enrolment.programme_id for enrolment in person.enrolments}
    return "coordinator" in principal.roles and bool(theirs & principal.programmes)


def shown(person: Person, programmes: Programmes, principal: Principal) -> Member:
    """The person as the asker may see them; to coordinators other programmes than theirs are nobody's business."""
    themselves = person.member_id == principal.member_id
    everything = themselves or principal.roles & {"admin", "service"}
    return Member.of(person, programmes, themselves=themselves, only=None if everything else principal.programmes)


async def _living(profiles: Profiles, member: str, principal: Principal) -> tuple[Person, int]:
    """The person and their version, for who may see them; for everybody else there is no such person."""
    id = principal.member_id if member == "me" else member
    stored = await profiles.persons.get(id) if id else None
    if stored is None or stored.state.hr is None or not may_see(stored.state, principal):
        raise not_found("member")
    return stored.state, stored.version


async def _change(profiles: Profiles, id: str, asked: Command, change: Change, response: Response) -> Member:
    """Let one change of a living person happen, and show the person as they now are."""
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    saved = await profiles.persons.update(
        id,
        asked.op,
        lambda person: people.changed(person, lambda living: change(living, programmes, now), programmes, now),
        expect=asked.expect,
    )
    set_etag(response, saved.version)
    return shown(people.alive(saved.state), programmes, asked.principal)


def _queries(router: APIRouter, profiles: Profiles) -> None:
    @router.get("/members")
    async def find_members(
        principal: Annotated[Principal, allow("coordinator", "admin", "service")],
        paging: Annotated[PageRequest, Depends()],
        external_id: Annotated[str | None, Query(max_length=64)] = None,
        source: Annotated[str, Query(max_length=64)] = "hr",
        name: Annotated[str | None, Query(min_length=2, max_length=100)] = None,
        email: Annotated[str | None, Query(max_length=320)] = None,
        programme: Annotated[str | None, Query(max_length=64)] = None,
        state: Literal["invited", "enrolled", "ready", "left"] | None = None,
    ) -> Page[Member]:
        programmes = await profiles.all_programmes()
        if external_id is not None:
            found = await profiles.keys.find([ref(source, external_id)])
            known = await profiles.persons.get_many(list(found.values()))
            seen = [one.state for one in known.values() if one.state.hr and may_see(one.state, principal)]
            return Page(items=[shown(one, programmes, principal) for one in seen])
        everybody = bool(principal.roles & {"admin", "service"})
        if not everybody and programme is not None and programme not in principal.programmes:
            return Page(items=[])
        filter = search(
            name=name,
            email=email,
            programmes=None if everybody else principal.programmes,
            programme=programme,
            state=state,
        )
        results = profiles.persons.find(filter, limit=paging.fetch_limit, after=paging.after)
        stored, after = await build_page(results, paging, lambda one: one.id)
        return Page(items=[shown(one.state, programmes, principal) for one in stored], next=after)

    @router.get("/members/{member}")
    async def show_member(
        member: str,
        principal: Annotated[Principal, allow("member", "coordinator", "admin", "service")],
        response: Response,
    ) -> Member:
        person, version = await _living(profiles, member, principal)
        set_etag(response, version)
        return shown(person, await profiles.all_programmes(), principal)


def _own(router: APIRouter, profiles: Profiles) -> None:
    @router.put("/members/{member}/entered")
    async def enter(member: str, entered: Entered, asked: Self, response: Response) -> Member:
        """What a person says of themselves, as a whole; what is absent is not said, and HR's suggestion counts."""
        id = own_id(member, asked.principal)
        return await _change(profiles, id, asked, lambda person, _, __: people.enter(person, entered), response)

    @router.put("/members/{member}/statements")
    async def state(member: str, answers: Answers, asked: Self, response: Response) -> Member:
        """Seen by the person alone; matching sees the four dimensions."""
        said = Statements(language=answers.language, answers=answers.answers)
        id = own_id(member, asked.principal)
        return await _change(profiles, id, asked, lambda person, _, now: people.state(person, said, now), response)

    @router.put("/members/{member}/contact")
    async def prefer(member: str, wishes: ContactWishes, asked: Self, response: Response) -> Member:
        id = own_id(member, asked.principal)
        return await _change(profiles, id, asked, lambda person, _, __: people.prefer(person, wishes), response)

    @router.put("/members/{member}/away")
    async def be_away(member: str, absences: Absences, asked: Self, response: Response) -> Member:
        """Days away; no reason is asked."""
        id = own_id(member, asked.principal)
        return await _change(profiles, id, asked, lambda person, _, __: people.be_away(person, absences.away), response)

    @router.put("/members/{member}/avoid")
    async def avoid(member: str, avoided: Avoided, asked: Self, response: Response) -> Member:
        """People whom one would rather not be paired with; shown to nobody else, and never given as a reason."""
        id = own_id(member, asked.principal)
        known = await profiles.persons.get_many(list(set(avoided.members)))
        if any(one not in known or known[one].state.hr is None for one in avoided.members):
            raise NotFound("member", code="unknown_member", detail="one of these people is not known here")
        return await _change(profiles, id, asked, lambda person, _, __: people.avoid(person, avoided.members), response)

    @router.get("/statements", dependencies=[ANYBODY])
    async def statements() -> dict[Statement, str]:
        """The statements, "How I like to think and work"."""
        return WORDS


def _participation(router: APIRouter, profiles: Profiles) -> None:
    @router.put("/members/{member}/enrolments/{programme}")
    async def take_part(member: str, programme: str, wish: Participation, asked: Self, response: Response) -> Member:
        """Enrol, come back, or change what was said before; what is absent stays as it is."""
        id = own_id(member, asked.principal)

        def change(person: Person, programmes: Programmes, now: datetime) -> Person:
            return people.take_part(person, programme, wish, programmes, now)

        return await _change(profiles, id, asked, change, response)

    @router.post("/members/{member}/enrolments/{programme}/leave")
    async def leave(member: str, programme: str, asked: Self, response: Response) -> Member:
        id = own_id(member, asked.principal)
        return await _change(profiles, id, asked, lambda person, _, now: people.leave(person, programme, now), response)

    @router.post("/members/{member}/enrolments/{programme}/invitation")
    async def invite(
        member: Id,
        programme: Id,
        invited: Invited,
        asked: Annotated[Command, command("coordinator", "admin", "service")],
        response: Response,
    ) -> Member:
        """Importing is not joining, and neither is this: the person decides."""
        principal = asked.principal
        if not principal.roles & {"admin", "service"} and programme not in principal.programmes:
            raise forbidden("This programme is coordinated by others.")
        invitation = Invitation(programme_id=programme, side=invited.side, capacity=invited.capacity)

        def change(person: Person, programmes: Programmes, now: datetime) -> Person:
            return people.invite(person, invitation, programmes, now)

        return await _change(profiles, member, asked, change, response)


def _lifecycle(router: APIRouter, profiles: Profiles) -> None:
    @router.post("/members/{member}/external-ids")
    async def identify(
        member: Id, external_id: ExternalId, asked: Annotated[Command, command("admin", "service")], response: Response
    ) -> Member:
        """How another HR system calls this person; from now on that system's rows lead."""
        await _living(profiles, member, asked.principal)
        if not await profiles.keys.assign(external_id, member):
            raise CommandRejected("taken", "this external id belongs to somebody else")
        return await _change(
            profiles, member, asked, lambda person, _, __: people.identify(person, external_id), response
        )

    @router.post("/members/{member}/erasure", status_code=202)
    async def erase(member: str, asked: Annotated[Command, command("member", "admin")]) -> ErasureView:
        """Forget this person everywhere; ``GET /erasures/{member}`` tells how far it has come."""
        admin = "admin" in asked.principal.roles and member != "me"
        id = member if admin else own_id(member, asked.principal)
        hashed, now, machine = await profiles.keys.hasher(), profiles.clock.now(), profiles.clock.machine_now()
        saved = await profiles.persons.update(
            id, asked.op, lambda person: people.erase(person, hashed, now, machine), expect=asked.expect
        )
        return ErasureView.of(saved.require_state())

    @router.get("/erasures/{member}")
    async def erasure(member: str, principal: Annotated[Principal, allow("member", "admin", "service")]) -> ErasureView:
        id = member if principal.roles & {"admin", "service"} and member != "me" else own_id(member, principal)
        stored = await profiles.persons.get(id)
        if stored is None or stored.state.erasure is None:
            raise not_found("erasure")
        return ErasureView.of(stored.state)


def _topics(router: APIRouter, profiles: Profiles) -> None:
    @router.get("/topics", dependencies=[ANYBODY])
    async def topics(query: Annotated[str, Query(max_length=80)] = "") -> Page[TopicView]:
        """The taxonomy, or the topics in which these letters occur."""
        letters = query.strip().casefold()
        return Page(
            items=[
                TopicView(id=topic.id, name=topic.name, parent=topic.parent, aliases=topic.aliases)
                for topic in load().topics
                if any(letters in text.casefold() for text in (topic.id, topic.name, *topic.aliases))
            ]
        )

    @router.get("/topics/unknown")
    async def unknown_topics(principal: Annotated[Principal, allow("coordinator", "admin")]) -> Page[UnknownWords]:
        """What people wrote and the taxonomy does not know, most frequent first."""
        words: Counter[str] = Counter()
        waiting = {**ALIVE, "topics.unknown": {"$ne": []}}
        async for stored in profiles.persons.find(waiting):
            words.update(set(stored.state.topics.unknown))
        least = 1 if "admin" in principal.roles else FEW
        most = words.most_common(MOST_WORDS)
        return Page(items=[UnknownWords(words=text, people=count) for text, count in most if count >= least])
