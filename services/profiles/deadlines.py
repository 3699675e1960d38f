"""What must happen to a person after a save, driven by the times in their own document."""

from datetime import timedelta

from chassis.core.ids import derived_id
from chassis.storage.aggregates import Change, Op, Stored, stored_instant
from contracts.envelope import OutgoingEvent
from contracts.errors import CommandRejected
from services.profiles.domain.person import Decision, Person, changed, forgotten, without
from services.profiles.import_runner import finish
from services.profiles.store import ALIVE, Profiles

LATER = timedelta(seconds=1)


async def end_employment(stored: Stored[Person], profiles: Profiles) -> None:
    """Their last day at work has passed: all conclusions are drawn again."""
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    await profiles.persons.update(
        stored.id,
        Op(f"due/{stored_instant(stored.state.due)}/end_employment"),
        lambda person: changed(person, lambda same: same, programmes, now),
    )


async def forget(stored: Stored[Person], profiles: Profiles) -> None:
    """Forget whatever else is known of an erased person, then say that it is done.

    Every step may be repeated, so it does not matter where a crash interrupts. An import under way may still hold the
    person in its picture; it is waited for. One that waits for a release would, for days: it is closed, and HR's next
    file comes anyway.
    """
    erasure = stored.state.erasure
    if erasure is None:
        return
    await profiles.keys.bury(erasure.keys)
    unfinished = await profiles.unfinished_imports()
    for waiting in unfinished:
        if waiting.state.state == "waiting_for_release":
            await finish(waiting.id, waiting.state, "erasure", profiles)
    if any(one.state.state != "waiting_for_release" for one in unfinished):
        await _later(stored, profiles)
        return
    await _forget_mentions(stored.id, erasure.heir, profiles)
    now = profiles.clock.now()
    await profiles.persons.update(
        stored.id,
        Op(f"lease/{stored_instant(stored.state.lease)}/forgotten"),
        lambda person: forgotten(person, now),
    )


async def _later(stored: Stored[Person], profiles: Profiles) -> None:
    until = profiles.clock.machine_now() + LATER

    def decide(person: Person | None) -> tuple[Person, list[OutgoingEvent]] | None:
        if person is None or person.lease != stored.state.lease:
            return None
        return person.model_copy(update={"lease": until}), []

    await profiles.persons.update(stored.id, Op(f"lease/{stored_instant(stored.state.lease)}/later"), decide)


async def _forget_mentions(gone: str, heir: str | None, profiles: Profiles) -> None:
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    mentioning = [one.id for one in await profiles.mentions(gone) if one.id != gone]
    if not mentioning:
        return

    forgetting = Op(derived_id("forget", gone, heir or ""))  # it stays a while with those who mentioned them

    def decide(person: Person | None) -> Decision:
        return changed(person, lambda known: without(known, gone, heir), programmes, now)

    for result in await profiles.persons.update_many([Change(id, forgetting, decide) for id in mentioning]):
        if isinstance(result, Exception) and not isinstance(result, CommandRejected):  # refused: erased themselves
            raise result


async def read_topics_again(profiles: Profiles) -> None:
    """At the start: what an older taxonomy did not know, this one may."""
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    waiting = [stored async for stored in profiles.persons.find({**ALIVE, "topics.unknown": {"$ne": []}})]
    for stored in waiting:
        if changed(stored.state, lambda same: same, programmes, now) is not None:
            await profiles.persons.update(
                stored.id,
                Op(f"taxonomy/{stored.version}"),
                lambda person: changed(person, lambda same: same, programmes, now),
            )
