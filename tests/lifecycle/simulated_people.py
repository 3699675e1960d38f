"""Three hundred people and a coordinator who act at random, from one seed.

They answer, decline or forget; they meet, cancel, miss and pause. They are absent or on leave, and leave the programme
or the company. They request erasure or another partner, choose a partner themselves, and renew. They read mail in
several time zones or not at all. They do not know the rules. The services refuse forbidden actions, as they refuse them
on a page.
"""

import json
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from contracts.envelope import Tombstone
from contracts.privacy import ErasureRequested
from contracts.profiles import Absence, ContactChanged, Enrolment, Offer, ProfileChanged, Seek, Side, Style, TakingPart
from contracts.programmes import Labels, Matching, Meetings, ProgrammeSettings, Rules
from services.feedback.views import AnswersBody, MoveBody, PulseBody, SessionBody
from services.matcher.pairings.request_routes import AskBody
from services.matcher.pairings.routes import AnswerBody, CharterBody, PairBody, PauseBody, RenewBody
from services.matcher.programmes.routes import NewProgramme
from services.matcher.rounds.routes import NewRound
from services.notifier.domain.recipient import ChannelPreference, QuietHoursPreference
from services.notifier.views import PreferencesBody
from tests.lifecycle.in_memory_platform import InMemoryPlatform, LoggedEvent

PEOPLE = 300
PROGRAMME, ORGANISATION, COORDINATORS, ASSISTANTS = "two-ways", "halden", ("carla",), ("ada", "ali")
ZONES = (
    "Europe/Berlin", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Auckland", "Asia/Kolkata",
    "America/Havana", "America/Santiago", None,
)  # fmt: skip
"""In Havana and Santiago a day may begin in an hour that the clocks jump over, in Havana also in one that comes twice;
in Lord Howe they move by half an hour; somebody's zone is not known."""
CLOCKS_CHANGE: dict[str, tuple[datetime, ...]] = {
    "Europe/Berlin": (datetime(2026, 3, 29, 2, 15, tzinfo=UTC), datetime(2026, 10, 25, 2, 15, tzinfo=UTC)),
    "America/New_York": (datetime(2026, 3, 8, 2, 15, tzinfo=UTC), datetime(2026, 11, 1, 1, 15, tzinfo=UTC)),
    "Australia/Lord_Howe": (datetime(2026, 10, 4, 2, 15, tzinfo=UTC), datetime(2026, 4, 5, 1, 45, tzinfo=UTC)),
    "Pacific/Auckland": (datetime(2026, 9, 27, 2, 15, tzinfo=UTC), datetime(2026, 4, 5, 2, 15, tzinfo=UTC)),
    "America/Havana": (datetime(2026, 3, 8, 0, 15, tzinfo=UTC), datetime(2026, 11, 1, 0, 15, tzinfo=UTC)),
    "America/Santiago": (datetime(2026, 9, 6, 0, 15, tzinfo=UTC), datetime(2026, 4, 4, 23, 15, tzinfo=UTC)),
}
"""The local hours that are skipped, and the ones that occur twice; written as if the zone were UTC."""
CRAFTS = ("negotiation", "budgeting", "leadership", "conflict", "public-speaking")
NEWS = ("generative-ai", "prompt-writing", "large-language-models", "data-visualisation", "social-media")
WEEK = timedelta(days=7)
DAY = timedelta(days=1)

Doing = Callable[[], Coroutine[Any, Any, Any]]


