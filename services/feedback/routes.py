"""Endpoints for the two people in a pairing: meetings, check-ins, ideas, and the request for another partner."""

from datetime import datetime

from fastapi import APIRouter, Response

from chassis.core.ids import derived_id
from chassis.web.http import Command, Page, build_page, forbidden, set_location
from contracts.pairings import PairingState
from contracts.profiles import Side
from services.feedback.commands import ParticipantDecision, change_followup
from services.feedback.dependencies import (
    ANY_ROLE,
    FeedbackContext,
    Language,
    MemberCommand,
    MemberOrAdmin,
    MemberPrincipal,
    Paging,
    UserPrincipal,
)
from services.feedback.domain import checkins, followup_rules, sessions
from services.feedback.domain.calls import NOBODY
from services.feedback.domain.calls import hand_over_call as hand_over
from services.feedback.domain.followup import PairingFollowup
from services.feedback.domain.questions import DEFAULT_LANGUAGE, nearest_language
from services.feedback.permissions import followup_for, not_in_conflict
from services.feedback.store import Feedback
from services.feedback.views import (
    AnswersBody,
    CareView,
    CheckinView,
    HandOverBody,
    IdeaBody,
    IdeaView,
    MoveBody,
    PulseBody,
    QuestionsView,
    SessionBody,
)

router = APIRouter()


@router.get("/members/{member}/pairings", tags=["pairings"])
async def get_member_pairings(
    member: str, principal: MemberOrAdmin, feedback: FeedbackContext, paging: Paging
) -> Page[PairingState]:
    """The pairings of a member that feedback stores; ``me`` is the caller. For the member and for admins.

    An admin sees none in which they, or somebody in their line, take part.
    """
    member_id = principal.member_id if member == "me" else member
    if member_id is None or (member_id != principal.member_id and "admin" not in principal.roles):
        raise forbidden()
    matching = feedback.pairings_of(member_id, limit=paging.fetch_limit, after=paging.after)
    items, next_key = await build_page(matching, paging, lambda pairing: pairing.pairing_id)
    if member_id != principal.member_id:
        pairs = [{participant.member_id for participant in pairing.participants} for pairing in items]
        allowed = await not_in_conflict(principal, pairs, feedback)
        items = [pairing for pairing, is_allowed in zip(items, allowed, strict=True) if is_allowed]
    return Page(items=items, next=next_key)


@router.get("/questions", dependencies=[ANY_ROLE], tags=["pairings"])
async def get_questions(feedback: FeedbackContext, language: Language = DEFAULT_LANGUAGE) -> QuestionsView:
    return QuestionsView.of(feedback.questions, nearest_language(language))


@router.get("/pairings/{id}/care", tags=["pairings"])
async def get_care(id: str, principal: UserPrincipal, feedback: FeedbackContext) -> CareView:
    """How the pairing goes, by facts only. The two and their coordinators see the same."""
    stored, _ = await followup_for(principal, id, "see_facts", feedback)
    return CareView.of(stored.state, feedback.clock.now())


@router.post("/pairings/{id}/sessions", status_code=201, tags=["sessions"])
async def create_session(
    id: str, body: SessionBody, command: MemberCommand, feedback: FeedbackContext, response: Response
) -> CareView:
    """Schedule a meeting, or record one that has taken place."""
    session = derived_id("session", id, command.op.key)
    if body.held:
        return await _change_meetings(
            id,
            command,
            lambda followup, side, moment: sessions.record_held(followup, side, session, body.starts_at, moment),
            feedback,
        )
    view = await _change_meetings(
        id,
        command,
        lambda followup, side, moment: sessions.schedule(followup, side, session, body.starts_at, moment),
        feedback,
    )
    dates = {meeting.session_id: meeting.starts_at for meeting in view.sessions}
    if session not in dates:  # this date existed already
        session = next((other for other, at in dates.items() if at == body.starts_at), session)
    set_location(response, "pairings", id, "sessions", session)
    return view


