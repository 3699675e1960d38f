"""Composition root: ``python -m services.profiles``."""

from functools import partial

from chassis.service import Chassis, ServiceDefinition, run
from chassis.sweeps import Sweep
from contracts.pairings import PairingState
from contracts.privacy import PRIVACY
from contracts.profiles import CONTACTS, PROFILES
from contracts.programmes import ProgrammeChanged
from services.profiles import deadlines, import_runner
from services.profiles.domain.imports import Import
from services.profiles.domain.person import Person, public_contact, public_profile
from services.profiles.handlers import hearing
from services.profiles.import_routes import import_routes
from services.profiles.routes import routes
from services.profiles.store import Keys, Profiles, Uploads

PORT = 8101


def build(chassis: Chassis) -> ServiceDefinition[Profiles]:
    keys = Keys(chassis.documents("keys"), chassis.documents("settings"), chassis.settings.required_hmac_key())
    profiles = Profiles(
        persons=chassis.aggregates("persons", Person, publishes={PROFILES: public_profile, CONTACTS: public_contact}),
        imports=chassis.aggregates("imports", Import),
        programmes=chassis.projection("programmes", ProgrammeChanged),
        pairings=chassis.projection("pairings", PairingState),
        keys=keys,
        uploads=Uploads(chassis.documents("uploads")),
        report=chassis.documents("import_errors"),
        clock=chassis.clock,
    )
    return ServiceDefinition(
        context=profiles,
        handlers=hearing,
        routers=[routes(profiles), import_routes(profiles)],
        publishes=[PROFILES, CONTACTS, PRIVACY],
        sweeps=[
            Sweep(profiles.persons, partial(deadlines.end_employment, profiles=profiles), on="due"),
            Sweep(profiles.persons, partial(deadlines.forget, profiles=profiles), on="lease"),
            Sweep(profiles.imports, partial(import_runner.drive, profiles=profiles), on="lease"),
        ],
        background=[partial(deadlines.read_topics_again, profiles)],
    )


if __name__ == "__main__":
    run("profiles", build, PORT)
