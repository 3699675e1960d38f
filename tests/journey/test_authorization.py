"""Access by role: every cell of the table in docs/architecture/access.md, with real tokens on running services."""

import base64
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chassis.web.dev_tokens import ALGORITHM, issue_token, load_signing_key, public_jwk
from cli.installation import ISSUER
from contracts.catalogue import SERVICES
from tests.journey.access_table import ROLES, TABLE, AccessRow
from tests.journey.actors import REASON, A, Actors, B, C, body_of
from tests.journey.conditions import wait_until
from tests.journey.people import Json, ok
from tests.journey.stack import Stack

MEANT = {
    "-": "-",
    "all": "all",
    "own": "own",
    "theirs": "theirs",
    "all, apart": "all",
    "theirs, apart": "theirs",
    "of 5 people or more": "all",
    "of HR": "all",
    "its sources": "theirs",
    "all, not own": "all",
    "the contact": "-",
}
"""The simple meaning of a cell; further restrictions have tests of their own."""


def asker_of(row: AccessRow, role: str, cast: Actors) -> str | None:
    """The owner of the token: a member with an own object for this route, which no other test needs."""
    if role != "member":
        return None
    by_request = {"accept": "s3", "decline": "s2", "withdraw": "s1"}
    if row.path.startswith("/requests/"):
        return by_request.get(row.path.rpartition("/")[2], "j2")
    if row.path.endswith("/erasure") or row.path.startswith("/erasures"):
        return "x2"
    return "x1" if row.path.endswith("/leave") else "j1"


def filled(row: AccessRow, role: str, cast: Actors, *, mine: bool) -> str:
    """The path with the id of an object; the object belongs to the caller or to another member."""
    asker = asker_of(row, role, cast)
    erased = {"member": "x2"}.get(role, "x3")
    if row.path.endswith("/erasure") or row.path.startswith("/erasures"):
        person = erased if mine else "s2"
    elif role == "member":
        person = asker if mine and asker else "s1"
    else:
        person = "s3" if mine else "sb"
    spent = row.method != "GET" and row.path.startswith(("/programmes/{id}", "/rounds")) and "pairings" not in row.path
    programme = (C if spent and role != "member" else A) if mine else B
    cared = row.service == "feedback"
    own, elses = ("f1", "f2") if cared else ("p1", "p2")
    request = row.path.rpartition("/")[2] if row.path.endswith(("accept", "decline", "withdraw")) else "see"
    pairing = own if mine else elses if role == "member" else "fb" if cared else "pb"
    ids = {
        "/programmes": programme,
        "/rounds": cast.rounds[programme],
        "/pairings": cast.pairings[pairing],
        "/receipts": cast.receipt(pairing) if row.path.startswith("/receipts") else "",
        "/requests": cast.requests[request if mine else "withdraw" if request == "accept" else "accept"],
        "/suggestions": cast.suggestions[row.path.rpartition("/")[2] if mine else "elsewhere"]
        if row.path.startswith("/suggestions")
        else "",
    }
    uploader = "service" if role == "service" else "coordinator"
    path = row.path.replace("{programme}", programme)
    path = path.replace("{version}", "0").replace("{import_id}", cast.imports[uploader if mine else "admin"])
    path = path.replace("{id}", ids.get("/" + row.path.split("/")[1], "")).replace("{milestone}", "day_0")
    path = path.replace("{notification}", cast.care["message" if mine else "another's message"])
    path = path.replace("{other}", ids["/rounds"]).replace("{adjustment}", "none")
    path = path.replace("{session}", cast.care["session"]).replace("{idea}", cast.care["idea"])
    return path.replace("{member}", cast.ids[person]).replace("{member_id}", cast.ids[person])


