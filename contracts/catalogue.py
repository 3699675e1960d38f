"""Every topic and every event type, in one place."""

from contracts import care, pairings, people, programmes
from contracts.envelope import EventData, Topic, dead_letters_of, retries_of

SERVICES = ("profiles", "matcher", "notifier", "feedback")

TOPICS: tuple[Topic, ...] = (
    people.PROFILES,
    people.CONTACTS,
    programmes.PROGRAMMES,
    programmes.ROUNDS,
    pairings.PAIRINGS,
    pairings.PAIRING_STATES,
    pairings.ANSWERS,
    care.FEEDBACK,
    care.OUTCOMES,
    care.NOTIFICATIONS,
    people.PRIVACY,
)

SERVICE_TOPICS: tuple[Topic, ...] = tuple(
    topic for service in SERVICES for topic in (dead_letters_of(service), retries_of(service))
)

EVENTS: tuple[type[EventData], ...] = (
    people.ProfileChanged,
    people.ContactChanged,
    programmes.ProgrammeChanged,
    programmes.RoundComputed,
    programmes.RoundPublished,
    pairings.PairingProposed,
    pairings.PairingLapsed,
    pairings.PairingFormed,
    pairings.PairingChartered,
    pairings.PairingPaused,
    pairings.PairingResumed,
    pairings.PairingRenewed,
    pairings.PairingEnded,
    pairings.PairingState,
    pairings.AnswerGiven,
    care.SessionScheduled,
    care.SessionHeld,
    care.SessionCancelled,
    care.SessionMissed,
    care.CheckinDue,
    care.CheckinCompleted,
    care.ContactNeeded,
    care.PartnerChangeRequested,
    care.OutcomeRecorded,
    care.NotificationSent,
    care.NotificationFailed,
    care.NotificationSuppressed,
    people.ErasureRequested,
    people.ErasureCompleted,
)

BY_TYPE: dict[str, type[EventData]] = {event.TYPE: event for event in EVENTS}
