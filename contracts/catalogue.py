"""The catalogue: every service, every topic and every event type."""

from contracts import feedback, notifications, pairings, privacy, profiles, programmes, requests, unmatched
from contracts.envelope import EventData, Topic, dead_letters_of, retries_of
from contracts.services import SERVICES as _SERVICES

SERVICES = _SERVICES

TOPICS: tuple[Topic, ...] = (
    profiles.PROFILES,
    profiles.CONTACTS,
    programmes.PROGRAMMES,
    programmes.ROUNDS,
    pairings.PAIRINGS,
    pairings.PAIRING_STATES,
    pairings.ANSWERS,
    requests.REQUESTS,
    unmatched.UNMATCHED,
    feedback.FEEDBACK,
    feedback.CHECKINS,
    feedback.PARTNER_CHANGES,
    feedback.OUTCOMES,
    notifications.NOTIFICATIONS,
    privacy.ERASURE_REQUESTS,
    *privacy.ERASURE_COMPLETIONS,
)

FORMER_TOPICS: tuple[Topic, ...] = (privacy.PRIVACY,)
"""Topics that only an earlier version wrote. They are read where they exist, and never created."""

SERVICE_TOPICS: tuple[Topic, ...] = tuple(
    topic for service in SERVICES for topic in (dead_letters_of(service), retries_of(service))
)

EVENTS: tuple[type[EventData], ...] = (
    profiles.ProfileChanged,
    profiles.ContactChanged,
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
    requests.RequestOpened,
    requests.RequestAccepted,
    requests.RequestLapsed,
    requests.RequestWithdrawn,
    unmatched.MemberUnmatched,
    feedback.SessionScheduled,
    feedback.SessionHeld,
    feedback.SessionCancelled,
    feedback.SessionMissed,
    feedback.CheckinDue,
    feedback.CheckinCompleted,
    feedback.ContactNeeded,
    feedback.PartnerChangeRequested,
    feedback.OutcomeRecorded,
    notifications.NotificationSent,
    notifications.NotificationFailed,
    notifications.NotificationSuppressed,
    privacy.ErasureRequested,
    privacy.ErasureCompleted,
)

BY_TYPE: dict[str, type[EventData]] = {event.TYPE: event for event in EVENTS}
