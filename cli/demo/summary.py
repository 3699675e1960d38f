"""The figures at the end, counted twice: as the services answer, and as the independent subscriber saw it happen.

The demo fails when the two disagree: it is a check of the whole system, not a show.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.demo.subscriber import Witness

OPEN_STATES = ("proposed",)
SERVICES = 4


@dataclass(frozen=True)
class Counted:
    """As the services answer. Pairings are counted by the furthest of proposed, lapsed and formed that they reached;
    ``states`` counts them by the state they are in now.
    """

    members: int
    enrolled: int
    rounds: int
    proposed: int
    lapsed: int
    formed: int
    erased: int
    dead_letters: int
    states: Mapping[str, int]

    def as_json(self, witness: Witness) -> dict[str, Any]:
        names = ("members", "enrolled", "rounds", "proposed", "lapsed", "formed", "erased", "dead_letters")
        return {
            **{name: getattr(self, name) for name in names},
            "pairings_erased": len(witness.gone),
            "pairings_by_state": dict(sorted(self.states.items())),
            "events_by_topic": witness.by_topic(),
            "events_by_type": dict(sorted(witness.types.items())),
        }


def furthest(pairings: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many pairings came how far: still proposed, lapsed, or formed (whatever became of them afterwards)."""
    reached: Counter[str] = Counter()
    for pairing in pairings:
        if pairing["formed_at"]:
            reached["formed"] += 1
        else:
            reached["proposed" if pairing["state"] in OPEN_STATES else "lapsed"] += 1
    return reached


def disagreements(counted: Counted, witness: Witness) -> list[str]:
    """A sentence for each figure on which the services and the subscriber differ; empty when all agree."""

    def seen(kind: str) -> int:
        """Aggregates, without pairings that went with somebody who was erased: no service knows them any longer."""
        return len(witness.reached.get(f"mentoring.{kind}.v1", set()) - witness.gone)

    everything = counted.proposed + counted.lapsed + counted.formed
    pairs = (
        ("people, erased ones included", counted.members + counted.erased, seen("profile.changed")),
        ("rounds published", counted.rounds, seen("round.published")),
        ("pairings proposed", everything, seen("pairing.proposed")),
        ("pairings that lapsed", counted.lapsed, seen("pairing.lapsed")),
        ("pairings that formed", counted.formed, seen("pairing.formed")),
        ("pairings that ended", counted.states.get("ended", 0), seen("pairing.ended")),
        ("erasures asked for", counted.erased, seen("erasure.requested")),
        ("confirmations of erasure", counted.erased * SERVICES, witness.types["mentoring.erasure.completed.v1"]),
    )
    found = [f"{what}: the services say {said}, the subscriber saw {saw}" for what, said, saw in pairs if said != saw]
    states = Counter(witness.states.values())
    if states != Counter(counted.states):
        found.append(f"states of pairings: the services say {dict(counted.states)}, the compacted topic {dict(states)}")
    if counted.dead_letters:
        found.append(f"{counted.dead_letters} dead letters: see `viceversa dead-letters list`")
    return found