@router.put("/pairings/{id}/sessions/{session}", tags=["sessions"])
async def move_session(
    id: str, session: str, body: MoveBody, command: MemberCommand, feedback: FeedbackContext
) -> CareView:
    return await _change_meetings(
        id,
        command,
        lambda followup, side, moment: sessions.move(followup, side, session, body.starts_at, moment),
        feedback,
    )


@router.post("/pairings/{id}/sessions/{session}/cancel", tags=["sessions"])
async def cancel_session(id: str, session: str, command: MemberCommand, feedback: FeedbackContext) -> CareView:
    return await _change_meetings(
        id, command, lambda followup, _, moment: sessions.cancel(followup, session, moment), feedback
    )


@router.post("/pairings/{id}/sessions/{session}/held", tags=["sessions"])
async def report_session_held(id: str, session: str, command: MemberCommand, feedback: FeedbackContext) -> CareView:
    return await _change_meetings(
        id,
        command,
        lambda followup, side, moment: sessions.report_outcome(followup, side, session, "held", moment),
        feedback,
    )


@router.post("/pairings/{id}/sessions/{session}/missed", tags=["sessions"])
async def report_session_missed(id: str, session: str, command: MemberCommand, feedback: FeedbackContext) -> CareView:
    return await _change_meetings(
        id,
        command,
        lambda followup, side, moment: sessions.report_outcome(followup, side, session, "missed", moment),
        feedback,
    )


@router.put("/pairings/{id}/sessions/{session}/pulse", tags=["sessions"])
async def record_pulse(
    id: str, session: str, body: PulseBody, command: MemberCommand, feedback: FeedbackContext
) -> CareView:
    """Record whether you met, which is a public fact, and whether it was worth your time, which stays private."""
    return await _change_meetings(
        id,
        command,
        lambda followup, side, moment: sessions.record_pulse(
            followup, side, session, body.worth, met=body.met, moment=moment
        ),
        feedback,
        is_private=True,
    )


@router.get("/checkins", tags=["check-ins"])
async def get_open_checkins(
    principal: MemberPrincipal, feedback: FeedbackContext, language: Language = DEFAULT_LANGUAGE
) -> Page[CheckinView]:
    """The caller's own check-ins that are open and not answered yet, in all pairings."""
    now, views = feedback.clock.now(), []
    async for stored in feedback.followups_of(principal.member_id or ""):
        side = stored.state.side_of(principal.member_id)
        if side is not None and not stored.state.gone:
            views += await _checkin_views(stored.state, side, language, now, feedback)
    return Page(items=[view for view in views if view.open and not view.completed])


@router.get("/pairings/{id}/checkins", tags=["check-ins"])
async def get_pairing_checkins(
    id: str, principal: MemberPrincipal, feedback: FeedbackContext, language: Language = DEFAULT_LANGUAGE
) -> Page[CheckinView]:
    """The caller's own check-ins of one pairing."""
    stored, side = await followup_for(principal, id, "see_own_answers", feedback)
    if side is None:
        raise forbidden("Only the two people in this pairing can see this.")
    return Page(items=await _checkin_views(stored.state, side, language, feedback.clock.now(), feedback))


@router.put("/pairings/{id}/checkins/{milestone}", tags=["check-ins"])
async def answer_checkin(
    id: str,
    milestone: str,
    body: AnswersBody,
    command: MemberCommand,
    feedback: FeedbackContext,
    language: Language = DEFAULT_LANGUAGE,
) -> CheckinView:
    """Answer a check-in. The response contains the answers and advice, for the person who answered only."""
    contact = await _named_contact(id, feedback)
    followup, side, moment = await change_followup(
        id,
        command,
        "answer",
        lambda followup, side, moment: checkins.record_answers(
            followup,
            side,
            milestone,
            body.answers,
            feedback.questions,
            moment,
            call_me=body.call_me,
            contact=contact,
        ),
        feedback,
        is_private=True,
    )
    views = await _checkin_views(followup, side, language, moment.now, feedback)
    return next(view for view in views if view.milestone == milestone)


