"""The events that profiles consumes, and its reactions to them."""

from chassis.messaging.subscriptions import HandlerRegistry, ReceivedEvent
from chassis.storage.aggregates import Change
from chassis.storage.mongo import chunks
from contracts.errors import CommandRejected
from contracts.pairings import PairingState
from contracts.privacy import ErasureCompleted
from contracts.programmes import ProgrammeChanged
from services.profiles.domain.person import record_completed_erasure, refresh_person
from services.profiles.store import LIVING, Profiles

registry: HandlerRegistry[Profiles] = HandlerRegistry()
registry.project(ProgrammeChanged, lambda profiles: profiles.programmes)
registry.project(PairingState, lambda profiles: profiles.pairings)


@registry.on(ProgrammeChanged)
async def when_a_programme_changes_see_who_is_ready(event: ReceivedEvent[ProgrammeChanged], profiles: Profiles) -> None:
    """Derive the state of all participants again: they must see a new version of the notice before they are ready."""
    programmes, now = await profiles.all_programmes(), profiles.clock.now()
    taking_part = {**LIVING, "enrolments.programme_id": event.data.programme_id}
    ids = [stored.id async for stored in profiles.persons.find(taking_part)]
    op = event.op("when_a_programme_changes_see_who_is_ready")
    for chunk in chunks(ids):
        results = await profiles.persons.update_many(
            [Change(id, op, lambda person: refresh_person(person, programmes, now)) for id in chunk],
            cause=event.envelope,
        )
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, CommandRejected):  # erased in the meantime
                raise result


@registry.on(ErasureCompleted)
async def when_a_service_has_forgotten_somebody_note_it(
    event: ReceivedEvent[ErasureCompleted], profiles: Profiles
) -> None:
    await profiles.persons.update(
        event.data.member_id,
        event.op("when_a_service_has_forgotten_somebody_note_it"),
        lambda person: record_completed_erasure(person, event.data.service, event.data.completed_at),
        cause=event.envelope,
    )
