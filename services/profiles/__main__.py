"""Composition root: ``python -m services.profiles``."""

from functools import partial

from chassis.core.settings import load_section
from chassis.service import Chassis, ServiceDefinition, run
from chassis.sweeps import Sweep
from contracts.pairings import PairingState
from contracts.privacy import ERASURE_REQUESTS, erasure_completions_of
from contracts.profiles import CONTACTS, PROFILES
from contracts.programmes import ProgrammeChanged
from services.profiles import due_work, import_routes, import_runner, import_watch, routes
from services.profiles.domain.imports import HrImport
from services.profiles.domain.person import Person, public_contact, public_profile
from services.profiles.domain.unknown_topics import UnknownTopics
from services.profiles.handlers import registry
from services.profiles.settings import ProfilesSettings
from services.profiles.store import (
    IMPORT_ERROR_INDEXES,
    IMPORT_INDEXES,
    PAIRING_INDEXES,
    PERSON_INDEXES,
    UPLOAD_INDEXES,
    ExternalIdKeys,
    Profiles,
    Uploads,
)

PORT = 8101


def build(chassis: Chassis, settings: ProfilesSettings | None = None) -> ServiceDefinition[Profiles]:
    """``settings``: the ones of the environment, if none are given."""
    keys = ExternalIdKeys(
        chassis.documents("keys"), chassis.documents("settings"), chassis.settings.required_hmac_key()
    )
    profiles = Profiles(
        persons=chassis.aggregates(
            "persons", Person, publishes={PROFILES: public_profile, CONTACTS: public_contact}, indexes=PERSON_INDEXES
        ),
        imports=chassis.aggregates("imports", HrImport, indexes=IMPORT_INDEXES),
        programmes=chassis.projection("programmes", ProgrammeChanged),
        pairings=chassis.projection("pairings", PairingState, PAIRING_INDEXES),
        keys=keys,
        uploads=Uploads(chassis.documents("uploads", UPLOAD_INDEXES)),
        import_errors=chassis.documents("import_errors", IMPORT_ERROR_INDEXES),
        unknown_topics=chassis.aggregates("unknown_topics", UnknownTopics),
        clock=chassis.clock,
        settings=settings or load_section(ProfilesSettings),
    )
    return ServiceDefinition(
        context=profiles,
        handlers=registry,
        routers=[routes.router, import_routes.router],
        publishes=[PROFILES, CONTACTS, ERASURE_REQUESTS, erasure_completions_of("profiles")],
        sweeps=[
            Sweep(profiles.persons, partial(due_work.end_employment, profiles=profiles), on="due"),
            Sweep(profiles.persons, partial(due_work.forget_erased_person, profiles=profiles), on="lease"),
            Sweep(profiles.unknown_topics, partial(due_work.list_unknown_topics, profiles=profiles), on="due"),
            Sweep(profiles.imports, partial(import_runner.drive_import, profiles=profiles), on="lease"),
        ],
        background=[
            partial(due_work.resolve_topics_again, profiles),
            partial(due_work.plan_unknown_topics, profiles),
            partial(import_watch.watch_imports, profiles, chassis.health),
        ],
    )


if __name__ == "__main__":
    run("profiles", build, PORT)
