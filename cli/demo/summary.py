"""The figures at the end, counted twice: as they lie in the databases, and as the independent subscriber saw it happen.

The demo fails when the two disagree: it is a check of the whole system, not a show.
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
    """At one moment: the documents, the people whom every service has confirmed to have forgotten, dead letters."""

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


def find_disagreements(counted: FinalCounts, witness: Witness) -> list[str]:
    """A sentence for each figure on which the services and the subscriber differ; empty when all agree."""
    found, gone = counted.audit, witness.erased_pairings

    def seen(kind: str) -> int:
        """Aggregates, without pairings that went with somebody who was erased: no service knows them any longer."""
        return len(witness.subjects_by_type.get(f"mentoring.{kind}.v1", set()) - gone)

    pairs = (
        ("people, erased ones included", found.members + counted.erased, seen("profile.changed")),
        ("rounds published", found.rounds, seen("round.published")),
        ("pairings proposed", found.proposed, seen("pairing.proposed")),
        ("pairings that lapsed", found.lapsed, seen("pairing.lapsed")),
        ("pairings that formed", found.formed, seen("pairing.formed")),
        ("pairings with a charter", found.chartered, seen("pairing.chartered")),
        ("pairings that ended", found.ended, seen("pairing.ended")),
        ("meetings held", found.sessions_held, witness.count_meetings("held")),
        ("check-ins completed", found.checkins, witness.count_answered_checkins()),
        ("wishes for another partner", found.partner_changes, seen("partner.change.requested")),
        (
            "messages sent that events tell of",
            found.published_notifications,
            len(witness.subjects_by_type["mentoring.notification.sent.v1"]),
        ),
        ("mails in the Maildir", found.mails_sent, found.mails_sent if found.mails is None else found.mails),
        ("erasures asked for", counted.erased, seen("erasure.requested")),
        (
            "confirmations of erasure",
            counted.erased * len(SERVICES),
            witness.event_counts["mentoring.erasure.completed.v1"],
        ),
    )
    said = [
        f"{what}: the services say {here}, the subscriber saw {there}" for what, here, there in pairs if here != there
    ]
    states = Counter(witness.states.values())
    if states != Counter(found.states):
        said.append(f"states of pairings: the services say {dict(found.states)}, the compacted topic {dict(states)}")
    if counted.dead_letters:
        said.append(f"{counted.dead_letters} dead letters: see `viceversa dead-letters list`")
    return said
