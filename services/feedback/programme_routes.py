"""Endpoints for the people who run a programme, and for its confidential contact."""

from collections.abc import Sequence

from fastapi import APIRouter

from chassis.web.http import Page, Principal, build_page
from contracts.programmes import ProgrammeChanged
from services.feedback.dependencies import (
    ContactCommand,
    ContactPrincipal,
    CoordinatorPrincipal,
    FeedbackContext,
    Language,
    Paging,
)
from services.feedback.domain import followup_rules
from services.feedback.domain.anonymous_statistics import (
    CHANGE_ITEMS,
    FIRST_MEETING,
    MET_EARLY,
    MIN_K,
    change_cell_name,
)
from services.feedback.domain.calls import close_call, contact_of_call
from services.feedback.domain.checkins import END_MILESTONE
from services.feedback.domain.followup import SIDES, Decision, PairingFollowup, Terms
from services.feedback.domain.questions import DEFAULT_LANGUAGE, nearest_language
from services.feedback.permissions import calls_for, calls_to, exclude_conflicts, programme_for
from services.feedback.report_batches import cell_id
from services.feedback.views import CallView, CareView, ReportView, StatisticView

router = APIRouter()


@router.get("/programmes/{id}/care", tags=["programmes"])
async def get_programme_care(
    id: str, principal: CoordinatorPrincipal, feedback: FeedbackContext, paging: Paging, help_wanted: bool = False
) -> Page[CareView]:
    """Pairings that are not over, by facts only. ``help_wanted``: of each page, only pairings that need help."""
    await programme_for(principal, id, feedback)
    matching = feedback.followups_in(id, limit=paging.fetch_limit, after=paging.after)
    items, next_key = await build_page(matching, paging, lambda stored: stored.id)
    visible = await exclude_conflicts(principal, [stored.state for stored in items], feedback)
    now = feedback.clock.now()
    views = [CareView.of(followup, now) for followup in visible]
    return Page(items=[view for view in views if view.facts or not help_wanted], next=next_key)


@router.get("/programmes/{id}/report", tags=["programmes"])
async def get_report(
    id: str, principal: CoordinatorPrincipal, feedback: FeedbackContext, language: Language = DEFAULT_LANGUAGE
) -> ReportView:
    """The released statistics. Each covers at least k people. It changes by at least k more, on Mondays alone."""
    programme = await programme_for(principal, id, feedback)
    k = max(MIN_K, programme.settings.care.min_group)
    funnel = await feedback.funnel(id, feedback.clock.now())
    ids = [cell_id(id, key) for key in _cell_keys(Terms.of(programme.settings))]
    cells = await feedback.cells.get_many(ids)
    tag = nearest_language(language)
    statistics = [StatisticView.of(cells[id].state, feedback.questions, tag) for id in ids if id in cells]
    return ReportView(
        programme_id=id,
        k=k,
        funnel={step: count if count == 0 or count >= k else None for step, count in funnel.items()},
        figures=[statistic for statistic in statistics if statistic.n],
    )


@router.get("/programmes/{id}/calls", tags=["calls"])
async def get_calls(id: str, principal: ContactPrincipal, feedback: FeedbackContext) -> Page[CallView]:
    """The members who asked the caller for a call. For the confidential contact to whom they belong only."""
    return _call_views(*await calls_for(principal, id, feedback), principal)


@router.post("/programmes/{id}/calls/{member}/done", tags=["calls"])
async def mark_called(id: str, member: str, command: ContactCommand, feedback: FeedbackContext) -> Page[CallView]:
    """Record that the confidential contact has called the member."""
    reader = command.principal.subject
    programme, followups = await calls_for(command.principal, id, feedback)
    named, moment = programme.settings.confidential_contact, feedback.clock.moment()

    def decide(followup: PairingFollowup | None) -> Decision | None:
        side = followup.side_of(member) if followup is not None else None
        return followup_rules.follow_up(close_call(followup, side, reader, named), moment) if side else None

    for followup in followups:
        if member in followup.members.values():
            await feedback.followups.update(followup.pairing_id, command.op, decide)
    return _call_views(programme, await calls_to(command.principal, programme, feedback), command.principal)


def _call_views(programme: ProgrammeChanged, followups: Sequence[PairingFollowup], reader: Principal) -> Page[CallView]:
    """The calls that belong to the reader, the oldest first."""
    named = programme.settings.confidential_contact
    calls = [
        CallView(member_id=followup.members[side], asked_at=asked_at)
        for followup in followups
        for side, asked_at in followup.calls.items()
        if contact_of_call(followup, side, named) == reader.subject
    ]
    return Page(items=sorted(calls, key=lambda call: call.asked_at))


def _cell_keys(terms: Terms) -> list[str]:
    milestones = [f"day_{day}" for day in terms.checkin_days] + [END_MILESTONE]
    changes = [
        change_cell_name(item, milestone, side) for item in CHANGE_ITEMS for milestone in milestones for side in SIDES
    ]
    return [MET_EARLY, FIRST_MEETING, *changes]
