"""A member whose every text is unique, so that a search finds each copy of it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
import httpx

from chassis.web.dev_tokens import issue_token
from cli.installation import ISSUER
from contracts.catalogue import SERVICES
from contracts.pairings import AnswerGiven
from contracts.profiles import ContactChanged, ProfileChanged
from tests.journey.conditions import wait_until
from tests.journey.people import (
    JourneyPerson,
    Json,
    Members,
    begin_import,
    csv_of,
    ids_of,
    imported,
    ok,
    open_programme,
)
from tests.journey.span_collector import Collector
from tests.journey.stack import Stack
from tests.journey.wire_capture import Hand, headers, read

PROGRAMME = "canary"
NAME, CALLED, ADDRESS = "Zephyrine Quillfeather", "Zippzapp", "zq-canarymail@halden.example"
INTRO, TOPIC, GOAL = "whistling marmalade intro", "xylocanaryology", "pomegranate goal"
IDEA = "kumquat desk swap"
NUMBER, DEVICE = "CANARYNUMBER-4711", "canarydevice"
RESTRICTED = (ProfileChanged, ContactChanged, AnswerGiven)
"""One event type of each restricted topic that a service reads."""
REASON = "know_each_other"
STATEMENTS = ("candour_plain", "candour_gentle", "pace_try", "debate_common")
WORDS = tuple(
    word.lower().encode()
    for word in (
        "Zephyrine",
        "Quillfeather",
        CALLED,
        "zq-canarymail",
        "marmalade",
        TOPIC,
        "pomegranate",
        "kumquat",
        NUMBER,
        DEVICE,
    )
)
"""The words that only the canary writes, in lower case."""
ANSWERED = ('"answers"', '"call_me"', '"calls"', '"worth"', '"pulses"', '"advice"', '"text"')
"""The fields that would hold an answer, a call request, a pulse, advice or an idea."""

CANARY = JourneyPerson(NUMBER, "senior", NAME, department="legal", email=ADDRESS, capacity=5)
OTHERS = [
    JourneyPerson("CN-BOSS", "senior", "Upper Person", department="board", level=19, email="cn.boss@halden.example"),
    *(
        JourneyPerson(f"CN-J{n}", "junior", f"Lower Person {n}", "sales", email=f"cn.j{n}@halden.example", capacity=5)
        for n in range(7)
    ),
]


@dataclass
class CanaryLife:
    """The canary among other members. ``pairings``: by their end; ``answers``: every HTTP response to a mistake."""

    members: Members
    canary: str
    pairings: dict[str, str] = field(default_factory=dict)
    mistakes: list[httpx.Response] = field(default_factory=list)
    mails: frozenset[str] = frozenset()
    """The completions that existed when all services had reported."""

    @property
    def stack(self) -> Stack:
        return self.members.stack

    def id(self, number: str) -> str:
        return self.members.ids[number]


def file() -> bytes:
    """HR's file: the canary, the others, and invalid rows that name the canary."""
    good = csv_of([CANARY, *OTHERS], PROGRAMME).decode()
    columns = good.splitlines()[0].split(",")

    def bad(**values: str) -> str:
        row = {
            "external_id": NUMBER + "-X",
            "name": NAME,
            "organisation": "halden",
            "department": "legal",
            "level": "5",
        }
        return ",".join({**row, **values}.get(column, "") for column in columns)

    rows = [
        bad(level=f"very high says {NAME}"),
        bad(email=f"{NAME} has none"),
        bad(name=f"={NAME}"),
        bad(offers=f"{TOPIC}:by heart"),
        bad(languages=NAME),
        f'{NUMBER}-Z,"{NAME},',
    ]
    return (good + "\n".join(rows) + "\n").encode()