@dataclass
class SimulatedPerson:
    """The current data, as HR and the person entered them. ``capacities``: each capacity and its start."""

    id: str
    side: Side
    zone: str | None
    email: bool
    level: int
    crafts: tuple[str, ...]
    news: tuple[str, ...]
    style: Style
    delegates: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    hours: QuietHoursPreference | None = None
    hours_since: datetime | None = None
    capacity: int = 1
    employment: str = "active"
    away: tuple[Absence, ...] = ()
    away_since: datetime | None = None  # time of the change
    state: str = "none"
    since: datetime | None = None
    capacities: list[tuple[datetime, int]] = field(default_factory=list)
    left_at: datetime | None = None
    erased_at: datetime | None = None

    @property
    def here(self) -> bool:
        return self.left_at is None and self.erased_at is None

    def profile(self) -> ProfileChanged:
        senior = self.side == "senior"
        offered, sought = (self.crafts, self.news) if senior else (self.news, self.crafts)
        enrolment = {"programme_id": PROGRAMME, "side": self.side, "capacity": self.capacity, "state": self.state}
        return ProfileChanged.model_validate(
            {
                "member_id": self.id,
                "organisation_id": ORGANISATION,
                "department_id": "department-of-" + self.side,
                "level": self.level,
                "employment": self.employment,
                "offers": [Offer(topic=topic, level="teach") for topic in offered],
                "seeks": [Seek(topic=topic, priority=3) for topic in sought],
                "time_zone": self.zone,
                "style": self.style,
                "avoid": self.avoid,
                "away": self.away,
                "enrolments": [Enrolment.model_validate(enrolment)] if self.state != "none" else [],
            }
        )

    def contact(self) -> ContactChanged:
        part = {"programme_id": PROGRAMME, "state": self.state, "since": self.since}
        return ContactChanged.model_validate(
            {
                "member_id": self.id,
                "display_name": f"Name of {self.id}",
                "email": f"{self.id}@halden.example" if self.email else None,
                "channels": ("email", "inbox") if self.email else ("inbox",),
                "time_zone": self.zone,
                "delegates": self.delegates,
                "employment": self.employment,
                "away": self.away,
                "taking_part": [TakingPart.model_validate(part)] if self.state != "none" else [],
            }
        )


def settings() -> ProgrammeSettings:
    """The default settings, except that members may also choose a partner themselves."""
    return ProgrammeSettings(
        labels={"en": Labels(name="Two Ways")},
        organisations=(ORGANISATION,),
        coordinators=COORDINATORS,
        confidential_contact="ombuds",
        rules=Rules(default_capacity=1),
        matching=Matching(shortlist=True),
        meetings=Meetings(booked_by="senior"),
    )


