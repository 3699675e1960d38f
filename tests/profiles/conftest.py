"""The real service on a real store, inside the test's process. Tests run the sweeps; no event is published."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from chassis.core.settings import Settings
from chassis.service import Chassis, ServiceDefinition
from chassis.storage.aggregates import Aggregates, stored_instant
from chassis.storage.projections import ProjectionRow
from chassis.web.authentication import Principal, Role
from chassis.web.http import create_app
from contracts.envelope import EventData
from contracts.pairings import PairingState, Participant
from contracts.profiles import Side
from contracts.programmes import Labels, ProgrammeChanged, ProgrammeSettings
from deploy.local import stack
from services.profiles.__main__ import build
from services.profiles.domain.person import Person
from services.profiles.settings import ProfilesSettings
from services.profiles.store import Profiles

SIDES: tuple[Side, Side] = ("senior", "junior")


class FakeTokenVerifier:
    """Maps each token to a principal, instead of checking a signature."""

    def __init__(self) -> None:
        self.principals: dict[str, Principal] = {}

    async def verify(self, token: str) -> Principal:
        return self.principals[token]


@dataclass
class ProfilesHarness:
    """One service in this process. ``restart`` replaces ``chassis``, as a new process would."""

    settings: Settings
    chassis: Chassis
    service: ServiceDefinition[Profiles]
    tokens: FakeTokenVerifier

    @property
    def profiles(self) -> Profiles:
        return self.service.context

    async def restart(self) -> None:
        self.chassis.mongo.close()
        self.chassis = Chassis("profiles", self.settings)
        self.service = build(self.chassis, self.profiles.settings)
        await self.chassis.prepare_database()

    def configure(self, **settings: Any) -> None:
        """Give the service other settings of its own."""
        self.service = build(self.chassis, ProfilesSettings(**settings))

    def client(
        self,
        *roles: Role,
        member: str | None = None,
        programmes: tuple[str, ...] = (),
        subject: str | None = None,
        undeclared: bool = False,
    ) -> httpx.AsyncClient:
        """A client of the HTTP API as this principal. ``undeclared``: nobody knows who is behind the account."""
        token = subject or member or "-".join(roles)
        self.tokens.principals[token] = Principal(
            token, member, frozenset(roles), frozenset(programmes), no_member=member is None and not undeclared
        )
        app = create_app(
            "profiles",
            self.settings,
            routers=self.service.routers,
            context=self.service.context,
            verifier=self.tokens,  # type: ignore[arg-type]
        )
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://profiles", headers={"Authorization": f"Bearer {token}"}
        )

    async def sweep(self) -> None:
        """Run all sweeps until nothing is due any longer."""
        for _ in range(20):
            if not sum([await sweep.once(self.chassis.clock) for sweep in self.service.sweeps]):
                return
        raise AssertionError("the sweeps never finish")

    async def let_leases_pass(self) -> None:
        """Let every lease expire now, as if its holder had stopped a minute ago."""
        for aggregates in (self.profiles.persons, self.profiles.imports):
            now = self.chassis.clock.machine_now()
            await aggregates.collection.update_many({"lease": {"$ne": None}}, {"$set": {"lease": now}})

    async def let_run(self, import_id: str) -> dict[str, Any]:
        """Run everything that is due, and return the import afterwards."""
        await self.sweep()
        return await self.load_import(import_id)

    async def start_import(self, csv: str | bytes, **query: str) -> str:
        async with self.client("admin") as admin:
            response = await admin.post("/imports", content=csv, params=query)
            assert response.status_code == 202, response.text
            return str(response.json()["import_id"])

    async def import_file(self, csv: str | bytes, **query: str) -> dict[str, Any]:
        """Upload a file, run its import, and return the import afterwards."""
        import_id = await self.start_import(csv, **query)
        await self.sweep()
        return await self.load_import(import_id)

    async def load_import(self, import_id: str) -> dict[str, Any]:
        async with self.client("admin") as admin:
            return dict((await admin.get(f"/imports/{import_id}")).json())

    async def import_errors(self, import_id: str) -> list[tuple[int, str, str]]:
        """The entries of the report: line, column, code."""
        async with self.client("admin") as admin:
            entries = (await admin.get(f"/imports/{import_id}/errors", params={"limit": 200})).json()["items"]
            return [(entry["line"], entry["column"], entry["code"]) for entry in entries]

    async def find_person(self, external_id: str, source: str = "hr") -> Person | None:
        members = await self.profiles.keys.find_members([f"{source}\x1f{external_id}"])
        stored = await self.profiles.persons.get(members[ref]) if (ref := next(iter(members), None)) else None
        return stored.state if stored else None

    async def member(self, external_id: str) -> Person:
        person = await self.find_person(external_id)
        assert person is not None, f"{external_id} was imported"
        return person

    async def outbox_events(self, aggregates: Aggregates[Any], id: str) -> list[tuple[str, Any]]:
        """The events that wait in an outbox: topic and data; None for a tombstone."""
        document = await aggregates.collection.find_one({"_id": id})
        assert document is not None
        return [(entry["topic"], entry.get("data")) for entry in document["outbox"]]

    async def project_events(self, *events: EventData, sequence: int = 1) -> None:
        """Write these events to their projections, as the consumer does."""
        for event in events:
            projection = self.service.handlers.find_projection(event.TYPE, self.profiles)
            assert projection is not None
            await projection.apply([ProjectionRow(event.key(), sequence, event)])

    async def publish_programme(
        self,
        programme_id: str = "p1",
        *,
        notice: str = "1",
        state: str = "open",
        coordinators: tuple[str, ...] = (),
        sequence: int = 1,
    ) -> None:
        changed = programme(
            programme_id, notice=notice, state=state, coordinators=coordinators, now=self.chassis.clock.now()
        )
        await self.project_events(changed, sequence=sequence)


def programme(
    programme_id: str, *, now: Any, notice: str = "1", state: Any = "open", coordinators: tuple[str, ...] = ()
) -> ProgrammeChanged:
    return ProgrammeChanged(
        programme_id=programme_id,
        version=1,
        state=state,
        settings=ProgrammeSettings(
            labels={"en": Labels(name="Both ways")},
            organisations=("halden",),
            confidential_contact="ombuds",
            notice=notice,
            coordinators=coordinators,
        ),
        happened_at=now,
        recorded_at=now,
    )


def pairing(pairing_id: str, *members: str, now: Any, state: Any = "formed") -> PairingState:
    return PairingState(
        pairing_id=pairing_id,
        state=state,
        happened_at=now,
        recorded_at=now,
        programme_id="p1",
        programme_version=1,
        origin="round",
        participants=tuple(
            Participant(member_id=member, side=side, organisation_id="halden", department_id="it")
            for member, side in zip(members, SIDES, strict=True)
        ),
        proposed_at=now,
        answer_by=now,
    )


@pytest.fixture
async def harness(servers: stack.Endpoints, prefix: str) -> AsyncIterator[ProfilesHarness]:
    settings = Settings(
        kafka=servers.kafka,
        mongo=SecretStr(servers.mongo),
        topic_prefix=prefix,
        hmac_key=SecretStr("a secret of the tests, long enough"),
    )
    chassis = Chassis("profiles", settings)
    created = ProfilesHarness(settings, chassis, build(chassis), FakeTokenVerifier())
    await chassis.prepare_database()
    yield created
    created.chassis.mongo.close()


__all__ = ["ProfilesHarness", "pairing", "programme", "stored_instant"]
