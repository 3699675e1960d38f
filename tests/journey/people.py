"""People of the journey: HR's file with their data, and their actions over HTTP."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import httpx

from chassis.web.dev_tokens import issue_token
from cli.installation import ISSUER
from tests.journey.conditions import QUIET_MACHINE_S, wait_until
from tests.journey.stack import Stack

Json = dict[str, Any]
Side = Literal["senior", "junior"]

KNOWS: Mapping[Side, str] = {
    "senior": "leadership:teach;budgeting:use",
    "junior": "generative-ai:teach;social-media:use",
}
WANTS: Mapping[Side, str] = {"senior": "generative-ai:3;social-media:2", "junior": "leadership:3;budgeting:2"}
DEPARTMENTS = ("finance", "production", "sales", "research")


@dataclass(frozen=True)
class JourneyPerson:
    """One row of HR's file."""

    external_id: str
    side: Side
    name: str
    department: str = "finance"
    level: int = 0
    email: str = ""
    capacity: int = 1
    manager: str = ""

    def row(self, programme: str | None) -> dict[str, str]:
        filled = {
            "external_id": self.external_id,
            "name": self.name,
            "organisation": "halden",
            "department": self.department,
            "level": str(self.level or (16 if self.side == "senior" else 6)),
            "email": self.email,
            "manager": self.manager,
            "languages": "en",
            "offers": KNOWS[self.side],
            "seeks": WANTS[self.side],
        }
        invited = {"programme": programme, "side": self.side, "capacity": str(self.capacity)} if programme else {}
        return {**filled, **invited}


def cohort(mark: str, seniors: int, juniors: int, *, capacity: int = 1) -> list[JourneyPerson]:
    """People who fit each other, in different departments.

    ``mark`` is the prefix of their HR numbers and keeps cohorts apart.
    """
    wanted: list[tuple[Side, int]] = [("senior", n) for n in range(seniors)] + [("junior", n) for n in range(juniors)]
    return [
        JourneyPerson(
            external_id=f"{mark}-{side[0].upper()}{n:03}",
            side=side,
            name=f"{mark.title()} {side.title()} {n}",
            department=DEPARTMENTS[(n + (side == "junior")) % len(DEPARTMENTS)],
            email=f"{mark}.{side}.{n}@halden.example",
            capacity=capacity,
        )
        for side, n in wanted
    ]


def csv_of(people: Iterable[JourneyPerson], programme: str | None = None) -> bytes:
    rows = [somebody.row(programme) for somebody in people]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def settings(**changes: Json | list[str]) -> Json:
    """A programme's settings that exclude no member of a ``cohort``; ``changes`` by section, such as ``matching``."""
    return {
        "labels": {"en": {"name": "Fresh Eyes", "senior": "experienced partner", "junior": "fresh-eyed partner"}},
        "organisations": ["halden"],
        "confidential_contact": "speak-up",
        "notice": "1",
        **changes,
    }


def ok(response: httpx.Response) -> Any:
    """The body of the response. An error response fails the test with its text."""
    assert response.is_success, (
        f"{response.request.method} {response.request.url}: {response.status_code} {response.text}"
    )
    return response.json()


@dataclass
class Members:
    """A programme with its members, each with their own token. ``ids`` are member ids by HR's numbers."""

    stack: Stack
    programme: str
    people: Sequence[JourneyPerson]
    ids: dict[str, str]

    def of(self, side: Side) -> list[str]:
        return [self.ids[somebody.external_id] for somebody in self.people if somebody.side == side]

    def profiles(self, member: str) -> httpx.Client:
        return self.stack.api("profiles", _own(self.stack, member))

    def matcher(self, member: str, replica: str = "matcher") -> httpx.Client:
        return self.stack.api(replica, _own(self.stack, member))

    def notifier(self, member: str) -> httpx.Client:
        return self.stack.api("notifier", _own(self.stack, member))

    def feedback(self, member: str) -> httpx.Client:
        return self.stack.api("feedback", _own(self.stack, member))

    def coordinator(self, service: str = "matcher") -> httpx.Client:
        return self.stack.api(service, _coordinating(self.stack, self.programme))

    # -- acts of members --------------------------------------------------------------------------------------------

    def join(self, member: str) -> Json:
        """Accept the notice and enrol; HR's offers and wishes make the member ready."""
        seen = {"notice": "1", "briefed": True}
        return dict(ok(self.profiles(member).put(f"/members/me/enrolments/{self.programme}", json=seen)))

    def answer(self, member: str, pairing_id: str, answer: str, **more: str) -> Json:
        return dict(ok(self.matcher(member).post(f"/pairings/{pairing_id}/answer", json={"answer": answer, **more})))

    def accept_both(self, pairing: Json) -> Json:
        """Both accept; return the pairing."""
        answered: Json = {}
        for member in partners(pairing):
            answered = self.answer(member, pairing["pairing_id"], "accepted")
        return answered

    # -- acts of a coordinator -----------------------------------------------------------------------------------

    def round(self) -> Json:
        """Compute a round and wait for it."""
        started = ok(self.coordinator().post(f"/programmes/{self.programme}/rounds", json={}))
        return self.round_when(started["round_id"], "computed")

    def publish(self, round_id: str) -> Json:
        ok(self.coordinator().post(f"/rounds/{round_id}/publish"))
        return self.round_when(round_id, "published")

    def round_when(self, round_id: str, state: str, seconds: float = QUIET_MACHINE_S) -> Json:
        """Wait for this state of the round; a failed round fails the test with its reason."""

        def reached() -> Json | None:
            current: Json = ok(self.coordinator().get(f"/rounds/{round_id}"))
            assert current["state"] != "failed", current["why"]
            return current if current["state"] == state else None

        return wait_until(reached, f"the round {state}", seconds)

    def pairings(self, **query: str) -> list[Json]:
        """All pairings that the coordinator can see."""
        parameters = {"programme_id": self.programme, **query}
        return everything(partial(self.coordinator().get, "/pairings"), parameters)

    def pairing(self, pairing_id: str) -> Json:
        return dict(ok(self.coordinator().get(f"/pairings/{pairing_id}")))

    def ledger(self, member: str) -> Json:
        return dict(ok(self.stack.api("matcher", admin(self.stack)).get(f"/ledgers/{member}")))


