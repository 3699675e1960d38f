"""Work that follows a save, at the times stored in the document of a person or of the weekly list of topics."""

from datetime import timedelta

from chassis.core.commands import Op
from chassis.core.ids import derived_id
from chassis.storage.aggregates import Change, Stored, stored_instant
from contracts.envelope import OutgoingEvent
from contracts.errors import CommandRejected
from services.profiles.domain.person import (
    Decision,
    Person,
    change_person,
    complete_own_erasure,
    refresh_person,
    remove_mentions,
)
from services.profiles.domain.unknown_topics import UnknownTopics, make_list, plan_list
from services.profiles.import_runner import finish_import
from services.profiles.store import LIVING, UNKNOWN_TOPICS_ID, Profiles

IMPORT_WAIT = timedelta(seconds=1)


async def end_employment(stored: Stored[Person], profiles: Profiles) -> None:
    """Derive the person's state again after their last day at work."""
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    await profiles.persons.update(
        stored.id,
        Op(f"due/{stored_instant(stored.state.due)}/end_employment"),
        lambda person: refresh_person(person, programmes, now),
    )


async def forget_erased_person(stored: Stored[Person], profiles: Profiles) -> None:
    """Delete everything else that this service stores about an erased person, then publish the completion.

    Every step may be repeated, so a crash at any point is harmless. A running import may still have read the person;
    the erasure waits until it has ended. An import that waits for a release could block the erasure for days, so it is
    closed: HR's next file brings the same data.
    """
    erasure = stored.state.erasure
    if erasure is None:
        return
    await profiles.keys.bury(erasure.keys)
    unfinished = await profiles.unfinished_imports()
    for stored_import in unfinished:
        if stored_import.state.state == "waiting_for_release":
            await finish_import(stored_import.id, stored_import.state, "erasure", profiles)
    if any(stored_import.state.state != "waiting_for_release" for stored_import in unfinished):
        await _wait_for_imports(stored, profiles)
        return
    await _remove_mentions(stored.id, erasure.heir, profiles)
    now = profiles.clock.now()
    await profiles.persons.update(
        stored.id,
        Op(f"lease/{stored_instant(stored.state.lease)}/forgotten"),
        lambda person: complete_own_erasure(person, now),
    )


async def _wait_for_imports(stored: Stored[Person], profiles: Profiles) -> None:
    until = profiles.clock.machine_now() + IMPORT_WAIT

    def decide(person: Person | None) -> tuple[Person, list[OutgoingEvent]] | None:
        if person is None or person.lease != stored.state.lease:
            return None
        return person.model_copy(update={"lease": until}), []

    await profiles.persons.update(stored.id, Op(f"lease/{stored_instant(stored.state.lease)}/later"), decide)


async def _remove_mentions(erased_id: str, heir: str | None, profiles: Profiles) -> None:
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    mentioning = [stored.id for stored in await profiles.find_mentioning(erased_id) if stored.id != erased_id]
    if not mentioning:
        return

    # The key is hashed: it stays for a while in the documents of the people who mentioned them.
    op = Op(derived_id("forget", erased_id, heir or ""))

    def decide(person: Person | None) -> Decision:
        return change_person(person, lambda living: remove_mentions(living, erased_id, heir), programmes, now)

    for result in await profiles.persons.update_many([Change(id, op, decide) for id in mentioning]):
        if isinstance(result, Exception) and not isinstance(result, CommandRejected):  # this person was erased as well
            raise result


async def resolve_topics_again(profiles: Profiles) -> None:
    """At the start of the service, resolve unknown topics again: a newer taxonomy may know them."""
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    waiting = [stored async for stored in profiles.persons.find({**LIVING, "topics.unknown": {"$ne": []}})]
    for stored in waiting:
        if refresh_person(stored.state, programmes, now) is not None:
            await profiles.persons.update(
                stored.id,
                Op(f"taxonomy/{stored.version}"),
                lambda person: refresh_person(person, programmes, now),
            )


async def plan_unknown_topics(profiles: Profiles) -> None:
    """At the first start of the service: begin the weekly list for coordinators."""
    now = profiles.clock.now()
    await profiles.unknown_topics.update(UNKNOWN_TOPICS_ID, Op("plan"), lambda current: plan_list(current, now))


async def list_unknown_topics(stored: Stored[UnknownTopics], profiles: Profiles) -> None:
    """Make the list of a new week. Called by a ``Sweep``."""
    due, now = stored.state.due, profiles.clock.now()
    if due is None:
        return
    people = await profiles.count_unknown_topics()
    op = Op(f"week/{stored_instant(due)}")
    await profiles.unknown_topics.update(stored.id, op, lambda current: make_list(current, due, people, now))
