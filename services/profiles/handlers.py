"""What profiles hears, and what follows from it."""

from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from chassis.storage.aggregates import Change, Op
from chassis.storage.mongo import chunks
from contracts.errors import CommandRejected
from contracts.pairings import PairingState
from contracts.privacy import ErasureCompleted
from contracts.programmes import ProgrammeChanged
from services.profiles.domain.person import changed, note_completed
from services.profiles.store import ALIVE, Profiles

hearing: HandlerRegistry[Profiles] = HandlerRegistry()
hearing.project(ProgrammeChanged, lambda profiles: profiles.programmes)
hearing.project(PairingState, lambda profiles: profiles.pairings)


@hearing.on(ProgrammeChanged)
async def when_a_programme_changes_see_who_is_ready(event: ReceivedEvent[ProgrammeChanged], profiles: Profiles) -> None:
    """A new version of its notice is yet to be seen by everybody who takes part."""
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    taking_part = {**ALIVE, "enrolments.programme_id": event.data.programme_id}
    ids = [stored.id async for stored in profiles.persons.find(taking_part)]
    op = Op(f"{event.envelope.id}/when_a_programme_changes_see_who_is_ready")
    for some in chunks(ids):
        results = await profiles.persons.update_many(
            [Change(id, op, lambda person: changed(person, lambda same: same, programmes, now)) for id in some],
            cause=event.envelope,
        )
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, CommandRejected):  # refused: erased meanwhile
                raise result


@hearing.on(ErasureCompleted)
async def when_a_service_has_forgotten_somebody_note_it(
    event: ReceivedEvent[ErasureCompleted], profiles: Profiles
) -> None:
    await profiles.persons.update(
        event.data.member_id,
        Op(f"{event.envelope.id}/when_a_service_has_forgotten_somebody_note_it"),
        lambda person: note_completed(person, event.data.service, event.data.completed_at),
        cause=event.envelope,
    )
