"""The behaviour of the simulated people: events make them plan actions, which they perform when the time comes.

They receive the same events as any subscriber, and act over HTTP with their own tokens. Actions and times are drawn
from random sources seeded by the person, so the same people do the same things on every machine.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from random import Random
from typing import Any

from chassis.core.clocks import Clock
from cli.demo.agenda import Agenda
from cli.demo.http_client import RequestRefused
from cli.demo.personas import Persona, Personas
from cli.demo.preferences import (
    answer_checkin,
    compute_liking,
    decide_answer,
    decide_meeting,
    decide_without_forgetting,
    rate_meeting,
)
from cli.demo.subscriber import SeenEvent

SEED = 5
DAY = timedelta(days=1)
_EXPECTED_REFUSALS = frozenset(
    {
        "closed", "in_the_past", "no_charter", "no_longer_possible", "not_enrolled", "not_found", "not_proposed",
        "not_running", "not_scheduled", "not_yet", "over", "too_late", "wrong_state",
    }
)  # fmt: skip
"""Refusals that are normal: the partner was faster, or something has changed in the meantime."""
_CHECKIN_DUE = "mentoring.checkin.due.v1"
_FIRST_CHECKIN_ITEMS = ("1", "2")
_LATER_CHECKIN_ITEMS = ("1", "2", "3", "4", "5", "6", "7", "8")
_MAX_TRIES = 4

Action = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Intention:
    """A planned action. ``subject``: its pairing or person; actions on the same subject run one after the other."""

    subject: str
    action: Action


@dataclass
class DemoPair:
    """Two people of a pairing, and what they know about it."""

    pairing_id: str
    senior: Persona
    junior: Persona
    topics: frozenset[str]
    formed_at: datetime | None = None
    planned_end: datetime | None = None
    is_running: bool = False
    has_date: bool = False
    """Whether a future meeting has a date."""
    meetings_held: int = 0
    dates: int = 0
    """Number of arrangements so far. Each one has its own random source."""
    tries: Counter[str] = field(default_factory=Counter)
    checkin_visits: int = 0
    """How often the two looked for open check-ins. Each visit has its own random source."""
    checkins_decided: set[tuple[str, str]] = field(default_factory=set)
    """Milestones, each with the person who answered it or forgot it."""

    def each_with_partner(self) -> tuple[tuple[Persona, Persona], tuple[Persona, Persona]]:
        return (self.senior, self.junior), (self.junior, self.senior)

    def on_side(self, side: str) -> tuple[Persona, Persona]:
        return self.each_with_partner()[0 if side == "senior" else 1]

    def choose_one(self, random: Random) -> Persona:
        return random.choice((self.senior, self.junior))

    def lower_liking(self) -> float:
        """The lower liking of the two."""
        return min(compute_liking(me.traits, other.traits, self.topics) for me, other in self.each_with_partner())

    def random_for(self, what: str) -> Random:
        return Random(f"{SEED} {self.senior.external_id} {self.junior.external_id} {what}")


class SimulatedMembers:
    """The behaviour of all people from the first proposal on. ``receive`` may be called from any thread."""

    def __init__(self, personas: Personas, clock: Clock, planned: int) -> None:
        """``planned``: number of meetings of each pairing."""
        self.pairs: dict[str, DemoPair] = {}
        self.action_counts: Counter[str] = Counter()
        self._personas, self._clock = personas, clock
        self._planned_meetings = planned
        self._agenda: Agenda[Intention] = Agenda()
        self._inbox: SimpleQueue[SeenEvent] = SimpleQueue()
        self._reactions: Mapping[str, Callable[[DemoPair, Mapping[str, Any]], None]] = {
            "mentoring.pairing.proposed.v1": self._when_proposed,
            "mentoring.pairing.formed.v1": self._when_formed,
            "mentoring.pairing.paused.v1": self._when_state_changes,
            "mentoring.pairing.resumed.v1": self._when_resumed,
            "mentoring.pairing.renewed.v1": self._when_state_changes,
            "mentoring.pairing.ended.v1": self._when_state_changes,
            "mentoring.session.scheduled.v1": self._when_meeting_scheduled,
            "mentoring.session.held.v1": self._when_meeting_held,
            "mentoring.session.cancelled.v1": self._when_meeting_failed,
            "mentoring.session.missed.v1": self._when_meeting_failed,
            "mentoring.contact.needed.v1": self._when_help_offered,
        }

    @property
    def member_count(self) -> int:
        return len(self._personas.by_member_id)

    def receive(self, event: SeenEvent) -> None:
        if event.type in self._reactions or event.type == _CHECKIN_DUE:
            self._inbox.put(event)

    def plan(self, at: datetime, subject: str, action: Action) -> None:
        self._agenda.add(at, Intention(subject, action))

    def next_action_at(self) -> datetime | None:
        """The time of the next planned action, which may be in the past."""
        self._process_inbox()
        return self._agenda.next_at()

    async def perform_due(self) -> int:
        """Perform all actions that are due, and return their number."""
        self._process_inbox()
        actions_by_subject: dict[str, list[Action]] = defaultdict(list)
        for intention in self._agenda.pop_due(self._clock.now()):
            actions_by_subject[intention.subject].append(intention.action)
        async with asyncio.TaskGroup() as group:
            for actions in actions_by_subject.values():
                group.create_task(_perform_in_order(actions))
        return sum(map(len, actions_by_subject.values()))

    def _process_inbox(self) -> None:
        while True:
            try:
                event = self._inbox.get_nowait()
            except Empty:
                return
            if event.type == _CHECKIN_DUE and event.subject in self.pairs:
                self._when_checkins_are_due(self.pairs[event.subject])
            elif event.data is not None and (pair := self._find_pair(event.data)) is not None:
                if event.topic == "feedback.v1":
                    pair.has_date = bool(event.data["next_session_at"])
                self._reactions[event.type](pair, event.data)

    def _find_pair(self, data: Mapping[str, Any]) -> DemoPair | None:
        id = data["pairing_id"]
        if id not in self.pairs and "participants" in data:
            personas = {item["side"]: self._personas.by_member_id[item["member_id"]] for item in data["participants"]}
            topics = frozenset(item["topic_id"] for item in data["focus"])
            self.pairs[id] = DemoPair(id, personas["senior"], personas["junior"], topics)
        return self.pairs.get(id)

    def _when_proposed(self, pair: DemoPair, data: Mapping[str, Any]) -> None:
        proposed, until = _parse_time(data["proposed_at"]), _parse_time(data["answer_by"])
        for me, partner in pair.each_with_partner():
            random = pair.random_for(f"answer {me.external_id}")
            choice, reason = decide_answer(me.traits, partner.traits, pair.topics, random)
            at = proposed + random.uniform(0.2, 5) * DAY * (1 + me.traits.busy)
            if choice == "forget":
                if random.random() < 0.5:
                    continue  # they never answer
                choice, reason = decide_without_forgetting(me.traits, partner.traits, pair.topics)
                at = until - random.uniform(1.5, 3.5) * DAY  # after the reminder, and early enough for a slow machine
            body = {"answer": "accepted"} if choice == "accept" else {"answer": "declined", "reason": reason}
            self._plan_request(at, pair, me, "matcher", "POST", "answer", body, body["answer"] or "")

    def _when_formed(self, pair: DemoPair, data: Mapping[str, Any]) -> None:
        formed = pair.formed_at = _parse_time(data["formed_at"])
        self._when_state_changes(pair, data)
        random = pair.random_for("beginning")
        drafted = formed + random.uniform(0.5, 6) * DAY
        if random.random() > 0.3 * pair.senior.traits.forgetful:
            goals = sorted(pair.topics)[:3] or ["See with other eyes"]
            draft = {"goals": goals, "meeting_rhythm": "monthly", "confidential": True}
            self._plan_request(drafted, pair, pair.senior, "matcher", "POST", "charter", draft, "charter written")
            if random.random() > 0.3 * pair.junior.traits.forgetful:
                agreed = drafted + random.uniform(0.5, 4) * DAY
                self._plan_request(
                    agreed, pair, pair.junior, "matcher", "POST", "charter", {"agree": True}, "charter agreed"
                )
        if random.random() > 0.08:
            self._book(pair, formed + random.uniform(1, 8) * DAY * (1 + pair.senior.traits.busy / 2))
        self._maybe_plan_end(pair, formed)
        for me, _ in pair.each_with_partner():
            self._maybe_plan_absence(pair, me, formed)

    def _maybe_plan_absence(self, pair: DemoPair, me: Persona, formed: datetime) -> None:
        """Some are absent for two or three weeks, and pause the pairing for that time."""
        random = pair.random_for(f"away {me.external_id}")
        if random.random() > 0.06:
            return
        since = formed + random.uniform(25, 90) * DAY
        until = since + random.uniform(9, 20) * DAY

        async def announce() -> None:
            away = [{"since": since.date().isoformat(), "until": until.date().isoformat()}]
            await self._personas.caller_of(me).put("profiles", "/members/me/away", {"away": away})
            self.action_counts["told when they are away"] += 1

        self.plan(since - 3 * DAY, me.member_id, announce)
        self._plan_request(
            since, pair, me, "matcher", "POST", "pause", {"until": until.date().isoformat()}, "put it on hold"
        )
        self._plan_request(until, pair, me, "matcher", "POST", "resume", {}, "went on")

    def _maybe_plan_end(self, pair: DemoPair, formed: datetime) -> None:
        """Some request another partner, and some end the pairing."""
        random = pair.random_for("second thoughts")
        if random.random() < 0.16 - 0.12 * pair.lower_liking():
            at = formed + random.uniform(30, 75) * DAY
            who = pair.choose_one(random)
            self._plan_request(at, pair, who, "feedback", "POST", "partner-change", {}, "another partner wished")
        elif random.random() < 0.06:
            at = formed + random.uniform(20, 110) * DAY
            who = pair.choose_one(random)
            self._plan_request(at, pair, who, "matcher", "POST", "end", {}, "ended by one of them")

    def _when_state_changes(self, pair: DemoPair, data: Mapping[str, Any]) -> None:
        pair.is_running = data["state"] in ("formed", "chartered")
        planned = datetime.fromisoformat(f"{data['planned_end']}T00:00:00+00:00") if data["planned_end"] else None
        if planned is None or planned == pair.planned_end or not pair.is_running:
            return
        first, pair.planned_end = pair.planned_end is None, planned
        random = pair.random_for("going on")
        if first and pair.lower_liking() > 0.3 and random.random() < 0.6:
            for me, _ in pair.each_with_partner():
                at = planned - random.uniform(5, 12) * DAY
                self._plan_request(at, pair, me, "matcher", "POST", "renew", {"months": 3}, "wished to go on")

    def _when_resumed(self, pair: DemoPair, data: Mapping[str, Any]) -> None:
        self._when_state_changes(pair, data)
        if not pair.has_date and pair.meetings_held < self._planned_meetings:
            self._book(
                pair, _parse_time(data["happened_at"]) + pair.random_for(f"back {pair.dates}").uniform(0.5, 4) * DAY
            )

    def _when_meeting_scheduled(self, pair: DemoPair, data: Mapping[str, Any]) -> None:
        session, starts = data["session"]["session_id"], _parse_time(data["session"]["starts_at"])
        pair.dates += 1
        random = pair.random_for(f"date {pair.dates}")
        who = pair.choose_one(random)
        outcome = decide_meeting(pair.senior.traits, pair.junior.traits, random)
        path = f"sessions/{session}"
        if outcome == "held":
            for me, partner in pair.each_with_partner():
                if random.random() < me.traits.forgetful:
                    continue
                at = starts + timedelta(hours=1) + random.uniform(0, 1.5) * DAY
                body = {"met": True, "worth": rate_meeting(me.traits, partner.traits, pair.topics, random)}
                self._plan_request(at, pair, me, "feedback", "PUT", f"{path}/pulse", body, "said that they met")
            self._maybe_note_idea(pair, starts, random)
        elif outcome == "missed":
            self._plan_request(
                starts + DAY / 4, pair, who, "feedback", "POST", f"{path}/missed", {}, "said nobody came"
            )
        elif outcome == "cancelled":
            self._plan_request(
                starts - DAY, pair, who, "feedback", "POST", f"{path}/cancel", {}, "called a meeting off"
            )
        else:
            moved = {"starts_at": _format_time(starts + random.uniform(2, 6) * DAY)}
            self._plan_request(starts - DAY, pair, pair.senior, "feedback", "PUT", path, moved, "moved a meeting")

    def _maybe_note_idea(self, pair: DemoPair, met: datetime, random: Random) -> None:
        if random.random() < 0.15:
            noted = {"text": f"Try {min(pair.topics, default='it')} on a real task together."}
            self._plan_request(met + DAY, pair, pair.junior, "feedback", "POST", "ideas", noted, "noted an idea")

    def _when_meeting_held(self, pair: DemoPair, data: Mapping[str, Any]) -> None:
        pair.meetings_held = data["sessions_held"]
        if pair.meetings_held >= self._planned_meetings or not pair.is_running or pair.has_date:
            return
        met = _parse_time(data["session"]["starts_at"])
        random = pair.random_for(f"after meeting {pair.meetings_held}")
        if random.random() < 0.75:
            self._book(pair, met + random.uniform(1, 8) * DAY, ahead=random.uniform(14, 22))
        elif random.random() < 0.8:  # planned outside the system and recorded afterwards
            at = met + random.uniform(20, 33) * DAY
            noted = {"starts_at": _format_time(at), "held": True}
            who = pair.choose_one(random)
            self._plan_request(at + DAY / 3, pair, who, "feedback", "POST", "sessions", noted, "said that they met")

    def _when_meeting_failed(self, pair: DemoPair, data: Mapping[str, Any]) -> None:
        if pair.is_running and not pair.has_date:
            random = pair.random_for(f"instead of date {pair.dates}")
            self._book(pair, _parse_time(data["happened_at"]) + random.uniform(1, 6) * DAY)

    def _when_help_offered(self, pair: DemoPair, data: Mapping[str, Any]) -> None:
        """The offer of help makes about half of the pairs book a meeting."""
        random = pair.random_for(f"help {pair.dates} {pair.meetings_held}")
        if pair.is_running and not pair.has_date and random.random() < 0.5:
            self._book(pair, _parse_time(data["happened_at"]) + random.uniform(0.5, 4) * DAY)

    def _when_checkins_are_due(self, pair: DemoPair) -> None:
        """The event is on a restricted topic, so its data is not read. Each of the two sees what is asked of them."""
        for me, partner in pair.each_with_partner():
            pair.checkin_visits += 1
            random = pair.random_for(f"visit {pair.checkin_visits} {me.external_id}")
            at = self._clock.now() + random.uniform(0.2, 6) * DAY
            self.plan(at, pair.pairing_id, partial(self._answer_open_checkins, pair, me, partner))

    async def _answer_open_checkins(self, pair: DemoPair, me: Persona, partner: Persona) -> None:
        """Each check-in is decided on once: forgotten, or answered."""
        open_checkins = await self._personas.caller_of(me).get("feedback", "/checkins")
        for checkin in open_checkins["items"]:
            milestone, random = checkin["milestone"], pair.random_for(f"{checkin['milestone']} {me.external_id}")
            if checkin["pairing_id"] != pair.pairing_id or (milestone, me.external_id) in pair.checkins_decided:
                continue
            pair.checkins_decided.add((milestone, me.external_id))
            if random.random() < 0.1 + me.traits.forgetful:
                continue
            due = _parse_time(checkin["due_at"])
            months = (due - (pair.formed_at or due)) / (30 * DAY)
            items = _FIRST_CHECKIN_ITEMS if milestone == "day_0" else _LATER_CHECKIN_ITEMS
            liking = compute_liking(me.traits, partner.traits, pair.topics)
            body = {
                "answers": answer_checkin(items, liking, months, random),
                "call_me": milestone != "day_0" and random.random() < 0.02,
            }
            path = f"checkins/{milestone}"
            await self._try_request(pair, me, "feedback", "PUT", path, body, "answered a check-in")

    def _book(self, pair: DemoPair, at: datetime, *, ahead: float | None = None) -> None:
        """Let the senior book the next meeting."""
        pair.dates += 1
        random = pair.random_for(f"booking {pair.dates}")
        days = ahead if ahead is not None else random.uniform(2, 8)

        async def book() -> None:
            starts = (self._clock.now() + days * DAY).replace(hour=random.randint(9, 15), minute=0, second=0)
            body = {"starts_at": _format_time(starts)}
            await self._try_request(pair, pair.senior, "feedback", "POST", "sessions", body, "gave a meeting a date")

        self.plan(at, pair.pairing_id, book)

    def _plan_request(
        self,
        at: datetime,
        pair: DemoPair,
        me: Persona,
        service: str,
        method: str,
        path: str,
        body: Mapping[str, Any],
        description: str,
    ) -> None:
        self.plan(at, pair.pairing_id, lambda: self._try_request(pair, me, service, method, path, body, description))

    async def _try_request(
        self,
        pair: DemoPair,
        me: Persona,
        service: str,
        method: str,
        path: str,
        body: Mapping[str, Any],
        description: str,
    ) -> None:
        """Send a request. An expected refusal is ignored; one by a service that lags behind is repeated a day later."""
        try:
            await self._personas.caller_of(me).send_json(method, service, f"/pairings/{pair.pairing_id}/{path}", body)
        except RequestRefused as refusal:
            if refusal.reason not in _EXPECTED_REFUSALS:
                raise
            key = f"{path} {me.external_id}"
            pair.tries[key] += 1
            if refusal.reason in ("not_found", "no_charter", "not_yet") and pair.tries[key] < _MAX_TRIES:
                self._plan_request(self._clock.now() + DAY, pair, me, service, method, path, body, description)
            else:
                self.action_counts["came too late"] += 1
        else:
            self.action_counts[description] += 1


async def _perform_in_order(actions: list[Action]) -> None:
    for action in actions:
        await action()


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _format_time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