def call(row: AccessRow, role: str, cast: Actors, *, mine: bool) -> httpx.Response:
    programmes = (A, C) if role == "coordinator" else ()
    api = cast.api(row.service, asker_of(row, role, cast), role, programmes=programmes)
    query = {"programme_id": A if mine else B} if str(row) == "GET /pairings" and role == "coordinator" else None
    if str(row) == "POST /imports" and not mine:
        query = {"source": "another"}
    headers = {"Content-Type": "text/csv"} if str(row) in UPLOADS else None
    sent = body_of(row.method, row.path, cast, mine=mine)
    return api.request(row.method, filled(row, role, cast, mine=mine), params=query, headers=headers, **sent)


def allowed(answer: httpx.Response) -> bool:
    """Whether the caller has the permission.

    The action succeeded, or it is impossible at this moment. 422 would be an error of this test.
    """
    assert answer.status_code != 422, answer.text
    assert answer.status_code < 500, answer.text
    return answer.is_success or answer.status_code == 409


def refused(answer: httpx.Response) -> bool:
    return answer.status_code in (403, 404) or answer.json().get("code") == "not_enrolled"


UPLOADS = {"POST /imports", "POST /programmes/{programme}/invitations"}
LISTS = {"GET /members", "GET /imports", "GET /pairings", "GET /requests", "GET /checkins", "GET /inbox"}
ABOUT_THE_ASKER = {"GET /inbox/unread", "GET /preferences", "PUT /preferences"}
"""Routes that can name no other person."""


def strangers(row: AccessRow, role: str, cast: Actors) -> set[str]:
    """Ids that a narrowed list must not contain."""
    if str(row) == "GET /members":
        return {f'"member_id":"{cast.ids[who]}"' for who in ("sb", "jb")}
    if str(row) == "GET /imports":
        return {cast.imports["admin"]}
    if str(row) == "GET /requests":
        return {cast.requests["see"], cast.requests["decline"]}
    if str(row) == "GET /checkins":
        return {cast.pairings["f2"], cast.pairings["fb"]}
    return {cast.pairings["p2"], cast.pairings["pb"]} if role == "member" else {cast.pairings["pb"]}


def routes(stack: Stack) -> Iterator[tuple[str, str, str]]:
    """The routes that the running services describe: service, method and path."""
    for service in SERVICES:
        described = httpx.get(f"{stack.urls[service]}/openapi.json", trust_env=False).json()
        for path, methods in described["paths"].items():
            yield from ((service, method.upper(), path) for method in methods)


@pytest.fixture(scope="module")
def anonymous() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def bad_tokens(cast: Actors) -> dict[str, str | None]:
    data, issuer = cast.stack.data, cast.stack.urls[ISSUER]
    good = issue_token(data, cast.ids["s1"], ROLES, (A, B), issuer=issuer)
    claims = jwt.decode(good, options={"verify_signature": False})
    own_key = load_signing_key(data)
    own_kid = public_jwk(own_key)["kid"]
    other_key = ec.generate_private_key(ec.SECP256R1())
    header, body, signature = good.split(".")
    raised = base64.urlsafe_b64encode(json.dumps({**claims, "roles": ["admin"]}).encode()).rstrip(b"=").decode()
    return {
        "no token": None,
        "not a token": "admin",
        "expired": issue_token(data, cast.ids["s1"], ROLES, (A, B), lifetime=timedelta(minutes=-5), issuer=issuer),
        "for another audience": issue_token(data, cast.ids["s1"], ROLES, (A, B), issuer=issuer, audience="payroll"),
        "of another issuer": issue_token(data, cast.ids["s1"], ROLES, (A, B), issuer="http://127.0.0.1:1"),
        "not signed": jwt.encode(claims, "", algorithm="none", headers={"kid": own_kid}),
        "signed by somebody else under our key's name": jwt.encode(
            claims, other_key, algorithm=ALGORITHM, headers={"kid": own_kid}
        ),
        "signed with our public key as a secret": _with_public_key_as_secret(load_signing_key(data), own_kid, body),
        "raised after it was signed": f"{header}.{raised}.{signature}",
        "an ID token": jwt.encode({**claims, "nonce": "n"}, own_key, algorithm=ALGORITHM, headers={"kid": own_kid}),
        "an ID token under the type of an access token": jwt.encode(
            {**claims, "nonce": "n"}, own_key, algorithm=ALGORITHM, headers={"typ": "at+jwt", "kid": own_kid}
        ),
        "without a key's name": jwt.encode(claims, other_key, algorithm=ALGORITHM),
    }


