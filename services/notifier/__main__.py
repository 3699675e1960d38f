"""Composition root: ``python -m services.notifier``."""

from functools import partial

from chassis.core.settings import load_section
from chassis.erasure import Erasure
from chassis.service import Chassis, ServiceDefinition, run
from chassis.sweeps import Sweep
from contracts.feedback import FeedbackEvent
from contracts.notifications import NOTIFICATIONS
from contracts.pairings import PairingEvent
from contracts.privacy import erasure_completions_of
from contracts.profiles import ContactChanged
from contracts.programmes import ProgrammeChanged
from contracts.requests import RequestEvent
from services.notifier import routes
from services.notifier.bounces import poll_maildir
from services.notifier.create import retry_postponed
from services.notifier.domain.early_events import PostponedEvent
from services.notifier.domain.notification import Notification
from services.notifier.domain.recipient import Recipient
from services.notifier.handlers import advance_erasure, registry
from services.notifier.mail import Mailer
from services.notifier.rendering import load_languages
from services.notifier.sending import send_due_notification
from services.notifier.settings import MailSettings
from services.notifier.store import (
    CONTACT_INDEXES,
    NOTIFICATION_INDEXES,
    PAIRING_INDEXES,
    RECIPIENT_INDEXES,
    REQUEST_INDEXES,
    Notifier,
)

PORT = 8103


def build(chassis: Chassis) -> ServiceDefinition[Notifier]:
    load_languages()  # an invalid template file stops the start
    mail = load_section(MailSettings)
    notifier = Notifier(
        contacts=chassis.projection("contacts", ContactChanged, CONTACT_INDEXES),
        programmes=chassis.projection("programmes", ProgrammeChanged),
        pairings=chassis.projection("pairings", PairingEvent, PAIRING_INDEXES),
        requests=chassis.projection("requests", RequestEvent, REQUEST_INDEXES),
        feedback=chassis.projection("feedback", FeedbackEvent),
        done=chassis.documents("done"),
        notifications=chassis.aggregates("notifications", Notification, indexes=NOTIFICATION_INDEXES),
        recipients=chassis.aggregates("readers", Recipient, indexes=RECIPIENT_INDEXES),
        postponed_events=chassis.aggregates("waiting", PostponedEvent),
        erasures=chassis.aggregates("erasures", Erasure),
        clock=chassis.clock,
        mailer=Mailer(mail),
        link_base=mail.link_base,
    )
    send = partial(send_due_notification, notifier=notifier)
    reports = [partial(poll_maildir, mail.bounce_maildir, notifier)] if mail.bounce_maildir else []
    return ServiceDefinition(
        context=notifier,
        handlers=registry,
        routers=[routes.router],
        publishes=[NOTIFICATIONS, erasure_completions_of("notifier")],
        sweeps=[
            Sweep(notifier.notifications, send, on="due"),
            Sweep(notifier.notifications, send, on="lease"),
            Sweep(notifier.postponed_events, partial(retry_postponed, notifier=notifier), on="lease"),
            Sweep(notifier.erasures, partial(advance_erasure, notifier=notifier), on="lease"),
        ],
        background=reports,
    )


if __name__ == "__main__":
    run("notifier", build, PORT)
