"""Composition root: ``python -m services.feedback``."""

from functools import partial

from chassis.service import Chassis, Parts, run
from chassis.sweeps import Sweep
from contracts.pairings import PairingState
from contracts.people import PRIVACY
from contracts.programmes import ProgrammeChanged
from services.feedback.domain import Erasure
from services.feedback.handlers import hearing, see_whether_all_is_forgotten
from services.feedback.http import routes
from services.feedback.store import Feedback

PORT = 8104


def build(chassis: Chassis) -> Parts[Feedback]:
    feedback = Feedback(
        pairings=chassis.projection("pairings", PairingState),
        programmes=chassis.projection("programmes", ProgrammeChanged),
        erasures=chassis.aggregates("erasures", Erasure),
        clock=chassis.clock,
    )
    return Parts(
        context=feedback,
        hearing=hearing,
        routers=[routes(feedback)],
        says=[PRIVACY],
        sweeps=[Sweep(feedback.erasures, partial(see_whether_all_is_forgotten, feedback=feedback), on="lease")],
    )


if __name__ == "__main__":
    run("feedback", build, PORT)