@router.post("/pairings/{id}/call/hand-over", tags=["check-ins"])
async def hand_over_call(
    id: str,
    body: HandOverBody,
    command: MemberCommand,
    feedback: FeedbackContext,
    language: Language = DEFAULT_LANGUAGE,
) -> Page[CheckinView]:
    """Give your open call to the contact whom the programme names now. Without this, it stays with the former one."""
    named = await _named_contact(id, feedback)
    followup, side, moment = await change_followup(
        id,
        command,
        "answer",
        lambda followup, side, _: hand_over(followup, side, body.contact, named),
        feedback,
        is_private=True,
    )
    return Page(items=await _checkin_views(followup, side, language, moment.now, feedback))


@router.post("/pairings/{id}/partner-change", tags=["pairings"])
async def request_partner_change(id: str, command: MemberCommand, feedback: FeedbackContext) -> CareView:
    """Ask for another partner. No reason is asked, nobody is blamed, and nobody learns who asked."""
    followup, _, moment = await change_followup(
        id,
        command,
        "ask_for_another_partner",
        lambda followup, _, moment: followup_rules.request_partner_change(followup, moment),
        feedback,
    )
    return CareView.of(followup, moment.now)


@router.get("/pairings/{id}/ideas", tags=["pairings"])
async def get_ideas(id: str, principal: MemberPrincipal, feedback: FeedbackContext) -> Page[IdeaView]:
    stored, side = await followup_for(principal, id, "record_idea", feedback)
    if side is None:
        raise forbidden("Only the two people in this pairing can see this.")
    return Page(items=IdeaView.all_of(stored.state, side))


@router.post("/pairings/{id}/ideas", status_code=201, tags=["pairings"])
async def record_idea(id: str, body: IdeaBody, command: MemberCommand, feedback: FeedbackContext) -> Page[IdeaView]:
    idea = derived_id("idea", id, command.op.key)
    followup, side, _ = await change_followup(
        id,
        command,
        "record_idea",
        lambda followup, side, moment: sessions.record_idea(followup, side, idea, body.text, moment.now),
        feedback,
    )
    return Page(items=IdeaView.all_of(followup, side))


@router.post("/pairings/{id}/ideas/{idea}/agree", tags=["pairings"])
async def agree_to_idea(id: str, idea: str, command: MemberCommand, feedback: FeedbackContext) -> Page[IdeaView]:
    """Agree that others may read the text of your partner's idea."""
    followup, side, _ = await change_followup(
        id,
        command,
        "record_idea",
        lambda followup, side, _: sessions.agree_to_idea(followup, side, idea),
        feedback,
    )
    return Page(items=IdeaView.all_of(followup, side))


async def _change_meetings(
    id: str, command: Command, decide: ParticipantDecision, feedback: Feedback, *, is_private: bool = False
) -> CareView:
    followup, _, moment = await change_followup(id, command, "meet", decide, feedback, is_private=is_private)
    return CareView.of(followup, moment.now)


async def _named_contact(pairing_id: str, feedback: Feedback) -> str:
    """The confidential contact whom the pairing's programme names now."""
    stored = await feedback.followups.get(pairing_id)
    programme = await feedback.programmes.get(stored.state.programme_id) if stored else None
    return programme.settings.confidential_contact if programme else NOBODY


async def _checkin_views(
    followup: PairingFollowup, side: Side, language: str, now: datetime, feedback: Feedback
) -> list[CheckinView]:
    """One side's own check-ins, in the order in which they were due."""
    programme = await feedback.programmes.get(followup.programme_id)
    contact = programme.settings.confidential_contact if programme is not None else None
    nearest = nearest_language(language)
    own = [checkin for checkin in followup.checkins if checkin.side == side]
    return [CheckinView.of(followup, checkin, feedback.questions, nearest, contact, now) for checkin in own]