def partners(pairing: Json) -> tuple[str, str]:
    """Member ids of the senior and the junior."""
    by_side = {participant["side"]: str(participant["member_id"]) for participant in pairing["participants"]}
    return by_side["senior"], by_side["junior"]


def everything(ask: Callable[..., httpx.Response], query: Mapping[str, str]) -> list[Json]:
    """Every item of a list, page by page."""
    items: list[Json] = []
    parameters: dict[str, str] = {**query, "limit": "200"}
    while True:
        page = ok(ask(params=parameters))
        items += page["items"]
        if not page["next"]:
            return items
        parameters["after"] = page["next"]


def open_programme(stack: Stack, programme: str, **changes: Json | list[str]) -> Json:
    api = stack.api("matcher", admin(stack))
    ok(api.post("/programmes", json={"programme_id": programme, "settings": settings(**changes)}))
    return dict(ok(api.post(f"/programmes/{programme}/open")))


def begin_import(stack: Stack, content: bytes, key: str | None = None) -> str:
    """Upload HR's file; return the id of the import."""
    headers = {"Content-Type": "text/csv", **({"Idempotency-Key": key} if key else {})}
    answer = stack.api("profiles", admin(stack)).post("/imports", content=content, headers=headers)
    return str(ok(answer)["import_id"])


def imported(stack: Stack, import_id: str, seconds: float = QUIET_MACHINE_S) -> Json:
    """Wait for the success of an import."""

    def done() -> Json | None:
        report: Json = ok(stack.api("profiles", admin(stack)).get(f"/imports/{import_id}"))
        assert report["state"] != "failed", report["failure"]
        return report if report["state"] == "done" else None

    return wait_until(done, "the import done", seconds)


def ids_of(stack: Stack, programme: str) -> dict[str, str]:
    """Member ids by HR's number, for all members of the programme."""
    members = everything(partial(stack.api("profiles", admin(stack)).get, "/members"), {"programme": programme})
    return {member["external_ids"][0]["id"]: str(member["member_id"]) for member in members}


def a_programme(stack: Stack, programme: str, people: Sequence[JourneyPerson], **changes: Json | list[str]) -> Members:
    """An open programme whose people are imported, enrolled and ready, in every service."""
    open_programme(stack, programme, **changes)
    stack.settle()
    return newcomers(stack, programme, people)


def newcomers(stack: Stack, programme: str, people: Sequence[JourneyPerson]) -> Members:
    """New people of an open programme: imported, enrolled and ready, in every service."""
    imported(stack, begin_import(stack, csv_of(people, programme)))
    wanted = {somebody.external_id for somebody in people}
    ids = {external: id for external, id in ids_of(stack, programme).items() if external in wanted}
    members = Members(stack, programme, people, ids)
    for id in ids.values():
        members.join(id)
    stack.settle()
    return members


def _own(stack: Stack, member: str) -> str:
    return _token(stack, member, ("member",), ())


def admin(stack: Stack) -> str:
    return _token(stack, None, ("admin",), ())


def second_admin(stack: Stack) -> str:
    """Another admin, since nobody releases their own import."""
    return issue_token(stack.data, None, ("admin",), (), subject="second-admin", issuer=stack.urls[ISSUER])


def _coordinating(stack: Stack, programme: str) -> str:
    return _token(stack, None, ("coordinator",), (programme,))


_tokens: dict[tuple[str, str | None, tuple[str, ...], tuple[str, ...]], str] = {}


def _token(stack: Stack, member: str | None, roles: tuple[str, ...], programmes: tuple[str, ...]) -> str:
    """One token for each principal: it is valid for an hour, and clients are cached by token."""
    key = (stack.prefix, member, roles, programmes)
    if key not in _tokens:
        _tokens[key] = stack.token(member, *roles, programmes=programmes)
    return _tokens[key]