class People:
    """Starts all activity in a company, and reacts to its events."""

    def __init__(self, company: InMemoryPlatform, begin: datetime, end: datetime) -> None:
        self.company, self.begin, self.end = company, begin, end
        self.chance = random.Random(company.chance.random())
        self.members = {person.id: person for person in (self._person(n) for n in range(PEOPLE))}
        self.asked_for_another: dict[str, tuple[str, str]] = {}
        self.unanswered: set[tuple[str, Side]] = set()  # the person never intended to answer
        self.pairs: dict[str, SimulatedPair] = {}
        company.listeners.append(self._hear)

    def _person(self, n: int) -> SimulatedPerson:
        chance = self.chance
        senior = n % 2 == 0
        candour, pace, change, debate = (round(chance.uniform(-1, 1), 1) for _ in range(4))
        return SimulatedPerson(
            id=f"{'s' if senior else 'j'}{n:03d}",
            side="senior" if senior else "junior",
            zone=chance.choice(ZONES),
            email=chance.random() < 0.92,
            level=chance.randint(10, 18) if senior else chance.randint(2, 8),
            crafts=tuple(chance.sample(CRAFTS, 3)),
            news=tuple(chance.sample(NEWS, 3)),
            style=Style(candour=candour, pace=pace, change=change, debate=debate),
            delegates=(chance.choice(ASSISTANTS),) if senior and chance.random() < 0.15 else (),
            avoid=(f"s{chance.randrange(0, PEOPLE, 2):03d}",) if chance.random() < 0.05 and not senior else (),
            hours=QuietHoursPreference(from_hour=chance.choice((20, 22)), until_hour=chance.choice((1, 2, 3)))
            if chance.random() < 0.25
            else None,
            capacity=2 if senior and chance.random() < 0.15 else 1,
        )

    async def begin_year(self) -> None:
        """Open the programme, invite people, let them sign up, and draw the random events of the year."""
        company = self.company
        for id in (*COORDINATORS, *ASSISTANTS):
            company.say(
                ContactChanged(
                    member_id=id,
                    display_name=f"Name of {id}",
                    email=f"{id}@halden.example",
                    channels=("email", "inbox"),
                    time_zone="Europe/Berlin",
                )
            )
        await self._coordinate("POST /programmes", body=NewProgramme(settings=settings(), programme_id=PROGRAMME))
        for person in self.members.values():
            late = self.chance.random() < 0.12
            joins = self.begin + DAY * (self.chance.uniform(5, 250) if late else self.chance.uniform(0, 2))
            self._sign_up(person, joins)
            if person.hours is not None or self.chance.random() < 0.1:
                self._at(person, joins + DAY / 2, partial(self._wish, person))
        company.do(self.begin + DAY, lambda: self._coordinate("POST /programmes/{id}/open", id=PROGRAMME))
        self._fates()
        day = self.begin + 4 * DAY
        while day < self.end - WEEK:
            self._round(day)
            day += 100 * DAY
        day = self.begin + 18 * DAY
        while day < self.end - WEEK:
            company.do(day + timedelta(hours=10), self._suggest)
            day += 60 * DAY
        for zone, nights in CLOCKS_CHANGE.items():
            for night in nights:
                company.do(night - 2 * DAY, partial(self._meet_after_the_night, zone, night))
        for _ in range(90):
            day = self.begin + self.chance.uniform(10, 330) * DAY
            person = self.chance.choice(list(self.members.values()))
            self._at(person, day, partial(self._choose, person))

    def _sign_up(self, person: SimulatedPerson, joins: datetime) -> None:
        self.company.do(joins, partial(self._becomes, person, state="invited"))
        if self.chance.random() < 0.35:
            return  # invited, but never answers
        if self.chance.random() < 0.2:
            self._at(
                person, joins + DAY * self.chance.uniform(0, 0.7), partial(self._becomes, person, state="enrolled")
            )
        self._at(person, joins + DAY * self.chance.uniform(0.8, 1.5), partial(self._becomes, person, state="ready"))

    def _fates(self) -> None:
        """Draw random events, each for some members at a random time."""
        some = list(self.members.values())
        self.chance.shuffle(some)
        draw = iter(some)
        for _ in range(18):
            self.company.do(self._some_day(), partial(self._leaves, next(draw)))
        for _ in range(12):
            self.company.do(self._some_day(), partial(self._is_erased, next(draw)))
        for _ in range(10):
            person = next(draw)
            self._at(person, self._some_day(), partial(self._becomes, person, state="left"))
        for _ in range(20):
            person, at = next(draw), self._some_day()
            back = at + DAY * self.chance.uniform(10, 60)
            self.company.do(at, partial(self._becomes, person, employment="on_leave"))
            self.company.do(back, partial(self._becomes, person, employment="active"))
        for _ in range(60):
            person, at = next(draw), self._some_day()
            days = Absence(since=(at + 3 * DAY).date(), until=(at + self.chance.uniform(5, 24) * DAY).date())
            self._at(person, at, partial(self._becomes, person, away=(days,)))
        for _ in range(12):
            person = next(draw)
            self._at(person, self._some_day(), partial(self._becomes, person, capacity=self.chance.choice((0, 1, 2))))

    def _some_day(self) -> datetime:
        return self.begin + DAY * self.chance.uniform(12, 350)

    # Events for one person.

    async def _becomes(self, person: SimulatedPerson, **changes: Any) -> None:
        if not person.here:
            return
        if "state" in changes:
            if person.state == "left":
                return
            person.since = self.company.clock.now()
        if "away" in changes:
            person.away_since = self.company.clock.now()
        for name, value in changes.items():
            setattr(person, name, value)
        now = self.company.clock.now()
        takes_on = person.capacity if person.state == "ready" and person.employment == "active" else 0
        person.capacities.append((now, takes_on))
        self.company.say(person.profile())
        self.company.say(person.contact())

    async def _leaves(self, person: SimulatedPerson) -> None:
        if person.here:
            await self._becomes(person, employment="left")
            person.left_at = self.company.clock.now()

    async def _is_erased(self, person: SimulatedPerson) -> None:
        if not person.here:
            return
        person.erased_at = self.company.clock.now()
        person.capacities.append((person.erased_at, 0))
        self.company.say(ErasureRequested(member_id=person.id, requested_at=person.erased_at))

        async def tombstones() -> None:
            self.company.say(Tombstone(ProfileChanged, person.id))
            self.company.say(Tombstone(ContactChanged, person.id))

        self.company.do(person.erased_at + timedelta(seconds=self.chance.choice((0, 1, 900))), tombstones)

    async def _wish(self, person: SimulatedPerson) -> None:
        """Set own quiet hours, and switch off some purposes by mail or completely."""
        wishes = {"meeting_soon": ChannelPreference(email=False)} if self.chance.random() < 0.5 else {}
        if self.chance.random() < 0.2:
            wishes["half_way"] = ChannelPreference(email=False, inbox=False)
        body = PreferencesBody(wishes=wishes, quiet_hours=person.hours)
        if await self.company.ask("notifier", "PUT /preferences", person.id, preferences=body) is not None:
            person.hours_since = self.company.clock.now()

    async def _meet_after_the_night(self, zone: str, night: datetime) -> None:
        """Some pairs meet one day after the missing or repeated hour, so their reminder is due in that hour."""
        starts = night.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) + DAY
        theirs = [pair for pair in self.pairs.values() if zone in (pair.senior.zone, pair.junior.zone)]
        for pair in self.chance.sample(theirs, min(16, len(theirs))):
            await pair.give_this_date(starts)

    # Actions of coordinators.

    async def _coordinate(self, route: str, **arguments: Any) -> Any:
        return await self.company.ask("matcher", route, "boss", ("admin",), **arguments)

    def _round(self, day: datetime) -> None:
        async def start() -> None:
            view = await self._coordinate("POST /programmes/{id}/rounds", id=PROGRAMME, body=NewRound())
            if view is not None:
                publish = day + DAY + timedelta(hours=9)
                self.company.do(publish, lambda: self._coordinate("POST /rounds/{id}/publish", id=view.round_id))

        self.company.do(day + timedelta(hours=8), start)

    async def _suggest(self) -> None:
        page = await self._coordinate("POST /programmes/{id}/suggestions", id=PROGRAMME, limit=6)
        for suggestion in page.items if page is not None else ():
            body = PairBody(senior=suggestion.senior, junior=suggestion.junior)
            await self._coordinate("POST /programmes/{id}/pairings", id=PROGRAMME, body=body)

    async def _choose(self, person: SimulatedPerson) -> None:
        """Request the first member of the shortlist, who accepts, declines or does not answer."""
        shown = await self._ask("matcher", "GET /programmes/{id}/shortlist", person, id=PROGRAMME, limit=3)
        if shown is None or not shown.items:
            return
        body = AskBody(partner=shown.items[0].member_id)
        made = await self._ask("matcher", "POST /programmes/{id}/requests", person, id=PROGRAMME, body=body)
        partner = self.members[body.partner]
        after = self.company.clock.now() + DAY * self.chance.uniform(0.1, 9)
        if made is not None and self.chance.random() < 0.7:
            verb = "accept" if self.chance.random() < 0.7 else "decline"
            self._at(
                partner,
                after,
                lambda: self._ask("matcher", f"POST /requests/{{id}}/{verb}", partner, id=made.request_id),
            )

    # Actions of the members of a pairing.

    def _hear(self, said: LoggedEvent) -> None:
        if said.value is None:
            return
        match said.envelope.type:
            case "mentoring.pairing.proposed.v1":
                self._proposed(json.loads(said.value))
            case "mentoring.pairing.formed.v1":
                self._form(json.loads(said.value))
            case "mentoring.checkin.due.v1":
                self._take_request(json.loads(said.value))

    def _proposed(self, pairing: dict[str, Any]) -> None:
        now, id = self.company.clock.now(), pairing["pairing_id"]
        if pairing["origin"] == "request":
            return
        for participant in pairing["participants"]:
            person, draw = self.members[participant["member_id"]], self.chance.random()
            if draw < 0.14:
                self.unanswered.add((id, participant["side"]))
                continue
            decline = draw > 0.92
            body = AnswerBody(answer="declined", reason="no_time") if decline else AnswerBody(answer="accepted")
            after = min(self.chance.expovariate(1 / 3), 20) + 0.02  # days; some come too late
            self._may(person, after, "matcher", "POST /pairings/{id}/answer", id=id, body=body, since=now)

    def _form(self, pairing: dict[str, Any]) -> None:
        id = pairing["pairing_id"]
        two = {participant["side"]: self.members[participant["member_id"]] for participant in pairing["participants"]}
        self.pairs[id] = SimulatedPair(self, id, two["senior"], two["junior"])
        self.pairs[id].begin()

    def _take_request(self, event: dict[str, Any]) -> None:
        courses = self.company.feedback.followups
        id, side, milestone = event["pairing_id"], event["side"], event["milestone"]
        if self.chance.random() < 0.35:
            return

        async def answer() -> None:
            stored = await courses.get(id)
            member = stored.state.members.get(side) if stored is not None else None
            person = self.members.get(member or "")
            if person is None or not person.here:
                return
            items = ("1", "2") if milestone == "day_0" else ("1", "2", "3", "4", "5", "6", "7", "8")
            body = AnswersBody(
                answers={item: self.chance.choice((None, 1, 2, 3, 4, 5)) for item in items},
                call_me=self.chance.random() < 0.03,
            )
            route = "PUT /pairings/{id}/checkins/{milestone}"
            await self._ask("feedback", route, person, id=id, milestone=milestone, body=body, language="en")

        self.company.do(self.company.clock.now() + DAY * min(self.chance.expovariate(1 / 5), 25), answer)

    # Execution of actions.

    async def _ask(self, service: str, route: str, person: SimulatedPerson, **arguments: Any) -> Any:
        if person.here and person.employment != "on_leave":
            return await self.company.ask(service, route, person.id, **arguments)
        return None

    def _may(
        self,
        person: SimulatedPerson,
        days: float,
        service: str,
        route: str,
        *,
        since: datetime | None = None,
        **arguments: Any,
    ) -> datetime:
        """Let the person do this after the given number of days, and return the time."""
        at = self._awake(person, (since or self.company.clock.now()) + DAY * days)
        self.company.do(at, lambda: self._ask(service, route, person, **arguments))
        return at

    def _at(self, person: SimulatedPerson, at: datetime, doing: Doing) -> None:
        self.company.do(self._awake(person, at), doing)

    def _awake(self, person: SimulatedPerson, at: datetime) -> datetime:
        """The same time if the person is awake, or else a time during the person's next day."""
        local = at.astimezone(ZoneInfo(person.zone or "UTC"))
        if 8 <= local.hour < 20:
            return at
        day: date = local.date() + (DAY if local.hour >= 20 else timedelta(0))
        hour, minute = self.chance.randint(8, 19), self.chance.randrange(60)
        moved = datetime(day.year, day.month, day.day, hour, minute, tzinfo=local.tzinfo)
        return max(at, moved.astimezone(at.tzinfo))


