"""Composition root: ``python -m services.notifier``."""

from functools import partial

from chassis.service import Chassis, Parts, run
from chassis.sweeps import Sweep
from contracts.people import PRIVACY, ContactChanged
from contracts.programmes import ProgrammeChanged
from services.notifier.domain import Erasure
from services.notifier.handlers import hearing, see_whether_all_is_forgotten
from services.notifier.http import routes
from services.notifier.store import Notifier

PORT = 8103


def build(chassis: Chassis) -> Parts[Notifier]:
    notifier = Notifier(
        contacts=chassis.projection("contacts", ContactChanged),
        programmes=chassis.projection("programmes", ProgrammeChanged),
        erasures=chassis.aggregates("erasures", Erasure),
        clock=chassis.clock,
    )
    return Parts(
        context=notifier,
        hearing=hearing,
        routers=[routes(notifier)],
        says=[PRIVACY],
        sweeps=[Sweep(notifier.erasures, partial(see_whether_all_is_forgotten, notifier=notifier), on="lease")],
    )


if __name__ == "__main__":
    run("notifier", build, PORT)