def live(stack: Stack) -> CanaryLife:
    """The life from HR's file to the last refusal, including every possible mistake."""
    open_programme(stack, PROGRAMME, matching={"shortlist": True})
    stack.settle()
    imported(stack, begin_import(stack, file()))
    people = [CANARY, *OTHERS]
    life = CanaryLife(Members(stack, PROGRAMME, people, ids_of(stack, PROGRAMME)), "")
    life.canary = life.id(NUMBER)
    for somebody in people:
        life.members.join(life.id(somebody.external_id))
    speak(life)
    stack.settle()
    meet(life)
    confide(life)
    err(life)
    poison(life)
    stack.settle()
    return life


def speak(life: CanaryLife) -> None:
    me = life.members.profiles(life.canary)
    offers = [{"topic": "leadership", "level": "teach"}, {"topic": "budgeting"}, {"topic": TOPIC, "level": "teach"}]
    ok(me.put("/members/me/entered", json={"offers": offers, "seeks": [{"topic": "generative-ai"}], "intro": INTRO}))
    answers = dict.fromkeys(STATEMENTS, 1)
    ok(me.put("/members/me/statements", json={"answers": answers}))
    ok(me.put("/members/me/contact", json={"display_name": CALLED, "channels": ["email", "inbox"]}))
    ok(me.put("/members/me/avoid", json={"members": [life.id("CN-J5")]}))
    for number in ("CN-J0", "CN-J1"):  # other members mention the canary, too
        other = life.members.profiles(life.id(number))
        ok(other.put("/members/me/contact", json={"delegates": [life.canary]}))
    ok(life.members.profiles(life.id("CN-J4")).put("/members/me/avoid", json={"members": [life.canary]}))


def meet(life: CanaryLife) -> None:
    """Refusals of both sides, a formed pairing with a charter, requests of both sides."""
    coordinator, members = life.members.coordinator(), life.members

    def put(junior: str, senior: str = life.canary) -> str:
        pair = {"senior": senior, "junior": life.id(junior)}
        return str(ok(coordinator.post(f"/programmes/{PROGRAMME}/pairings", json=pair))["pairing_id"])

    put("CN-J0", life.id("CN-BOSS"))  # has nothing to do with the canary, and stays open
    life.pairings = {"refused": put("CN-J0"), "was refused": put("CN-J1"), "formed": put("CN-J2"), "over": put("CN-J6")}
    members.answer(life.canary, life.pairings["refused"], "declined", reason=REASON)
    members.answer(life.id("CN-J1"), life.pairings["was refused"], "declined", reason=REASON)
    for pairing, junior in (("formed", "CN-J2"), ("over", "CN-J6")):
        for member in (life.canary, life.id(junior)):
            members.answer(member, life.pairings[pairing], "accepted")
    charter = {"goals": [GOAL], "meeting_rhythm": GOAL}
    ok(members.matcher(life.canary).post(f"/pairings/{life.pairings['formed']}/charter", json=charter))
    ask = f"/programmes/{PROGRAMME}/requests"
    ok(members.matcher(life.canary).post(ask, json={"partner": life.id("CN-J4")}))
    request = ok(members.matcher(life.id("CN-J3")).post(ask, json={"partner": life.canary}))
    ok(members.matcher(life.canary).post(f"/requests/{request['request_id']}/decline"))
    ok(members.matcher(life.id("CN-J5")).post(ask, json={"partner": life.canary}))
    round = members.round()
    members.publish(round["round_id"])


