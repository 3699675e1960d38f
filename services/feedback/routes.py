"""What the two of a pairing do and see: meetings, check-ins, ideas, and the wish for somebody else."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.web.http import (
    Command,
    Page,
    PageRequest,
    Principal,
    Problem,
    RequestBody,
    allow,
    build_page,
    command,
    forbidden,
)
from contracts.envelope import Instant
from contracts.errors import NotFound
from contracts.pairings import PairingState
from contracts.profiles import Side
from services.feedback.domain import checkins, followup_rules, sessions
from services.feedback.domain.access_policy import Action
from services.feedback.domain.followup import Decision, PairingFollowup
from services.feedback.domain.questions import DEFAULT_LANGUAGE, Rating, nearest_language
from services.feedback.permissions import followup_for
from services.feedback.store import Feedback
from services.feedback.views import CareView, CheckinView, IdeaView, QuestionsView

Anybody = allow("member", "coordinator", "admin", "service")
Member = Annotated[Principal, allow("member")]
Viewer = Annotated[Principal, allow("member", "coordinator", "admin")]
Taking = Annotated[Command, command("member")]
Language = Annotated[str, Query(max_length=35, description="BCP 47; the nearest that there are words in.")]
Deciding = Callable[[PairingFollowup, Side, datetime, datetime], Decision | None]


class SessionBody(RequestBody):
    """A meeting with a date; ``held``: it has taken place already, with or without having had a date here."""

    starts_at: Instant
    held: bool = False


class MoveBody(RequestBody):
    starts_at: Instant


class PulseBody(RequestBody):
    """Did you meet, and was it worth your time; None is "cannot say"."""

    met: bool
    worth: Rating | None = None


class AnswersBody(RequestBody):
    """By the number of the question; None or absent is "cannot say"."""

    answers: dict[Annotated[str, Field(max_length=8)], Rating | None] = Field(default_factory=dict, max_length=20)
    call_me: bool = False


class IdeaBody(RequestBody):
    text: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class Changer:
    """Applies a participant's decision to their course, with all that follows from it."""

    def __init__(self, feedback: Feedback) -> None:
        self.feedback = feedback

    async def course(
        self, id: str, asked: Command, action: Action, decide: Deciding, *, private: bool = False
    ) -> tuple[PairingFollowup, Side, datetime]:
        """``private``: of what was sent not even a digest is kept; such commands replace, so repeating is harmless."""
        _, side = await followup_for(asked.principal, id, action, self.feedback)
        if side is None:
            raise forbidden("This is for the two of the pairing.")
        if asked.expect is not None:
            raise Problem(412, "A pairing has no ETag; repeat a request by its Idempotency-Key.", code="no_etag")
        mine: Side = side
        now, machine = self.feedback.clock.now(), self.feedback.clock.machine_now()

        def deciding(course: PairingFollowup | None) -> Decision | None:
            if course is None or course.gone:
                raise NotFound("pairing")
            return followup_rules.follow_up(decide(course, mine, now, machine), now, machine)

        op = Op.once() if private else asked.op
        saved = await self.feedback.followups.update(id, op, deciding)
        return saved.require_state(), mine, now


def routes(feedback: Feedback) -> APIRouter:
    """What there is to know for everybody."""
    router = APIRouter(tags=["pairings"])

    @router.get("/members/{member}/pairings")
    async def pairings(
        member: str,
        principal: Annotated[Principal, allow("member", "admin")],
        paging: Annotated[PageRequest, Depends()],
    ) -> Page[PairingState]:
        """What feedback holds of a member; ``me`` is the asker. For themselves and for admins."""
        id = principal.member_id if member == "me" else member
        if id is None or (id != principal.member_id and "admin" not in principal.roles):
            raise forbidden()
        found = feedback.pairings_of(id, limit=paging.fetch_limit, after=paging.after)
        items, after = await build_page(found, paging, lambda one: one.pairing_id)
        return Page(items=items, next=after)

    @router.get("/questions", dependencies=[Anybody])
    async def questions(language: Language = DEFAULT_LANGUAGE) -> QuestionsView:
        return QuestionsView.of(feedback.questions, nearest_language(language))

    @router.get("/pairings/{id}/care")
    async def care(id: str, principal: Viewer) -> CareView:
        """By facts alone, and the same for the two and for those who coordinate."""
        stored, _ = await followup_for(principal, id, "see_facts", feedback)
        return CareView.of(stored.state, feedback.clock.now())

    return router


