"""Work in several steps that a crash may interrupt: set terms, collect and release statistics, erase a member.

Each step can be repeated. One write merges a batch into its cell and names the contributions that it took. They are
marked after it, and no other batch is merged before that.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import Stored, stored_instant
from contracts.envelope import iso
from services.feedback.domain import anonymous_statistics, calls, followup_rules
from services.feedback.domain.anonymous_statistics import (
    FIRST_MEETING,
    MET_EARLY,
    MIN_K,
    Cell,
    Contribution,
    parse_change_cell,
)
from services.feedback.domain.checkins import answer_change
from services.feedback.domain.followup import ERASED, SIDES, Decision, PairingFollowup, Terms, remove_counted_keys
from services.feedback.store import Feedback

PROGRAMME_RETRY_DELAY = timedelta(seconds=2)  # machine time; for a programme that has not arrived yet


async def resume_followup(stored: Stored[PairingFollowup], feedback: Feedback) -> None:
    """Called by a ``Sweep`` for each follow-up with work left to do."""
    if stored.state.terms is None:
        await _set_terms(stored, feedback)
    else:
        await _collect_statistics(stored, feedback)


async def finish_batch(stored: Stored[Cell], feedback: Feedback) -> None:
    """Mark the contributions of the last batch. Called by a ``Sweep`` for each cell where a crash left this undone."""
    ids = stored.state.taking
    await feedback.mark_contributions_taken(ids)
    op = Op(f"batch/{stored.state.batches}/taken")
    await feedback.cells.update(stored.id, op, lambda cell: anonymous_statistics.mark_batch_taken(cell, ids))


async def release_statistic(stored: Stored[Cell], feedback: Feedback) -> None:
    """Merge what waited before the planned release, if it comes from enough people. Called by a ``Sweep``."""
    due = stored.state.due
    if due is None:
        return
    if stored.state.taking:
        await finish_batch(stored, feedback)
    programme_id, key = stored.state.programme_id, stored.state.name
    contributions = await _waiting_contributions(stored.id, due, feedback)
    programme = await feedback.programmes.get(programme_id)
    k = programme.settings.care.min_group if programme is not None else MIN_K
    possible_values = await _count_possible_values(programme_id, key, feedback)
    moment = feedback.clock.moment()
    saved = await feedback.cells.update(
        stored.id,
        Op(f"release/{stored_instant(due)}"),
        lambda cell: anonymous_statistics.release_batch(cell, due, contributions, k, possible_values, moment),
    )
    if saved.changed and saved.state is not None and saved.state.taking:
        await finish_batch(Stored(stored.id, saved.state, saved.version), feedback)


async def erase_member(member_id: str, feedback: Feedback) -> None:
    """Erase what is stored about a member, except for what the tombstones of other topics delete."""
    moment = feedback.clock.moment()
    await feedback.contributions.delete({"members": member_id})
    op = Op(f"forget/{derived_id('forgotten', member_id)}")
    followups = [stored async for stored in feedback.followups_of(member_id)]
    for stored in followups:
        await feedback.followups.update(
            stored.id,
            op,
            lambda followup: followup_rules.remove_member_and_follow_up(followup, member_id, moment),
        )
    kept_calls = [stored async for stored in feedback.followups_with_contact(member_id)]
    for stored in kept_calls:
        await feedback.followups.update(
            stored.id,
            Op(f"forget/{derived_id('forgotten contact', member_id)}"),
            lambda followup: calls.remove_contact(followup, member_id),
        )


def cell_id(programme_id: str, key: str) -> str:
    return derived_id("cell", programme_id, key)


async def _set_terms(stored: Stored[PairingFollowup], feedback: Feedback) -> None:
    programme = await feedback.programmes.get(stored.state.programme_id)
    moment = feedback.clock.moment()

    def decide(followup: PairingFollowup | None) -> Decision | None:
        if programme is None:
            retry_at = moment.recorded_at + PROGRAMME_RETRY_DELAY
            return (followup.model_copy(update={"lease": retry_at}), []) if followup else None
        terms = Terms.of(programme.settings)
        return followup_rules.follow_up(followup_rules.set_terms(followup, terms), moment)

    await feedback.followups.update(stored.id, Op(f"lease/{stored_instant(stored.state.lease)}/begin"), decide)


async def _collect_statistics(stored: Stored[PairingFollowup], feedback: Feedback) -> None:
    followup, keys = stored.state, stored.state.to_count
    moment = feedback.clock.moment()
    for key in keys:
        members = _members_behind(followup, key)
        if ERASED not in members:
            await _add_contribution(followup, key, members, moment.now, feedback)
    await feedback.followups.update(
        stored.id,
        Op(f"lease/{stored_instant(followup.lease)}/{','.join(keys)}"),
        lambda current: followup_rules.follow_up(remove_counted_keys(current, keys), moment),
    )


async def _add_contribution(
    followup: PairingFollowup, key: str, members: tuple[str, ...], now: datetime, feedback: Feedback
) -> None:
    programme_id, id = followup.programme_id, cell_id(followup.programme_id, key)
    await feedback.add_contribution(id, followup.pairing_id, key, members, now)
    await feedback.cells.update(
        id,
        Op(f"plan/{followup.pairing_id}"),
        lambda cell: anonymous_statistics.schedule_release(cell, programme_id, key, now),
    )


async def _waiting_contributions(cell: str, before: datetime, feedback: Feedback) -> list[Contribution]:
    """What came before the moment, or in the former version. "Cannot say" and deleted answers have no value."""
    waiting = feedback.contributions.find({"cell": cell, "taken": False})
    documents = [document async for document in waiting if document.get("at", "") < iso(before)]
    followups = await feedback.followups.get_many([document["pairing_id"] for document in documents])
    return [
        Contribution(
            id=document["_id"],
            members=tuple(document["members"]),
            value=_value(stored.state, document["key"], feedback),
        )
        for document in documents
        if (stored := followups.get(document["pairing_id"])) is not None
    ]


def _value(followup: PairingFollowup, key: str, feedback: Feedback) -> int | None:
    if key == MET_EARLY:
        return None if followup.met_by_day_30 is None else int(followup.met_by_day_30)
    if key == FIRST_MEETING:
        held = followup.held_meetings()
        return max(0, (held[0].starts_at - followup.formed_at).days) if held else None
    parts = parse_change_cell(key)
    return None if parts is None else answer_change(followup, feedback.questions, *parts)


def _members_behind(followup: PairingFollowup, key: str) -> tuple[str, ...]:
    """The members whom the value is about: one side for a change, otherwise both."""
    parts = parse_change_cell(key)
    sides: Iterable[str] = SIDES if parts is None else (parts[2],)
    return tuple(member for side, member in followup.members.items() if side in sides)


async def _count_possible_values(programme_id: str, key: str, feedback: Feedback) -> int:
    """The number of pairings that could have a value."""
    parts = parse_change_cell(key)
    query: dict[str, object] = {"programme_id": programme_id}
    if parts is not None:
        query["asked_for"] = f"{parts[1]}:{parts[2]}"
    elif key == MET_EARLY:
        query["met_by_day_30"] = {"$ne": None}
    return await feedback.followups.count(query)
