"""Composition root: ``python -m services.notifier``."""

from functools import partial

from chassis.core.settings import load_section
from chassis.service import Chassis, ServiceDefinition, run
from chassis.sweeps import Sweep
from contracts.feedback import FeedbackEvent
from contracts.notifications import NOTIFICATIONS
from contracts.pairings import PairingEvent
from contracts.privacy import PRIVACY
from contracts.profiles import ContactChanged
from contracts.programmes import ProgrammeChanged
from services.notifier.create import look_again
from services.notifier.domain.erasure import Erasure
from services.notifier.domain.notification import Notification
from services.notifier.domain.postponed import Waiting
from services.notifier.domain.recipient import Reader
from services.notifier.handlers import hearing, see_whether_all_is_forgotten
from services.notifier.mail import Mailer
from services.notifier.routes import routes
from services.notifier.sending import say_what_is_due
from services.notifier.settings import MailSettings
from services.notifier.store import Notifier
from services.notifier.templates import languages

PORT = 8103


def build(chassis: Chassis) -> ServiceDefinition[Notifier]:
    languages()  # a file of words that is not as it should be stops the start
    mail = load_section(MailSettings)
    notifier = Notifier(
        contacts=chassis.projection("contacts", ContactChanged),
        programmes=chassis.projection("programmes", ProgrammeChanged),
        pairings=chassis.projection("pairings", PairingEvent),
        feedback=chassis.projection("feedback", FeedbackEvent),
        done=chassis.documents("done"),
        notifications=chassis.aggregates("notifications", Notification),
        readers=chassis.aggregates("readers", Reader),
        waiting=chassis.aggregates("waiting", Waiting),
        erasures=chassis.aggregates("erasures", Erasure),
        clock=chassis.clock,
        mailer=Mailer(mail),
        link_base=mail.link_base,
    )
    say = partial(say_what_is_due, notifier=notifier)
    return ServiceDefinition(
        context=notifier,
        handlers=hearing,
        routers=[routes(notifier)],
        publishes=[NOTIFICATIONS, PRIVACY],
        sweeps=[
            Sweep(notifier.notifications, say, on="due"),
            Sweep(notifier.notifications, say, on="lease"),
            Sweep(notifier.waiting, partial(look_again, notifier=notifier), on="lease"),
            Sweep(notifier.erasures, partial(see_whether_all_is_forgotten, notifier=notifier), on="lease"),
        ],
    )


if __name__ == "__main__":
    run("notifier", build, PORT)
