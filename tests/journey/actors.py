"""The people of the authorization tests: two programmes, their pairings, and people without rights in them.

A third programme has the same coordinator as the first. Tests open it, close it and run rounds in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from chassis.web.dev_tokens import issue_token
from cli.installation import ISSUER
from tests.journey.conditions import wait_until
from tests.journey.people import (
    JourneyPerson,
    Json,
    Members,
    Side,
    begin_import,
    csv_of,
    ids_of,
    imported,
    ok,
    open_programme,
    settings,
)
from tests.journey.stack import Stack

A, B, C = "authz-a", "authz-b", "authz-c"
REASON = "conflict_of_interest"
INVITED = b"external_id\nAZ-BOSS\n"
LATER = "2200-01-01T09:00:00Z"


@dataclass(frozen=True)
class Actors:
    """``ids`` by short name: ``s1`` and ``j1`` are paired, so are ``s2`` and ``j2``, and in the other programme ``sb``
    and ``jb``; ``boss`` stands above ``j1`` and ``j5``, ``head`` above ``s5``; ``x1`` to ``x3`` are there to leave and
    to be erased. The pairings ``f1`` (``s4`` with ``j1``), ``f2`` (``s4`` with ``j4``), ``f3`` (``s5`` with ``j5``) and
    ``fb`` (in the other programme) have formed; ``care`` names a meeting and an idea of ``f1``."""

    stack: Stack
    ids: Mapping[str, str]
    pairings: Mapping[str, str]
    rounds: Mapping[str, str]
    requests: Mapping[str, str]
    imports: dict[str, str] = field(default_factory=dict)
    care: dict[str, str] = field(default_factory=dict)
    suggestions: dict[str, str] = field(default_factory=dict)

    def token(
        self,
        who: str | None,
        *roles: str,
        programmes: tuple[str, ...] = (),
        subject: str | None = None,
        no_member: bool = True,
    ) -> str:
        """Without ``who``, the token declares that no member is behind it, if ``no_member`` says so."""
        return issue_token(
            self.stack.data,
            self.ids[who] if who else None,
            roles,
            programmes,
            subject=subject or who,
            issuer=self.stack.urls[ISSUER],
            no_member=no_member,
        )

    def api(self, service: str, who: str | None, *roles: str, programmes: tuple[str, ...] = ()) -> httpx.Client:
        subject = who or "-".join((*roles, *programmes[:1]))
        key = (service, subject, roles, programmes)
        if key not in _clients:
            token = self.token(who, *roles, programmes=programmes, subject=subject)
            _clients[key] = self.stack.api(service, token)
        return _clients[key]

    def receipt(self, pairing: str) -> str:
        """The id of the receipt of a pairing by its short name."""
        return str(ok(self.admin().get(f"/pairings/{self.pairings[pairing]}"))["receipt_id"])

    def member(self, who: str, service: str = "matcher") -> httpx.Client:
        return self.api(service, who, "member")

    def coordinator(self, programme: str, service: str = "matcher", who: str | None = None) -> httpx.Client:
        return self.api(service, who, *(("member",) if who else ()), "coordinator", programmes=(programme,))

    def admin(self, service: str = "matcher", who: str | None = None) -> httpx.Client:
        return self.api(service, who, *(("member",) if who else ()), "admin")


_clients: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], httpx.Client] = {}


# Name, side, department and manager of the people of programme A.
PEOPLE_OF_A: tuple[tuple[str, Side, str, str], ...] = (
    ("s1", "senior", "finance", ""),
    ("s2", "senior", "sales", ""),
    ("s3", "senior", "research", ""),
    ("s4", "senior", "legal", ""),
    ("s5", "senior", "legal", "AZ-HEAD"),
    ("j1", "junior", "production", "AZ-BOSS"),
    ("j2", "junior", "research", ""),
    ("j3", "junior", "sales", ""),
    ("j4", "junior", "sales", ""),
    ("j5", "junior", "production", "AZ-BOSS"),
    ("x1", "junior", "finance", ""),
    ("x2", "junior", "finance", ""),
    ("x3", "junior", "finance", ""),
)


def assemble(stack: Stack) -> Actors:
    """Import and enrol all members, suggest pairings, and compute one round in each programme."""
    above = [JourneyPerson(f"AZ-{name.upper()}", "senior", f"{name} Authz", level=18) for name in ("boss", "head")]
    # The seniors have seats for all juniors, so each junior is suggested to several of them, in any order of arrival.
    in_a = [
        JourneyPerson(
            f"AZ-{name.upper()}",
            side,
            f"{name} Authz",
            department=department,
            capacity=8 if side == "senior" else 4,
            manager=manager,
        )
        for name, side, department, manager in PEOPLE_OF_A
    ]
    in_b = [
        JourneyPerson("AZ-SB", "senior", "sb Authz"),
        JourneyPerson("AZ-SC", "senior", "sc Authz"),
        JourneyPerson("AZ-JB", "junior", "jb Authz", department="sales", capacity=2),
        JourneyPerson("AZ-SD", "senior", "sd Authz"),
        JourneyPerson("AZ-JD", "junior", "jd Authz", department="sales"),
    ]
    for programme in (A, B, C):
        open_programme(stack, programme, matching={"shortlist": True, "mode": "rolling"})
    stack.settle()
    imported(stack, begin_import(stack, csv_of(above)))
    ids: dict[str, str] = {}
    for programme, joined in ((A, in_a), (B, in_b)):
        imported(stack, begin_import(stack, csv_of(joined, programme)))
        members_of_programme = ids_of(stack, programme)
        ids |= {external.removeprefix("AZ-").lower(): member for external, member in members_of_programme.items()}
        joining = Members(stack, programme, joined, members_of_programme)
        for member in members_of_programme.values():
            joining.join(member)
    for name in ("boss", "head"):
        ids[name] = _id_of(stack, f"AZ-{name.upper()}")
    stack.settle()
    cast = Actors(stack, ids, {}, {}, {})
    cast = Actors(stack, ids, _pairings(cast), _rounds(cast), _requests(cast))
    csv = {"Content-Type": "text/csv"}
    invited = cast.coordinator(A, "profiles").post(f"/programmes/{A}/invitations", content=INVITED, headers=csv)
    cast.imports["coordinator"] = ok(invited)["import_id"]
    for who, api in (("admin", cast.admin("profiles")), ("service", cast.api("profiles", None, "service"))):
        cast.imports[who] = ok(api.post("/imports", content=csv_of(above), headers=csv))["import_id"]
    cast.care.update(_care(cast))
    cast.suggestions.update(_suggestions(cast))
    return cast


def _id_of(stack: Stack, external_id: str) -> str:
    admin = stack.api("profiles", stack.token(None, "admin"))
    return str(ok(admin.get("/members", params={"external_id": external_id}))["items"][0]["member_id"])


def _pairings(cast: Actors) -> dict[str, str]:
    def put(programme: str, senior: str, junior: str) -> str:
        pair = {"senior": cast.ids[senior], "junior": cast.ids[junior]}
        made: Json = ok(cast.coordinator(programme).post(f"/programmes/{programme}/pairings", json=pair))
        return str(made["pairing_id"])

    def formed(programme: str, senior: str, junior: str) -> str:
        pairing = put(programme, senior, junior)
        for who in (senior, junior):
            ok(cast.member(who).post(f"/pairings/{pairing}/answer", json={"answer": "accepted"}))
        return pairing

    return {
        "p1": put(A, "s1", "j1"),
        "p2": put(A, "s2", "j2"),
        "pb": put(B, "sb", "jb"),
        "f1": formed(A, "s4", "j1"),
        "f2": formed(A, "s4", "j4"),
        "f3": formed(A, "s5", "j5"),
        "fb": formed(B, "sc", "jb"),
    }


def _care(cast: Actors) -> dict[str, str]:
    """A scheduled meeting and an idea of ``f1``, both by the senior, after feedback has read the pairing."""
    cast.stack.settle()
    path, s4 = f"/pairings/{cast.pairings['f1']}", cast.member("s4", "feedback")
    formed = datetime.fromisoformat(ok(cast.member("s4").get(path))["formed_at"])
    dated = ok(s4.post(f"{path}/sessions", json={"starts_at": (formed + timedelta(days=60)).isoformat()}))
    ideas = ok(s4.post(f"{path}/ideas", json={"text": "swap desks for a day"}))
    return {
        "session": dated["sessions"][0]["session_id"],
        "idea": ideas["items"][0]["idea_id"],
        "message": _message(cast, "j1"),
        "another's message": _message(cast, "j2"),
    }


def _suggestions(cast: Actors) -> dict[str, str]:
    """One suggestion to release, one to dismiss (for a member who leaves later), and one of the other programme."""

    def open_in(programme: str, *juniors: str) -> list[str]:
        items = ok(cast.admin().get(f"/programmes/{programme}/suggestions"))["items"]
        return [str(item["suggestion_id"]) for item in items if item["junior"] in {cast.ids[who] for who in juniors}]

    def both_have_some() -> bool:
        return len(open_in(A, "x1")) > 1 and bool(open_in(B, "jd"))

    wait_until(both_have_some, "suggestions for the free members")
    release, dismiss, *_ = open_in(A, "x1")
    return {"release": release, "dismiss": dismiss, "elsewhere": open_in(B, "jd")[0]}


def _message(cast: Actors, who: str) -> str:
    """Inbox items of a member about their pairing; waits until there are some."""
    inbox = cast.member(who, "notifier")
    wait_until(lambda: bool(ok(inbox.get("/inbox"))["items"]), f"a message for {who}")
    return str(ok(inbox.get("/inbox"))["items"][0]["id"])


def _rounds(cast: Actors) -> dict[str, str]:
    return {
        programme: str(ok(cast.coordinator(programme).post(f"/programmes/{programme}/rounds", json={}))["round_id"])
        for programme in (A, B, C)
    }


def _requests(cast: Actors) -> dict[str, str]:
    def ask(asker: str, partner: str) -> str:
        answer = cast.member(asker).post(f"/programmes/{A}/requests", json={"partner": cast.ids[partner]})
        return str(ok(answer)["request_id"])

    return {"accept": ask("j1", "s3"), "decline": ask("j3", "s2"), "withdraw": ask("s1", "j3"), "see": ask("j2", "s1")}


def body_of(method: str, path: str, cast: Actors, *, mine: bool) -> dict[str, Any]:
    """A valid body for a request, so that only the caller can be wrong."""
    bodies: dict[str, Any] = {
        "PUT /members/{member}/entered": {"offers": [{"topic": "generative-ai"}], "seeks": [{"topic": "leadership"}]},
        "PUT /members/{member}/statements": {"answers": {"candour_plain": 2}},
        "PUT /members/{member}/contact": {"display_name": "Authz"},
        "PUT /members/{member}/away": {"away": []},
        "PUT /members/{member}/avoid": {"members": []},
        "PUT /members/{member}/enrolments/{programme}": {"notice": "1"},
        "POST /members/{member}/enrolments/{programme}/invitation": {"side": "junior"},
        "POST /members/{member}/external-ids": {"source": "second", "id": "AZ-AGAIN"},
        "POST /programmes": {"programme_id": C if mine else "authz-new", "settings": settings()},
        "PUT /programmes/{id}/settings": settings(matching={"shortlist": True}),
        "POST /programmes/{id}/rounds": {},
        "POST /rounds/{id}/adjustments": {
            "kind": "forbid",
            "pair": {"senior": cast.ids["s1"], "junior": cast.ids["j1"]},
        },
        "POST /rounds/{id}/resolve": {},
        "POST /programmes/{id}/pairings": {"senior": cast.ids["s1"], "junior": cast.ids["j1"]},
        "POST /programmes/{id}/requests": {"partner": cast.ids["s1"]},
        "POST /pairings/{id}/answer": {"answer": "accepted"},
        "POST /pairings/{id}/conflict": {"decision": "keep"},
        "POST /pairings/{id}/charter": {"goals": ["to listen"], "meeting_rhythm": "monthly"},
        "POST /pairings/{id}/pause": {},
        "POST /pairings/{id}/renew": {"months": 1},
        "POST /pairings/{id}/sessions": {"starts_at": LATER},
        "PUT /pairings/{id}/sessions/{session}": {"starts_at": LATER},
        "PUT /pairings/{id}/sessions/{session}/pulse": {"met": True, "worth": 4},
        "PUT /pairings/{id}/checkins/{milestone}": {"answers": {"1": 4}},
        "POST /pairings/{id}/ideas": {},
        "POST /pairings/{id}/call/hand-over": {"contact": "speak-up"},
        "POST /mail-reports": {"message_id": "<nobody@localhost>", "status": "5.1.1"},
        "PUT /preferences": {"wishes": {"renewed": {"email": False}}},
    }
    if f"{method} {path}" == "POST /imports":
        return {"content": csv_of([JourneyPerson("AZ-BOSS", "senior", "Boss Authz", level=18)])}
    if f"{method} {path}" == "POST /programmes/{programme}/invitations":
        return {"content": INVITED}
    body = bodies.get(f"{method} {path}")
    return {} if body is None else {"json": body}