def confide(life: CanaryLife) -> None:
    """Meetings, pulses, an idea, low answers and a call request, in one pairing until its end."""
    life.stack.settle()
    juniors = {"formed": life.id("CN-J2"), "over": life.id("CN-J6")}
    low = {"answers": {"1": 1, "2": 5}, "call_me": True}
    now = life.stack.clock.now().isoformat()
    for name, junior in juniors.items():
        path = f"/pairings/{life.pairings[name]}"
        for member in (life.canary, junior):
            me = life.members.feedback(member)
            assert ok(me.put(f"{path}/checkins/day_0", json=low))["advice"]
            held = ok(me.post(f"{path}/sessions", json={"starts_at": now, "held": True}))
            session = held["sessions"][-1]["session_id"]
            ok(me.put(f"{path}/sessions/{session}/pulse", json={"met": True, "worth": 1}))
        ok(life.members.feedback(life.canary).post(f"{path}/ideas", json={"text": IDEA}))
    over = f"/pairings/{life.pairings['over']}"
    ok(life.members.matcher(life.canary).post(f"{over}/end"))
    life.stack.settle()
    last = {"answers": dict.fromkeys("345678", 2), "call_me": True}
    for member in (life.canary, juniors["over"]):
        ok(life.members.feedback(member).put(f"{over}/checkins/end", json=last))
    wishes = {"wishes": {"renewed": {"email": False}}, "quiet_hours": {"from_hour": 2, "until_hour": 5}}
    ok(life.members.notifier(life.canary).put("/preferences", json=wishes))


def err(life: CanaryLife) -> None:
    """Every kind of invalid request with the canary's data; no response may repeat the data."""
    stack = life.stack
    named = issue_token(
        stack.data,
        life.canary,
        ("member", "admin", "coordinator"),
        (NAME,),
        subject=ADDRESS,
        issuer=stack.urls[ISSUER],
    )
    baggage = {"baggage": f"user={CALLED}", "traceparent": f"00-{CALLED}-01", "User-Agent": DEVICE, "X-User": ADDRESS}
    words: dict[str, Any] = {
        "offers": NAME,
        "seeks": [{"topic": 7, "who": NAME}],
        "intro": INTRO * 20,
        "level": ADDRESS,
    }
    for service in SERVICES:
        api = stack.api(service, named)
        for method, path in (
            ("GET", f"/members/{ADDRESS}"),
            ("GET", f"/members?name={NAME}&limit={NAME}"),
            ("GET", f"/members?email={ADDRESS}&state={NAME}"),
            ("PUT", "/members/me/entered"),
            ("PUT", "/members/me/statements"),
            ("PUT", "/members/me/contact"),
            ("PUT", "/members/me/avoid"),
            ("POST", f"/members/{life.canary}/external-ids"),
            ("PUT", f"/members/me/enrolments/{NAME}"),
            ("POST", f"/imports?source={ADDRESS}"),
            ("POST", f"/programmes/{PROGRAMME}/pairings"),
            ("POST", f"/programmes/{NAME}/rounds"),
            ("POST", f"/pairings/{life.pairings['formed']}/charter"),
            ("POST", f"/pairings/{life.pairings['formed']}/answer"),
            ("POST", f"/pairings/{NAME}/answer"),
            ("GET", f"/{NAME}"),
            *MORE.get(service, ()),
        ):
            path = path.format(pairing=life.pairings["formed"])  # noqa: PLW2901
            key = {"Idempotency-Key": ADDRESS} if method != "GET" else {}
            for content in (json.dumps(words).encode(), f'{{"{NAME}": '.encode(), NAME.encode("utf-16")):
                sent: dict[str, Any] = {"content": content} if method != "GET" else {}
                kind = {"Content-Type": "application/json"}
                life.mistakes.append(api.request(method, path, headers={**baggage, **key, **kind}, **sent))
    with httpx.Client(base_url=stack.urls["profiles"], trust_env=False) as client:
        for token in (NAME, ADDRESS, named[:-4] + "AAAA"):
            life.mistakes.append(client.get("/members/me", headers={"Authorization": f"Bearer {token}"}))


MORE: Mapping[str, Sequence[tuple[str, str]]] = {
    "notifier": (
        ("PUT", "/preferences"),
        ("POST", f"/inbox/{ADDRESS}/read"),
        ("GET", f"/inbox?after={NAME}&limit={NAME}"),
        ("GET", f"/contacts/{ADDRESS}"),
    ),
    "feedback": (
        ("PUT", "/pairings/{pairing}/checkins/day_0"),
        ("PUT", f"/pairings/{{pairing}}/checkins/{CALLED}"),
        ("PUT", f"/pairings/{{pairing}}/sessions/{CALLED}/pulse"),
        ("POST", "/pairings/{pairing}/sessions"),
        ("POST", "/pairings/{pairing}/ideas"),
        ("GET", f"/checkins?language={ADDRESS}"),
        ("GET", f"/programmes/{NAME}/report"),
    ),
}
"""Invalid requests to one service alone."""