def _with_public_key_as_secret(key: ec.EllipticCurvePrivateKey, kid: str, body: str) -> str:
    """A token signed by hand, because the library refuses to create it."""
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}).encode()).rstrip(b"=")
    signature = hmac.digest(pem, header + b"." + body.encode(), "sha256")
    return b".".join((header, body.encode(), base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


@pytest.fixture(scope="module")
def roleless(cast: Actors) -> Mapping[str, str]:
    data, issuer = cast.stack.data, cast.stack.urls[ISSUER]
    kinds = (("member",), ("Admin", "root", "ADMIN", "admin,"), ())
    return {str(roles): issue_token(data, None, roles, (A, "*"), subject="nobody", issuer=issuer) for roles in kinds}


class TestTable:
    def test_names_every_route_of_every_running_service(self, stack: Stack) -> None:
        assert set(routes(stack)) == {(row.service, row.method, row.path) for row in TABLE}

    @pytest.mark.parametrize("row", TABLE, ids=str)
    def test_each_role_may_do_what_its_cell_says_and_no_more(self, row: AccessRow, cast: Actors) -> None:
        for role, words in row.cells.items():
            cell = MEANT[words]
            mine = call(row, role, cast, mine=True)
            if cell == "-":
                assert mine.status_code == 403, f"{role}: {mine.status_code} {mine.text}"
                continue
            assert allowed(mine), f"{role}: {mine.status_code} {mine.text}"
            if cell == "all" or str(row) in ABOUT_THE_ASKER:
                continue
            others = call(row, role, cast, mine=False)
            if str(row) in LISTS and others.is_success:
                for attempt in strangers(row, role, cast):
                    assert attempt not in others.text, f"{role}: {attempt}"
            else:
                assert refused(others), f"{role} with what is not theirs: {others.status_code} {others.text}"

    @pytest.mark.parametrize("row", TABLE, ids=str)
    def test_no_answer_without_a_valid_token(
        self, row: AccessRow, cast: Actors, anonymous: httpx.Client, bad_tokens: Mapping[str, str | None]
    ) -> None:
        sent, path = body_of(row.method, row.path, cast, mine=True), filled(row, "admin", cast, mine=True)
        for kind, token in bad_tokens.items():
            headers = {"X-Roles": "admin", "X-Forwarded-User": "admin", "Content-Type": "application/json"}
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            url = cast.stack.urls[row.service] + path
            answer = anonymous.request(row.method, url, headers=headers, params={"roles": "admin"}, **sent)
            assert answer.status_code == 401, f"{kind}: {answer.status_code}"
            assert set(answer.json()) <= {"type", "title", "status", "detail", "code", "trace"}

    @pytest.mark.parametrize("row", TABLE, ids=str)
    def test_foreign_roles_and_members_without_id_are_refused(
        self, row: AccessRow, cast: Actors, roleless: Mapping[str, str]
    ) -> None:
        for roles, token in roleless.items():
            sent = body_of(row.method, row.path, cast, mine=True)
            answer = cast.stack.api(row.service, token).request(
                row.method, filled(row, "admin", cast, mine=True), **sent
            )
            assert answer.status_code == 403, f"{roles}: {answer.status_code} {answer.text}"


# -- accounts of which nobody knows who is behind them -----------------------------------------------------------------

ABOUT_SINGLE_PAIRINGS = {
    "GET /rounds/{id}/proposals", "GET /rounds/{id}/unmatched", "GET /rounds/{id}/summary",
    "GET /rounds/{id}/compare/{other}", "GET /rounds/{id}/adjustments", "POST /rounds/{id}/adjustments",
    "POST /rounds/{id}/adjustments/{adjustment}/undo", "GET /programmes/{id}/free", "POST /programmes/{id}/suggestions",
    "GET /programmes/{id}/suggestions", "POST /suggestions/{id}/release", "POST /suggestions/{id}/dismiss",
    "GET /pairings", "GET /pairings/{id}", "GET /pairings/{id}/receipt", "GET /receipts/{id}",
    "GET /receipts/{id}/verification", "POST /pairings/{id}/pause", "POST /pairings/{id}/resume",
    "POST /pairings/{id}/end", "POST /pairings/{id}/conflict", "GET /programmes/{id}/conflicts",
    "POST /programmes/{id}/pairings", "GET /ledgers/{member_id}", "GET /members/{member}/pairings",
    "GET /pairings/{id}/care", "GET /programmes/{id}/care",
}  # fmt: skip


class TestUndeclaredAccounts:
    """The person behind them may take part in the pairing, under another account."""

    @pytest.mark.parametrize("row", [row for row in TABLE if row.service in ("matcher", "feedback")], ids=str)
    def test_see_no_single_pairing(self, row: AccessRow, cast: Actors) -> None:
        is_about_pairings = str(row) in ABOUT_SINGLE_PAIRINGS
        for role in ("coordinator", "admin"):
            if row.cells[role] == "-" or not (is_about_pairings or row.method == "GET"):
                continue
            token = cast.token(None, role, programmes=(A, C), subject=f"undeclared-{role}", no_member=False)
            answer = cast.stack.api(row.service, token).request(
                row.method,
                filled(row, role, cast, mine=True),
                params={"programme_id": A} if str(row) == "GET /pairings" else None,
                **body_of(row.method, row.path, cast, mine=True),
            )
            if is_about_pairings:
                assert (answer.status_code, answer.json()["code"]) == (403, "undeclared_account"), f"{role}: {answer}"
                assert "VICEVERSA_NO_MEMBER" in answer.json()["detail"]
            named = [who for who, member in cast.ids.items() if f'"{member}"' in answer.text]
            assert not named, f"{role}: {named}"

    def test_every_described_route_is_known(self) -> None:
        assert {str(row) for row in TABLE} >= ABOUT_SINGLE_PAIRINGS


# -- coordinators and admins with a conflict of interest ---------------------------------------------------------------


def seen(api: httpx.Client, pairing: str) -> int:
    return api.get(f"/pairings/{pairing}").status_code


class TestCoordinators:
    @pytest.mark.parametrize("role", ["coordinator", "admin"])
    def test_own_line_hides_a_pairing(self, role: str, cast: Actors) -> None:
        """A coordinator or admin whose line takes part neither sees nor changes the pairing."""
        boss = cast.coordinator(A, who="boss") if role == "coordinator" else cast.admin(who="boss")
        p1, p2 = cast.pairings["p1"], cast.pairings["p2"]
        assert (seen(boss, p1), seen(boss, p2)) == (404, 200)
        listed = ok(boss.get("/pairings", params={"programme_id": A, "limit": 200}))["items"]
        assert p1 not in {pairing["pairing_id"] for pairing in listed}
        assert p2 in {pairing["pairing_id"] for pairing in listed}
        for act in ("pause", "resume", "end"):
            assert boss.post(f"/pairings/{p1}/{act}", json={}).status_code == 404
        for act, body in (("answer", {"answer": "declined"}), ("charter", {"agree": True}), ("renew", {"months": 1})):
            assert boss.post(f"/pairings/{p1}/{act}", json=body).status_code == 404
            assert boss.post(f"/pairings/{p2}/{act}", json=body).status_code == 403
        if role == "admin":
            assert [boss.get(f"/ledgers/{cast.ids[who]}").status_code for who in ("j1", "jb")] == [404, 200]
            stored = cast.admin("feedback", who="boss").get(f"/members/{cast.ids['s4']}/pairings")
            assert {pairing["pairing_id"] for pairing in ok(stored)["items"]} & {
                cast.pairings[name] for name in ("p1", "f1", "f2")
            } == {cast.pairings["f2"]}
        own_line = {"senior": cast.ids["s3"], "junior": cast.ids["j1"]}
        answer = boss.post(f"/programmes/{A}/pairings", json=own_line)
        assert (answer.status_code, answer.json()["code"]) == (409, "own_line")
        wait_until(lambda: ok(boss.get(f"/rounds/{cast.rounds[A]}"))["state"] != "computing", "the round computed")
        proposals = ok(boss.get(f"/rounds/{cast.rounds[A]}/proposals", params={"limit": 200}))["items"]
        assert cast.ids["j1"] not in {pairing["junior"]["member_id"] for pairing in proposals}

    def test_taking_part_makes_a_participant_and_no_more(self, cast: Actors) -> None:
        s2 = cast.coordinator(A, who="s2")
        mine = ok(s2.get(f"/pairings/{cast.pairings['p2']}"))
        assert mine["you"]["side"] == "senior"
        assert seen(s2, cast.pairings["pb"]) == 404
        proposals = ok(s2.get(f"/rounds/{cast.rounds[A]}/proposals", params={"limit": 200}))["items"]
        assert cast.ids["s2"] not in {proposal["senior"]["member_id"] for proposal in proposals}

    def test_a_token_without_the_role_opens_no_programme(self, cast: Actors) -> None:
        api = cast.api("matcher", "s3", "member", programmes=(A, B))
        assert api.get(f"/rounds/{cast.rounds[A]}").status_code == 403
        assert seen(api, cast.pairings["p2"]) == 404
        people = cast.api("profiles", "s3", "member", programmes=(A, B))
        assert people.get(f"/members/{cast.ids['s1']}").status_code == 404

    def test_other_programmes_are_invisible(self, cast: Actors) -> None:
        """A coordinator sees neither their members nor their enrolments."""
        api = cast.coordinator(A, "profiles")
        assert ok(api.get("/members", params={"programme": B}))["items"] == []
        assert ok(api.get("/members", params={"name": "sb Authz"}))["items"] == []
        assert api.get("/members", params={"external_id": "AZ-SB"}).status_code == 403
        admin = cast.admin("profiles")
        ok(admin.post(f"/members/{cast.ids['s3']}/enrolments/{B}/invitation", json={"side": "senior"}))
        member = ok(api.get(f"/members/{cast.ids['s3']}"))
        assert [enrolment["programme_id"] for enrolment in member["enrolments"]] == [A]
        assert ok(api.get("/members", params={"programme": B, "state": "invited"}))["items"] == []


# -- facts that only one person may know ------------------------------------------------------------------------------

INTRO, IDEA = "quixotic zeppelins delight me", "a marzipan lift"
VICTIMS = ("j5", "s1")
"""``j5`` has answered a check-in, and ``s1`` has refused somebody."""


@dataclass(frozen=True)
class Secrets:
    """``words``: texts for their author alone; ``idea``: a text for both members of a pairing."""

    cast: Actors
    session: str
    idea_id: str
    messages: Mapping[str, str]
    words: tuple[str, ...]

    def found_in(self, text: str, viewer: str) -> list[str]:
        words = self.words if viewer == "the senior" else (*self.words, IDEA)
        return [word for word in words if word in text]


@pytest.fixture(scope="module")
def secretive(cast: Actors) -> Actors:
    """``s1`` has written private texts and refuses a pairing with ``j2``, who has accepted another one."""
    s1 = cast.member("s1", "profiles")
    entered = {"offers": [{"topic": "leadership", "level": "use"}], "seeks": [{"topic": "generative-ai"}]}
    ok(s1.put("/members/me/entered", json={**entered, "intro": INTRO}))
    ok(s1.put("/members/me/statements", json={"answers": {"candour_plain": 2, "candour_gentle": -2}}))
    ok(s1.put("/members/me/avoid", json={"members": [cast.ids["j3"]]}))
    before = cast.member("s2").get(f"/pairings/{cast.pairings['p2']}")
    fresh = ok(cast.coordinator(A).post(f"/programmes/{A}/pairings", json=_pair(cast, "s3", "j2")))["pairing_id"]
    refusing = ok(cast.coordinator(A).post(f"/programmes/{A}/pairings", json=_pair(cast, "s1", "j2")))["pairing_id"]
    ok(cast.member("j2").post(f"/pairings/{fresh}/answer", json={"answer": "accepted"}))
    ok(cast.member("s1").post(f"/pairings/{refusing}/answer", json={"answer": "declined", "reason": REASON}))
    assert before.is_success
    cast.stack.settle()
    return Actors(
        cast.stack,
        cast.ids,
        {**cast.pairings, "half": fresh, "refused": refusing},
        cast.rounds,
        cast.requests,
        cast.imports,
        cast.care,
    )


@pytest.fixture(scope="module")
def secrets(secretive: Actors) -> Secrets:
    """``j5`` answers a check-in and a pulse, requests a call, and records an idea."""
    cast, pairing_path = secretive, f"/pairings/{secretive.pairings['f3']}"
    j5 = cast.member("j5", "feedback")
    checkin = ok(j5.put(f"{pairing_path}/checkins/day_0", json={"answers": {"1": 1, "2": 5}, "call_me": True}))
    held = ok(j5.post(f"{pairing_path}/sessions", json={"starts_at": cast.stack.clock.now().isoformat(), "held": True}))
    session = held["sessions"][0]["session_id"]
    ok(j5.put(f"{pairing_path}/sessions/{session}/pulse", json={"met": True, "worth": 1}))
    idea = ok(j5.post(f"{pairing_path}/ideas", json={"text": IDEA}))["items"][0]["idea_id"]
    ok(cast.member("j5", "notifier").put("/preferences", json={"quiet_hours": {"from_hour": 3, "until_hour": 4}}))
    messages = {who: ok(cast.member(who, "notifier").get("/inbox"))["items"][0] for who in VICTIMS}
    cast.stack.settle()
    answered = ('"answers":{"1":1', '"call_me":true', '"worth":')
    written = (INTRO, REASON, "declined", '"candour_plain":2', '"avoid":["', '"from_hour":3', *answered)
    said = (*checkin["advice"], *(message["id"] for message in messages.values()))
    return Secrets(
        cast, session, idea, {who: inbox_item["id"] for who, inbox_item in messages.items()}, (*written, *said)
    )


def _pair(cast: Actors, senior: str, junior: str) -> dict[str, str]:
    return {"senior": cast.ids[senior], "junior": cast.ids[junior]}


def viewers(cast: Actors) -> dict[str, Callable[[str], httpx.Client]]:
    """All users except ``j5`` and ``s1``, the owners of the secrets."""
    return {
        "the senior": lambda service: cast.member("s5", service),
        "the senior, who coordinates": lambda service: cast.coordinator(A, service, who="s5"),
        "the senior's manager": lambda service: cast.member("head", service),
        "the senior's manager, who coordinates": lambda service: cast.coordinator(A, service, who="head"),
        "the senior's manager, an admin": lambda service: cast.admin(service, who="head"),
        "the junior's manager": lambda service: cast.member("boss", service),
        "the junior's manager, who coordinates": lambda service: cast.coordinator(A, service, who="boss"),
        "the junior's manager, an admin": lambda service: cast.admin(service, who="boss"),
        "who was refused": lambda service: cast.member("j2", service),
        "who was refused, a coordinator": lambda service: cast.coordinator(A, service, who="j2"),
        "who was refused, an admin": lambda service: cast.admin(service, who="j2"),
        "another member": lambda service: cast.member("j1", service),
        "a coordinator": lambda service: cast.coordinator(A, service),
        "another coordinator": lambda service: cast.coordinator(B, service),
        "an admin": cast.admin,
        "another system": lambda service: cast.api(service, None, "service"),
    }


def filled_paths(path: str, secrets: Secrets) -> list[str]:
    """The path, filled with every possible id."""
    cast = secrets.cast
    ids: dict[str, Sequence[str]] = {
        "/programmes": (A,),
        "/rounds": (cast.rounds[A],),
        "/pairings": [cast.pairings[name] for name in ("f3", "refused")],
        "/requests": (cast.requests["see"],),
        "/suggestions": list(cast.suggestions.values()),
        "/receipts": [cast.receipt(name) for name in ("f3", "refused")] if path.startswith("/receipts") else (),
        "{member}": [cast.ids[who] for who in VICTIMS],
        "{member_id}": [cast.ids[who] for who in VICTIMS],
        "{notification}": list(secrets.messages.values()),
        "{programme}": (A,),
        "{import_id}": (cast.imports["coordinator"],),
        "{milestone}": ("day_0",),
        "{version}": ("0", "1"),
        "{session}": (secrets.session,),
        "{idea}": (secrets.idea_id,),
        "{other}": (cast.rounds[A],),
        "{adjustment}": ("none",),
    }
    paths = [path]
    for name in re.findall(r"\{\w+\}", path):
        filling = ids["/" + path.split("/")[1]] if name == "{id}" else ids[name]
        paths = [filled.replace(name, id) for filled in paths for id in filling]
    return paths


Attempt = tuple[str, str, str, str, httpx.Client, Mapping[str, Any]]
EVERYBODYS = {"/topics", "/statements", "/questions"}
"""Shared pages without personal data."""
QUERY: Mapping[str, str | int] = {"programme": A, "programme_id": A, "limit": 20}


def every_request(secrets: Secrets, *, reading: bool) -> Iterator[Attempt]:
    """Each described route, with all ids, for each viewer; destructive routes come last."""
    known_routes = [
        (service, method, path)
        for service, method, path in routes(secrets.cast.stack)
        if (method == "GET") == reading and path not in EVERYBODYS
    ]
    for service, method, path in sorted(known_routes, key=lambda route: route[2].endswith(DESTROYS)):
        sent = body_of(method, path, secrets.cast, mine=True)
        for filled in filled_paths(path, secrets):
            for viewer, api in viewers(secrets.cast).items():
                if reading or viewer in COMMANDING:
                    yield viewer, method, path, filled, api(service), sent


COMMANDING = {
    "the senior",
    "the senior's manager, who coordinates",
    "the junior's manager, an admin",
    "who was refused",
    "a coordinator",
    "an admin",
    "another system",
}
"""One viewer of each kind, since allowed requests take time."""
DESTROYS = ("/end", "/cancel", "/discard", "/close", "/leave", "/erasure")


def try_all(secrets: Secrets, *, reading: bool) -> dict[int, int]:
    """Send all requests and count the statuses. A response that contains a secret fails the test."""

    def ask(request: Attempt) -> int:
        viewer, method, path, filled, api, sent = request
        headers = {"Content-Type": "text/csv"} if f"{method} {path}" in UPLOADS else None
        answer = api.request(method, filled, params=QUERY if reading else None, headers=headers, **sent)
        leaks = secrets.found_in(answer.text + str(dict(answer.headers)), viewer.partition(",")[0])
        assert not leaks, f"{viewer}: {method} {filled}: {leaks}"
        assert answer.status_code < 500, f"{viewer}: {method} {filled}: {answer.text}"
        return answer.status_code

    with ThreadPoolExecutor(4) as several:
        return Counter(several.map(ask, every_request(secrets, reading=reading)))


class TestSecrets:
    def test_no_other_person_reads_a_private_fact(self, secrets: Secrets) -> None:
        """Private facts: avoided people, statements, answers, wishes, messages and refusals."""
        statuses = try_all(secrets, reading=True)
        assert statuses.keys() <= {200, 403, 404, 409}
        assert min(statuses[200], statuses[403], statuses[404]) > 30

    def test_checkins_are_own_and_calls_are_the_contacts(self, secrets: Secrets) -> None:
        cast = secrets.cast
        pairing_path = f"/pairings/{cast.pairings['f3']}"
        for viewer, api in viewers(cast).items():
            seen = api("feedback").get(f"{pairing_path}/checkins")
            if viewer in ("the senior", "the senior, who coordinates"):
                assert {(call["answers"], call["call_me"], len(call["advice"])) for call in ok(seen)["items"]} == {
                    (None, False, 0)
                }
            else:
                assert seen.status_code in (403, 404), viewer
            assert api("feedback").get(f"/programmes/{A}/calls").status_code == 403, viewer
        contact = cast.stack.api("feedback", cast.token(None, "service", subject="speak-up"))
        assert [call["member_id"] for call in ok(contact.get(f"/programmes/{A}/calls"))["items"]] == [cast.ids["j5"]]

    def test_the_person_reads_all_of_it(self, secrets: Secrets) -> None:
        cast = secrets.cast
        read = "".join(
            cast.member(who, service).get(path).text
            for who, service, path in (
                ("s1", "profiles", "/members/me"),
                ("s1", "matcher", f"/pairings/{cast.pairings['refused']}"),
                ("s1", "notifier", "/inbox"),
                ("j5", "feedback", f"/pairings/{cast.pairings['f3']}/checkins"),
                ("j5", "feedback", f"/pairings/{cast.pairings['f3']}/ideas"),
                ("j5", "notifier", "/inbox"),
                ("j5", "notifier", "/preferences"),
            )
        )
        assert [word for word in (*secrets.words, IDEA) if word not in read] == ['"worth":']  # no later test reads it

    def test_one_answer_shows_nothing_to_the_other_side(self, cast: Actors) -> None:
        pair = ok(cast.coordinator(A).post(f"/programmes/{A}/pairings", json=_pair(cast, "s3", "j3")))
        pairing_path = f"/pairings/{pair['pairing_id']}"
        watching: dict[str, Any] = {
            "the other side": cast.member("j3"),
            "a coordinator": cast.coordinator(A),
            "an admin": cast.admin(),
        }

        def looks() -> dict[str, tuple[Json, dict[str, str]]]:
            views = {}
            for viewer, api in watching.items():
                answer = api.get(pairing_path)
                headers = {name: value for name, value in answer.headers.items() if name != "date"}
                views[viewer] = (ok(answer), headers)
            return views

        before = looks()
        ok(cast.member("s3").post(f"{pairing_path}/answer", json={"answer": "accepted"}))
        cast.stack.settle()
        assert looks() == before
        guessed = watching["the other side"].post(
            f"{pairing_path}/answer", json={"answer": "accepted"}, headers={"If-Match": '"2"'}
        )
        assert (guessed.status_code, guessed.json()["code"]) == (412, "no_etag")

    def test_a_request_from_an_avoided_person_stays_hidden(self, secretive: Actors) -> None:
        """The asker sees an open request; the other side never learns of it."""
        answer = secretive.member("j3").post(f"/programmes/{A}/requests", json={"partner": secretive.ids["s1"]})
        hidden = ok(answer)
        usual = ok(secretive.member("j2").get(f"/requests/{secretive.requests['see']}"))
        assert hidden.keys() == usual.keys()
        assert hidden["state"] == "open"
        s1 = secretive.member("s1")
        assert hidden["request_id"] not in s1.get("/requests").text
        for act in ("", "/accept", "/decline"):
            path = f"/requests/{hidden['request_id']}{act}"
            assert (s1.post(path) if act else s1.get(path)).status_code == 404
        again = secretive.member("j3").post(f"/programmes/{A}/requests", json={"partner": secretive.ids["s1"]})
        assert (again.status_code, again.json()["code"]) == (409, "already_asked")

    def test_no_answer_to_any_command_tells_it_either(self, secrets: Secrets) -> None:
        """Runs last, because some of these commands are allowed. They end or erase objects that other tests need."""
        statuses = try_all(secrets, reading=False)
        assert statuses[403] + statuses[404] > sum(statuses.values()) / 2
