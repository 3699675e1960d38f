"""The access rules of the broker: exactly what each user of Kafka needs, made from the catalogue.

``READ`` and ``WRITE`` of a topic include ``DESCRIBE``. An idempotent producer needs nothing but ``WRITE``. Only
``provision`` creates topics.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from contracts import feedback, notifications, pairings, privacy, profiles, programmes, requests, unmatched
from contracts.catalogue import FORMER_TOPICS, SERVICES, TOPICS
from contracts.envelope import Topic, dead_letters_of, retries_of

Operation = Literal["READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"]

COMMANDS, PROVISION, SUBSCRIBER = "commands", "provision", "subscriber"
USERS = (*SERVICES, COMMANDS, PROVISION, SUBSCRIBER)

SUBSCRIPTIONS: Mapping[str, tuple[Topic, ...]] = {
    "profiles": (programmes.PROGRAMMES, pairings.PAIRING_STATES, *privacy.ERASURE_COMPLETIONS),
    "matcher": (
        profiles.PROFILES,
        programmes.PROGRAMMES,
        pairings.PAIRINGS,
        pairings.PAIRING_STATES,
        feedback.FEEDBACK,
        feedback.PARTNER_CHANGES,
        feedback.OUTCOMES,
        privacy.ERASURE_REQUESTS,
    ),
    "notifier": (
        profiles.CONTACTS,
        programmes.PROGRAMMES,
        programmes.ROUNDS,
        pairings.PAIRINGS,
        pairings.ANSWERS,
        requests.REQUESTS,
        unmatched.UNMATCHED,
        feedback.FEEDBACK,
        feedback.CHECKINS,
        privacy.ERASURE_REQUESTS,
    ),
    "feedback": (
        profiles.PROFILES,
        programmes.PROGRAMMES,
        pairings.PAIRINGS,
        pairings.PAIRING_STATES,
        privacy.ERASURE_REQUESTS,
    ),
}
"""The topics that each service reads from others, or from itself. A test compares them with the handlers."""


@dataclass(frozen=True, order=True)
class AccessRule:
    """One user may do one operation on one topic or group, or on all whose names begin with it."""

    user: str
    resource: Literal["topic", "group"]
    name: str
    operation: Operation
    is_prefix: bool = False


def access_rules(prefix: str, users: Iterable[str] = USERS) -> list[AccessRule]:
    """The rules of these users, in a fixed order. Raises ``LookupError`` for an unknown user."""
    rules: list[AccessRule] = []
    for user in users:
        if user in SERVICES:
            rules += _rules_of_service(user, prefix)
        elif user == COMMANDS:
            rules += _topic_rules(
                user, "READ", [pairings.PAIRINGS, feedback.FEEDBACK, notifications.NOTIFICATIONS], prefix
            )
            rules += _topic_rules(user, "READ", map(dead_letters_of, SERVICES), prefix)
            rules += _topic_rules(user, "WRITE", map(retries_of, SERVICES), prefix)
        elif user == PROVISION:
            operations: tuple[Operation, ...] = ("CREATE", "DESCRIBE", "DESCRIBE_CONFIGS")
            rules += [AccessRule(user, "topic", prefix, operation, is_prefix=True) for operation in operations]
        elif user == SUBSCRIBER:
            rules += _topic_rules(user, "READ", (topic for topic in TOPICS if not topic.restricted), prefix)
            rules.append(AccessRule(user, "group", f"{prefix}{SUBSCRIBER}", "READ", is_prefix=True))
        else:
            raise LookupError(f"there is no user {user!r}; the users are {', '.join(USERS)}")
    return rules


def _rules_of_service(service: str, prefix: str) -> list[AccessRule]:
    published = [topic for topic in TOPICS if service in topic.writers]
    guarded = [topic for topic in published if topic.cleanup == "compact"]
    former = [topic for topic in FORMER_TOPICS if service in topic.writers]
    reads = {*SUBSCRIPTIONS[service], *guarded, *former, retries_of(service)}
    return [
        *_topic_rules(service, "READ", reads, prefix),
        *_topic_rules(service, "WRITE", {*published, dead_letters_of(service)}, prefix),
        AccessRule(service, "group", prefix + service, "READ"),
    ]


def _topic_rules(user: str, operation: Operation, topics: Iterable[Topic], prefix: str) -> list[AccessRule]:
    return sorted(AccessRule(user, "topic", topic.full_name(prefix), operation) for topic in topics)