@dataclass
class SimulatedPair:
    """Two members who accepted, and their later actions."""

    people: People
    id: str
    senior: SimulatedPerson
    junior: SimulatedPerson
    met: int = 0

    @property
    def chance(self) -> random.Random:
        return self.people.chance

    def begin(self) -> None:
        draw = self.chance.random()
        if draw > 0.1:  # other pairs never do it
            self._book(self.chance.uniform(0.5, 8) if draw > 0.25 else self.chance.uniform(9, 45))
        elif self.chance.random() < 0.7:
            self._may(self._either(), self.chance.uniform(40, 80), "matcher", "POST /pairings/{id}/end")
        if draw < 0.25 and self.chance.random() < 0.5:
            self._pause(self.chance.uniform(1, 18))
        if self.chance.random() < 0.75:
            self._charter()
        if self.chance.random() < 0.2:
            self._pause(self.chance.choice((self.chance.uniform(1, 18), self.chance.uniform(18, 120))))
        if self.chance.random() < 0.3:
            self._renew(self.chance.uniform(130, 175))
        fate, days = self.chance.random(), self.chance.uniform(15, 130)
        if fate < 0.12:
            self.people.company.do(self._now() + DAY * days, self._ask_for_another)
        elif fate < 0.17:
            self._may(self._either(), days, "matcher", "POST /pairings/{id}/end")

    def _charter(self) -> None:
        draft = CharterBody(goals=("Speak plainly.",))
        first = self._may(self.senior, self.chance.uniform(0.5, 12), "matcher", "POST /pairings/{id}/charter", draft)
        route, agreed = "POST /pairings/{id}/charter", CharterBody(agree=True)
        self._may(self.junior, self._days_to(first) + self.chance.uniform(0.2, 6), "matcher", route, agreed)

    def _pause(self, days: float) -> None:
        until = self._now() + DAY * (days + self.chance.uniform(3, 40))
        has_end = self.chance.random() < 0.5
        body = PauseBody(until=until.date() if has_end else None)
        self._may(self._either(), days, "matcher", "POST /pairings/{id}/pause", body)
        if not has_end:
            self._may(self._either(), self._days_to(until), "matcher", "POST /pairings/{id}/resume")

    def _renew(self, days: float) -> None:
        for person in (self.senior, self.junior):
            if self.chance.random() < 0.85:
                after = days + self.chance.uniform(0, 10)
                self._may(person, after, "matcher", "POST /pairings/{id}/renew", RenewBody(months=2))

    async def _ask_for_another(self) -> None:
        route = "POST /pairings/{id}/partner-change"
        if await self.people._ask("feedback", route, self._either(), id=self.id) is not None:
            self.people.asked_for_another[self.id] = (self.senior.id, self.junior.id)

    def _book(self, days: float) -> None:
        """After the given number of days the senior books the next meeting, or both meet without a date."""
        self.people._at(self.senior, self._now() + DAY * days, self._give_a_date)

    async def _give_a_date(self) -> None:
        now = self._now()
        if self.chance.random() < 0.12:
            await self._note(now - timedelta(hours=2))
            self._next()
            return
        await self.give_this_date(self.people._awake(self.senior, now + DAY * self.chance.uniform(0.5, 9)))

    async def give_this_date(self, starts: datetime) -> None:
        body = SessionBody(starts_at=starts)
        view = await self.people._ask("feedback", "POST /pairings/{id}/sessions", self.senior, id=self.id, body=body)
        if view is None:
            if self.chance.random() < 0.8:
                self._book(self.chance.uniform(3, 12))  # perhaps on hold; they try again
            return
        session = next(item for item in view.sessions if item.starts_at == body.starts_at and item.state == "scheduled")
        self._becomes_of(session.session_id, starts)

    def _becomes_of(self, session: str, starts: datetime) -> None:
        draw = self.chance.random()
        parameters: dict[str, Any] = {"id": self.id, "session": session}
        if draw < 0.12:
            before = max(self._now() + timedelta(minutes=5), starts - DAY * self.chance.uniform(0.1, 2))
            route = "POST /pairings/{id}/sessions/{session}/cancel"
            self.people.company.do(before, lambda: self.people._ask("feedback", route, self._either(), **parameters))
        elif draw < 0.2:
            before = max(self._now() + timedelta(minutes=5), starts - DAY)
            body = MoveBody(starts_at=starts + DAY * self.chance.uniform(1, 5))
            route = "PUT /pairings/{id}/sessions/{session}"
            self.people.company.do(
                before, lambda: self.people._ask("feedback", route, self.senior, body=body, **parameters)
            )
            starts = body.starts_at
            self._take_date(session, starts)
        elif draw < 0.3:
            after = starts + DAY * self.chance.uniform(0.1, 1)
            route = "POST /pairings/{id}/sessions/{session}/missed"
            self.people.company.do(after, lambda: self.people._ask("feedback", route, self._either(), **parameters))
        elif draw < 0.95:
            self._take_date(session, starts)
        self.people.company.do(starts + 2 * DAY, self._think_of_the_next)

    def _take_date(self, session: str, starts: datetime) -> None:
        """They meet, and one or both report it."""
        self.met += 1
        for person in (self.senior, self.junior)[: self.chance.randint(1, 2)]:
            body = PulseBody(met=True, worth=self.chance.choice((None, 2, 4, 5)))
            route = "PUT /pairings/{id}/sessions/{session}/pulse"
            after = self._days_to(starts) + self.chance.uniform(0.1, 1.5)
            self._may(person, after, "feedback", route, body, session=session)

    async def _note(self, at: datetime) -> None:
        self.met += 1
        body = SessionBody(starts_at=at, held=True)
        await self.people._ask("feedback", "POST /pairings/{id}/sessions", self.junior, id=self.id, body=body)

    async def _think_of_the_next(self) -> None:
        self._next()

    def _next(self) -> None:
        if self.met < 3 and self.chance.random() < 0.93:
            self._book(self.chance.uniform(5, 34))

    def _may(
        self, person: SimulatedPerson, days: float, service: str, route: str, body: Any = None, **arguments: Any
    ) -> datetime:
        return self.people._may(person, days, service, route, id=self.id, body=body, **arguments)

    def _either(self) -> SimulatedPerson:
        return self.chance.choice((self.senior, self.junior))

    def _days_to(self, at: datetime) -> float:
        return max(0.0, (at - self._now()) / DAY)

    def _now(self) -> datetime:
        return self.people.company.clock.now()