def session_routes(feedback: Feedback) -> APIRouter:
    """Meetings."""
    router = APIRouter(tags=["sessions"])
    changer = Changer(feedback)

    async def done(id: str, asked: Command, decide: Deciding, *, private: bool = False) -> CareView:
        course, _, now = await changer.course(id, asked, "meet", decide, private=private)
        return CareView.of(course, now)

    @router.post("/pairings/{id}/sessions", status_code=201)
    async def note(id: str, body: SessionBody, asked: Taking, response: Response) -> CareView:
        session = derived_id("session", id, asked.op.key)
        if body.held:
            return await done(
                id, asked, lambda course, _, now, at: sessions.record_held(course, session, body.starts_at, now, at)
            )
        response.headers["Location"] = f"/pairings/{id}/sessions/{session}"
        return await done(
            id, asked, lambda course, side, now, at: sessions.schedule(course, side, session, body.starts_at, now, at)
        )

    @router.put("/pairings/{id}/sessions/{session}")
    async def move(id: str, session: str, body: MoveBody, asked: Taking) -> CareView:
        return await done(
            id, asked, lambda course, side, now, at: sessions.move(course, side, session, body.starts_at, now, at)
        )

    @router.post("/pairings/{id}/sessions/{session}/cancel")
    async def cancel(id: str, session: str, asked: Taking) -> CareView:
        return await done(id, asked, lambda course, _, now, at: sessions.cancel(course, session, now, at))

    @router.post("/pairings/{id}/sessions/{session}/held")
    async def held(id: str, session: str, asked: Taking) -> CareView:
        return await done(
            id, asked, lambda course, _, now, at: sessions.report_outcome(course, session, "held", now, at)
        )

    @router.post("/pairings/{id}/sessions/{session}/missed")
    async def missed(id: str, session: str, asked: Taking) -> CareView:
        return await done(
            id, asked, lambda course, _, now, at: sessions.report_outcome(course, session, "missed", now, at)
        )

    @router.put("/pairings/{id}/sessions/{session}/pulse")
    async def pulse(id: str, session: str, body: PulseBody, asked: Taking) -> CareView:
        """That you met is a fact and is told; whether it was worth your time is told to nobody."""
        return await done(
            id,
            asked,
            lambda course, side, now, at: sessions.record_pulse(
                course, side, session, body.worth, met=body.met, now=now, recorded_at=at
            ),
            private=True,
        )

    return router


def checkin_routes(feedback: Feedback) -> APIRouter:
    """Check-ins: each side sees its own, and nobody else sees any."""
    router = APIRouter(tags=["check-ins"])
    changer = Changer(feedback)

    async def seen(course: PairingFollowup, side: Side, language: str, now: datetime) -> list[CheckinView]:
        programme = await feedback.programmes.get(course.programme_id)
        contact = programme.settings.confidential_contact if programme is not None else None
        nearest = nearest_language(language)
        mine = [one for one in course.checkins if one.side == side]
        return [CheckinView.of(course, one, feedback.questions, nearest, contact, now) for one in mine]

    @router.get("/checkins")
    async def all_mine(principal: Member, language: Language = DEFAULT_LANGUAGE) -> Page[CheckinView]:
        """One's own that are open and not yet answered, in all pairings."""
        now, found = feedback.clock.now(), []
        async for stored in feedback.followups_of(principal.member_id or ""):
            side = stored.state.side_of(principal.member_id)
            if side is not None and not stored.state.gone:
                found += await seen(stored.state, side, language, now)
        return Page(items=[one for one in found if one.open and not one.completed])

    @router.get("/pairings/{id}/checkins")
    async def of_pairing(id: str, principal: Member, language: Language = DEFAULT_LANGUAGE) -> Page[CheckinView]:
        stored, side = await followup_for(principal, id, "see_own_answers", feedback)
        if side is None:
            raise forbidden("This is for the two of the pairing.")
        return Page(items=await seen(stored.state, side, language, feedback.clock.now()))

    @router.put("/pairings/{id}/checkins/{milestone}")
    async def answer(
        id: str, milestone: str, body: AnswersBody, asked: Taking, language: Language = DEFAULT_LANGUAGE
    ) -> CheckinView:
        """The answer comes back with what may help, for the one who answered alone."""
        course, side, now = await changer.course(
            id,
            asked,
            "answer",
            lambda course, mine, now, at: checkins.record_answers(
                course, mine, milestone, body.answers, feedback.questions, now, at, call_me=body.call_me
            ),
            private=True,
        )
        return next(one for one in await seen(course, side, language, now) if one.milestone == milestone)

    return router


def wish_routes(feedback: Feedback) -> APIRouter:
    """Ideas, and the wish for another partner."""
    router = APIRouter(tags=["pairings"])
    changer = Changer(feedback)

    @router.post("/pairings/{id}/partner-change")
    async def another_partner(id: str, asked: Taking) -> CareView:
        """Without a reason, without blame, and without saying who asked."""
        course, _, now = await changer.course(
            id,
            asked,
            "ask_for_another_partner",
            lambda course, _, now, at: followup_rules.request_partner_change(course, now, at),
        )
        return CareView.of(course, now)

    @router.get("/pairings/{id}/ideas")
    async def ideas(id: str, principal: Member) -> Page[IdeaView]:
        stored, side = await followup_for(principal, id, "record_idea", feedback)
        if side is None:
            raise forbidden("This is for the two of the pairing.")
        return Page(items=IdeaView.all_of(stored.state, side))

    @router.post("/pairings/{id}/ideas", status_code=201)
    async def record(id: str, body: IdeaBody, asked: Taking) -> Page[IdeaView]:
        idea = derived_id("idea", id, asked.op.key)
        course, side, _ = await changer.course(
            id,
            asked,
            "record_idea",
            lambda course, mine, now, _: sessions.record_idea(course, mine, idea, body.text, now),
        )
        return Page(items=IdeaView.all_of(course, side))

    @router.post("/pairings/{id}/ideas/{idea}/agree")
    async def agree(id: str, idea: str, asked: Taking) -> Page[IdeaView]:
        course, side, _ = await changer.course(
            id, asked, "record_idea", lambda course, mine, _now, _at: sessions.agree_to_idea(course, mine, idea)
        )
        return Page(items=IdeaView.all_of(course, side))

    return router
