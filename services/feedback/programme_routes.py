"""What those see who look after a programme, facts and figures; and whom the confidential contact is to call."""

from typing import Annotated

from fastapi import APIRouter, Depends

from chassis.web.http import Command, Page, PageRequest, Principal, allow, build_page, command
from services.feedback.domain import followup_rules
from services.feedback.domain.anonymous_statistics import (
    CHANGE_ITEMS,
    FIRST_MEETING,
    MET_EARLY,
    MIN_K,
    change_cell_name,
)
from services.feedback.domain.checkins import END_MILESTONE
from services.feedback.domain.followup import SIDES, Decision, PairingFollowup, Terms
from services.feedback.domain.questions import DEFAULT_LANGUAGE, nearest_language
from services.feedback.permissions import exclude_conflicts, programme_for, programme_of_contact
from services.feedback.report_batches import cell_id
from services.feedback.routes import Language
from services.feedback.store import Feedback
from services.feedback.views import CallView, CareView, ReportView, StatisticView

Manager = Annotated[Principal, allow("coordinator", "admin")]
Contact = Annotated[Principal, allow("member", "service")]
Calling = Annotated[Command, command("member", "service")]


def programme_routes(feedback: Feedback) -> APIRouter:
    """The pairings that need a person, and the report."""
    router = APIRouter(tags=["programmes"])

    @router.get("/programmes/{id}/care")
    async def care(
        id: str, principal: Manager, paging: Annotated[PageRequest, Depends()], help_wanted: bool = False
    ) -> Page[CareView]:
        """Pairings that are not over, by facts alone; ``help_wanted``: of each page only those that would like some."""
        await programme_for(principal, id, feedback)
        found = feedback.followups_in(id, limit=paging.fetch_limit, after=paging.after)
        items, after = await build_page(found, paging, lambda stored: stored.id)
        shown = await exclude_conflicts(principal, [stored.state for stored in items], feedback)
        now = feedback.clock.now()
        views = [CareView.of(course, now) for course in shown]
        return Page(items=[one for one in views if one.facts or not help_wanted], next=after)

    @router.get("/programmes/{id}/report")
    async def report(id: str, principal: Manager, language: Language = DEFAULT_LANGUAGE) -> ReportView:
        """Released figures: each of at least k people, and changed only by at least k more."""
        programme = await programme_for(principal, id, feedback)
        k = max(MIN_K, programme.settings.care.min_group)
        funnel = await feedback.funnel(id, feedback.clock.now())
        ids = [cell_id(id, key) for key in _keys(Terms.of(programme.settings))]
        cells = await feedback.cells.get_many(ids)
        figures = [
            StatisticView.of(cells[one].state, feedback.questions, nearest_language(language))
            for one in ids
            if one in cells
        ]
        return ReportView(
            programme_id=id,
            k=k,
            funnel={step: count if count == 0 or count >= k else None for step, count in funnel.items()},
            figures=[one for one in figures if one.n],
        )

    return router


def call_routes(feedback: Feedback) -> APIRouter:
    """Whom the confidential contact is to call; for them alone."""
    router = APIRouter(tags=["calls"])

    @router.get("/programmes/{id}/calls")
    async def calls(id: str, principal: Contact) -> Page[CallView]:
        await programme_of_contact(principal, id, feedback)
        courses = [stored.state async for stored in feedback.followups_with_calls(id)]
        found = [
            CallView(member_id=course.members[side], asked_at=at)
            for course in await exclude_conflicts(principal, courses, feedback)
            for side, at in course.calls.items()
        ]
        return Page(items=sorted(found, key=lambda call: call.asked_at))

    @router.post("/programmes/{id}/calls/{member}/done")
    async def done(id: str, member: str, asked: Calling) -> Page[CallView]:
        await programme_of_contact(asked.principal, id, feedback)
        now, machine = feedback.clock.now(), feedback.clock.machine_now()

        def called(course: PairingFollowup | None) -> Decision | None:
            side = course.side_of(member) if course is not None else None
            return followup_rules.follow_up(followup_rules.mark_called(course, side), now, machine) if side else None

        async for stored in feedback.followups_with_calls(id):
            if member in stored.state.members.values():
                await feedback.followups.update(stored.id, asked.op, called)
        return await calls(id, asked.principal)

    return router


def _keys(terms: Terms) -> list[str]:
    milestones = [f"day_{day}" for day in terms.checkin_days] + [END_MILESTONE]
    changes = [
        change_cell_name(item, milestone, side) for item in CHANGE_ITEMS for milestone in milestones for side in SIDES
    ]
    return [MET_EARLY, FIRST_MEETING, *changes]