def poison(life: CanaryLife) -> None:
    """Unprocessable records about the canary on restricted topics; they carry a header of the test."""
    hand, mark = Hand(life.stack), [("by", b"the-test")]
    for type in RESTRICTED:
        said = headers(type, life.canary)
        named = [(name, ADDRESS.encode() if name == "ce_id" else value) for name, value in said]
        for value, with_headers in (
            (f'{{"member_id": "{NAME}", '.encode(), said),
            (json.dumps({"display_name": [NAME], "email": ADDRESS}).encode(), named),
            (json.dumps({"display_name": NAME}).encode(), [("ce_id", NAME.encode())]),
        ):
            hand.put(type.TOPIC.name, "poison-" + life.canary, value, [*with_headers, *mark])


# -- possible locations of texts --------------------------------------------------------------------------------------


def words_in(content: bytes) -> set[str]:
    lower = content.lower()
    return {word.decode() for word in WORDS if word in lower}


def on_topics(stack: Stack, *topics: str) -> Iterator[tuple[str, str, bytes]]:
    """Location, key and bytes of every record, without the records of the test itself."""
    for record in read(stack, *topics):
        if record.header("by") != b"the-test":
            location = f"{record.topic}/{record.partition}-{record.offset}"
            yield location, (record.key or b"").decode("utf-8", "replace"), record.everything()


def in_logs(stack: Stack) -> Iterator[tuple[str, bytes]]:
    for path in sorted(Path(stack.data, "logs").glob("*")):
        yield path.name, path.read_bytes()


def in_spans(stack: Stack, collector: Collector) -> Iterator[tuple[str, bytes]]:
    """Every span export, after each service has sent one more."""
    for n, service in enumerate(SERVICES, 1):
        trace = f"{n:032x}"
        with httpx.Client(base_url=stack.urls[service], trust_env=False) as client:
            client.get("/topics", headers={"traceparent": f"00-{trace}-{n:016x}-01"})
        collector.wait_for(_of_trace(trace))
    yield from ((f"export {n}", body) for n, body in enumerate(list(collector.raw)))


def _of_trace(trace: str) -> Any:
    finder: Callable[[list[Any]], list[Any]] = lambda spans: [span for span in spans if span.trace_id == trace]  # noqa: E731
    return finder


def on_pages(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Pages that need no token: the description of the API, and the management port."""
    for service in SERVICES:
        yield f"{service}/openapi.json", httpx.get(f"{stack.urls[service]}/openapi.json", trust_env=False).content
        for path in ("/metrics", "/health/ready", "/health/live"):
            yield f"{service}{path}", httpx.get(stack.management_urls[service] + path, trust_env=False).content


def in_databases(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Every document of every collection, as it is stored."""
    for service in SERVICES:
        database = stack.database(service)
        for name in sorted(database.list_collection_names()):
            for document in database[name].find():
                yield f"{service}.{name}", bson.encode(document)


def found_in(contents: Iterable[tuple[str, bytes]]) -> dict[str, set[str]]:
    """The canary's texts, by location."""
    by_location: dict[str, set[str]] = {}
    for location, content in contents:
        if words := words_in(content):
            by_location[location] = by_location.get(location, set()) | words
    return by_location


def erase(life: CanaryLife) -> Json:
    """Request the erasure of the canary; return when all services have reported completion."""
    me = life.members.profiles(life.canary)
    ok(me.post("/members/me/erasure"))

    def done() -> Json | None:
        erasure: Json = ok(me.get("/erasures/me"))
        return erasure if erasure["done"] else None

    report = wait_until(done, "the erasure reported by every service")
    life.stack.settle()
    life.mails = frozenset(life.stack.mails())
    return report
