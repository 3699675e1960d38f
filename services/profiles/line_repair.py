"""Derives the reporting lines of everybody again, after an import has moved somebody above them."""

from collections.abc import Awaitable, Callable

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import Change
from chassis.storage.mongo import chunks
from contracts.errors import CommandRejected
from services.profiles.domain.enrolment import Programmes
from services.profiles.domain.line import find_circles, reporting_line
from services.profiles.domain.person import Decision, Person, change_person, replace_position
from services.profiles.store import Hierarchy, Profiles


async def redraw_lines(
    import_id: str, profiles: Profiles, programmes: Programmes, after_each_chunk: Callable[[], Awaitable[None]]
) -> None:
    """Derive the lines of all people again from their current managers, and save the lines that differ.

    It compares the stored state with the derived one, so it may be repeated at any time. It also finds managers whom HR
    named before they were known.
    """
    hierarchy = await profiles.load_hierarchy()
    members = (
        await profiles.keys.members_by_key(set(hierarchy.missing_manager_keys.values()))
        if hierarchy.missing_manager_keys
        else {}
    )
    resolved = {
        member_id: manager
        for member_id, key in hierarchy.missing_manager_keys.items()
        if (manager := members.get(key)) in hierarchy.lines
    }
    manager_of = hierarchy.manager_of | resolved
    manager_of |= {
        member_id: hierarchy.manager_of[member_id] for member_id in find_circles(manager_of).keys() & resolved.keys()
    }
    changed_lines = {
        member_id: line
        for member_id, stored_line in hierarchy.lines.items()
        if (line := reporting_line(member_id, manager_of)) != stored_line
    }
    for chunk in chunks(list(changed_lines)):
        changes = [
            Change(
                member_id,
                Op(derived_id(import_id, "line", *changed_lines[member_id])),
                _decide_line(member_id, hierarchy, changed_lines[member_id], programmes, profiles),
            )
            for member_id in chunk
        ]
        for result in await profiles.persons.update_many(changes):
            if isinstance(result, Exception) and not isinstance(result, CommandRejected):  # erased in the meantime
                raise result
        await after_each_chunk()


def _decide_line(
    member_id: str, hierarchy: Hierarchy, line: tuple[str, ...], programmes: Programmes, profiles: Profiles
) -> Callable[[Person | None], Decision]:
    former_manager, now = hierarchy.manager_of[member_id], profiles.clock.now()

    def move(person: Person) -> Person:
        if person.place.manager != former_manager:
            return person  # an erasure moved them in the meantime and set the line itself
        manager = line[0] if line else None
        missing_manager_key = None if manager != former_manager else person.place.wanted
        return replace_position(
            person,
            person.place.model_copy(update={"manager": manager, "line": line, "wanted": missing_manager_key}),
        )

    return lambda person: change_person(person, move, programmes, now)
