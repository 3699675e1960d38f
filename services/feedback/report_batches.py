"""Work of several steps that a crash may cut short: begin the care, add to the figures, release them, delete.

Each step may be done again. A batch is merged into its cell by one write that names the contributions it took; they are
marked after it, and no other batch comes before that is done.
"""

from collections.abc import Iterable
from datetime import timedelta

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import Stored, stored_instant
from services.feedback.domain import anonymous_statistics, followup_rules
from services.feedback.domain.anonymous_statistics import (
    FIRST_MEETING,
    MET_EARLY,
    Cell,
    Contribution,
    parse_change_cell,
)
from services.feedback.domain.checkins import answer_change
from services.feedback.domain.followup import ERASED, SIDES, PairingFollowup, Terms, remove_counted_keys
from services.feedback.store import Feedback

LOOK_AGAIN = timedelta(seconds=2)  # machine time; for a programme that was not heard of yet


async def resume_followup(stored: Stored[PairingFollowup], feedback: Feedback) -> None:
    """``Sweep`` calls it for a course that has something left to do."""
    if stored.state.terms is None:
        await _begin(stored, feedback)
    else:
        await _add_to_figures(stored, feedback)


async def finish_batch(stored: Stored[Cell], feedback: Feedback) -> None:
    """``Sweep`` calls it for a cell whose last batch was not marked."""
    ids = stored.state.taking
    await feedback.mark_contributions_taken(ids)
    await feedback.cells.update(
        stored.id,
        Op(f"batch/{stored.state.batches}/taken"),
        lambda cell: anonymous_statistics.mark_batch_taken(cell, ids),
    )


async def release_statistic(programme_id: str, key: str, feedback: Feedback) -> None:
    """Merge what waits for one figure, if it is of enough people."""
    id = cell_id(programme_id, key)
    stored = await feedback.cells.get(id)
    if stored is not None and stored.state.taking:
        await finish_batch(stored, feedback)
        stored = await feedback.cells.get(id)
    batches = stored.state.batches if stored is not None else 0
    waiting = await _waiting(id, feedback)
    programme = await feedback.programmes.get(programme_id)
    k = programme.settings.care.min_group if programme is not None else anonymous_statistics.MIN_K
    if not anonymous_statistics.is_large_enough(waiting, k):
        return
    asked = await _asked(programme_id, key, feedback)
    now, machine = feedback.clock.now(), feedback.clock.machine_now()
    saved = await feedback.cells.update(
        id,
        Op(f"batch/{batches}"),
        lambda cell: anonymous_statistics.merge_batch(
            cell, programme_id, key, waiting, k, asked, batches, now, machine
        ),
    )
    if saved.changed and saved.state is not None:
        await finish_batch(Stored(id, saved.state, saved.version), feedback)


async def forget(member_id: str, feedback: Feedback) -> None:
    """Everything that is kept of somebody, but what the tombstones of other topics take."""
    now, machine = feedback.clock.now(), feedback.clock.machine_now()
    await feedback.contributions.delete({"members": member_id})
    courses = [stored async for stored in feedback.followups_of(member_id)]
    for stored in courses:
        await feedback.followups.update(
            stored.id,
            Op(f"forget/{derived_id('forgotten', member_id)}"),
            lambda course: followup_rules.remove_member_and_follow_up(course, member_id, now, machine),
        )


def cell_id(programme_id: str, key: str) -> str:
    return derived_id("cell", programme_id, key)


async def _begin(stored: Stored[PairingFollowup], feedback: Feedback) -> None:
    programme = await feedback.programmes.get(stored.state.programme_id)
    now, machine = feedback.clock.now(), feedback.clock.machine_now()
    op = Op(f"lease/{stored_instant(stored.state.lease)}/begin")
    if programme is None:
        later = {"lease": machine + LOOK_AGAIN}
        await feedback.followups.update(
            stored.id, op, lambda course: (course.model_copy(update=later), []) if course else None
        )
        return
    terms = Terms.of(programme.settings)
    await feedback.followups.update(
        stored.id, op, lambda course: followup_rules.follow_up(followup_rules.set_terms(course, terms), now, machine)
    )


async def _add_to_figures(stored: Stored[PairingFollowup], feedback: Feedback) -> None:
    course, keys = stored.state, stored.state.to_count
    for key in keys:
        members = _members(course, key)
        if ERASED not in members:
            await feedback.add_contribution(cell_id(course.programme_id, key), course.pairing_id, key, members)
    for key in keys:
        await release_statistic(course.programme_id, key, feedback)
    now, machine = feedback.clock.now(), feedback.clock.machine_now()
    await feedback.followups.update(
        stored.id,
        Op(f"lease/{stored_instant(course.lease)}/{','.join(keys)}"),
        lambda known: followup_rules.follow_up(remove_counted_keys(known, keys), now, machine),
    )


async def _waiting(cell: str, feedback: Feedback) -> list[Contribution]:
    """What waits and has a value; whoever cannot say, or whose answers were deleted, adds none."""
    documents = [found async for found in feedback.contributions.find({"cell": cell, "taken": False})]
    courses = await feedback.followups.get_many([found["pairing_id"] for found in documents])
    found = []
    for document in documents:
        stored = courses.get(document["pairing_id"])
        value = _value(stored.state, document["key"], feedback) if stored is not None else None
        if value is not None:
            found.append(Contribution(id=document["_id"], members=tuple(document["members"]), value=value))
    return found


def _value(course: PairingFollowup, key: str, feedback: Feedback) -> int | None:
    if key == MET_EARLY:
        return None if course.met_by_day_30 is None else int(course.met_by_day_30)
    if key == FIRST_MEETING:
        held = course.held_meetings()
        return max(0, (held[0].starts_at - course.formed_at).days) if held else None
    parts = parse_change_cell(key)
    return None if parts is None else answer_change(course, feedback.questions, *parts)


def _members(course: PairingFollowup, key: str) -> tuple[str, ...]:
    parts = parse_change_cell(key)
    sides: Iterable[str] = SIDES if parts is None else (parts[2],)
    return tuple(member for side, member in course.members.items() if side in sides)


async def _asked(programme_id: str, key: str, feedback: Feedback) -> int:
    """Of how many there could be a value."""
    parts = parse_change_cell(key)
    of: dict[str, object] = {"programme_id": programme_id}
    if parts is not None:
        of["asked_for"] = f"{parts[1]}:{parts[2]}"
    elif key == MET_EARLY:
        of["met_by_day_30"] = {"$ne": None}
    return await feedback.followups.count(of)
