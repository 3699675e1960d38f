"""The final figures, counted twice: from the databases, and by the independent subscriber.

The demo fails when the two disagree, so it is a check of the whole system.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from cli.demo.audit import Audit
from cli.demo.subscriber import Witness
from contracts.catalogue import SERVICES

_AUDIT_FIELDS = (
    "members", "enrolled", "rounds", "proposed", "lapsed", "formed", "chartered", "sessions_held", "checkins",
    "partner_changes", "ended",
)  # fmt: skip


@dataclass(frozen=True)
class FinalCounts:
    """Figures at one moment: stored documents, people whose erasure every service confirmed, and dead letters."""

    audit: Audit
    erased: int
    dead_letters: int

    def to_json(self, witness: Witness) -> dict[str, Any]:
        return {
            **{name: getattr(self.audit, name) for name in _AUDIT_FIELDS},
            "erased": self.erased,
            "notifications_sent": self.audit.notifications_sent,
            "mails": self.audit.mails,
            "dead_letters": self.dead_letters,
            "pairings_erased": len(witness.erased_pairings),
            "pairings_by_state": dict(sorted(self.audit.states.items())),
            "events_by_topic": witness.count_by_topic(),
            "events_by_type": dict(sorted(witness.event_counts.items())),
        }


def find_disagreements(counts: FinalCounts, witness: Witness) -> list[str]:
    """A sentence for each figure on which the services and the subscriber differ. Empty when all agree."""
    audit, erased = counts.audit, witness.erased_pairings

    def count_seen(kind: str) -> int:
        """The number of aggregates with such an event, without pairings of erased people, which no service stores."""
        return len(witness.subjects_by_type.get(f"mentoring.{kind}.v1", set()) - erased)

    pairs = (
        ("people, erased ones included", audit.members + counts.erased, count_seen("profile.changed")),
        ("rounds published", audit.rounds, count_seen("round.published")),
        ("pairings proposed", audit.proposed, count_seen("pairing.proposed")),
        ("pairings that lapsed", audit.lapsed, count_seen("pairing.lapsed")),
        ("pairings that formed", audit.formed, count_seen("pairing.formed")),
        ("pairings with a charter", audit.chartered, count_seen("pairing.chartered")),
        ("pairings that ended", audit.ended, count_seen("pairing.ended")),
        ("meetings held", audit.sessions_held, witness.count_meetings("held")),
        ("check-ins completed", audit.checkins, witness.count_answered_checkins()),
        ("requests for another partner", audit.partner_changes, count_seen("partner.change.requested")),
        (
            "messages sent with a public event",
            audit.published_notifications,
            len(witness.subjects_by_type["mentoring.notification.sent.v1"]),
        ),
        ("mails in the Maildir", audit.mails_sent, audit.mails_sent if audit.mails is None else audit.mails),
        ("erasures requested", counts.erased, count_seen("erasure.requested")),
        (
            "confirmations of erasure",
            counts.erased * len(SERVICES),
            witness.event_counts["mentoring.erasure.completed.v1"],
        ),
    )
    differences = [
        f"{what}: the services say {in_services}, the subscriber saw {in_events}"
        for what, in_services, in_events in pairs
        if in_services != in_events
    ]
    states = Counter(witness.states.values())
    if states != Counter(audit.states):
        differences.append(
            f"states of pairings: the services say {dict(audit.states)}, the compacted topic {dict(states)}"
        )
    if counts.dead_letters:
        differences.append(f"{counts.dead_letters} dead letters: see `viceversa dead-letters list`")
    return differences
