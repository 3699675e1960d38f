"""How the simulated people live through the months: what they hear makes them intend things, and in time they do them.

They hear what any subscriber hears, and act over HTTP as themselves. When and what is drawn from who they are, so the
same people do the same things however fast the machine is.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from random import Random
from typing import Any

from chassis.core.clocks import Clock
from cli.demo.agenda import Diary
from cli.demo.http_client import Refusal
from cli.demo.personas import Crowd, Human
from cli.demo.preferences import answer, by_heart, liking, meeting, ratings, worth
from cli.demo.subscriber import Seen

SEED = 5
DAY = timedelta(days=1)
_ORDINARY = frozenset(
    {
        "closed", "in_the_past", "no_charter", "no_longer_possible", "not_enrolled", "not_found", "not_proposed",
        "not_running", "not_scheduled", "not_yet", "over", "too_late", "wrong_state",
    }
)  # fmt: skip
"""The other was faster, or things have changed meanwhile: what happens to people every day."""
_ON_DAY_0 = ("1", "2")
_LATER = ("1", "2", "3", "4", "5", "6", "7", "8")
_MOST_TRIES = 4

Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Intention:
    """``of``: the pairing or person that it is about; what concerns the same one is done one after the other."""

    of: str
    act: Act


@dataclass
class Pair:
    """Two people of a pairing, as they know it."""

    pairing_id: str
    senior: Human
    junior: Human
    topics: frozenset[str]
    formed_at: datetime | None = None
    planned_end: datetime | None = None
    running: bool = False
    dated: bool = False
    """Whether a meeting is still to come."""
    held: int = 0
    dates: int = 0
    """Times that something was arranged; each draws its own chance."""
    tries: Counter[str] = field(default_factory=Counter)

    def both(self) -> tuple[tuple[Human, Human], tuple[Human, Human]]:
        return (self.senior, self.junior), (self.junior, self.senior)

    def on_side(self, side: str) -> tuple[Human, Human]:
        return self.both()[0 if side == "senior" else 1]

    def one_of_them(self, chance: Random) -> Human:
        return chance.choice((self.senior, self.junior))

    def liking(self) -> float:
        """How much the less enthusiastic of the two is drawn to it."""
        return min(liking(me.hidden, other.hidden, self.topics) for me, other in self.both())

    def chance(self, what: str) -> Random:
        return Random(f"{SEED} {self.senior.external_id} {self.junior.external_id} {what}")


class Lives:
    """Everybody's, from the first proposal on. ``hear`` may be called from any thread."""

    def __init__(self, crowd: Crowd, clock: Clock, planned: int) -> None:
        """``planned``: meetings of each pairing."""
        self.pairs: dict[str, Pair] = {}
        self.did: Counter[str] = Counter()
        self._crowd, self._clock = crowd, clock
        self._planned = planned
        self._diary: Diary[Intention] = Diary()
        self._heard: SimpleQueue[Seen] = SimpleQueue()
        self._reactions: Mapping[str, Callable[[Pair, Mapping[str, Any]], None]] = {
            "mentoring.pairing.proposed.v1": self._when_asked,
            "mentoring.pairing.formed.v1": self._when_formed,
            "mentoring.pairing.paused.v1": self._when_it_moves,
            "mentoring.pairing.resumed.v1": self._when_it_goes_on,
            "mentoring.pairing.renewed.v1": self._when_it_moves,
            "mentoring.pairing.ended.v1": self._when_it_moves,
            "mentoring.session.scheduled.v1": self._when_there_is_a_date,
            "mentoring.session.held.v1": self._when_they_have_met,
            "mentoring.session.cancelled.v1": self._when_a_date_is_off,
            "mentoring.session.missed.v1": self._when_a_date_is_off,
            "mentoring.contact.needed.v1": self._when_help_is_offered,
            "mentoring.checkin.due.v1": self._when_questions_come,
        }

    @property
    def people(self) -> int:
        return len(self._crowd.people)

    def hear(self, seen: Seen) -> None:
        if seen.type in self._reactions:
            self._heard.put(seen)

    def intend(self, at: datetime, of: str, act: Act) -> None:
        self._diary.write(at, Intention(of, act))

    def oldest(self) -> datetime | None:
        """When somebody is next to do something, or was to have done it."""
        self._listen()
        return self._diary.oldest()

    async def go_on(self) -> int:
        """Do what is to be done by now; how much that was."""
        self._listen()
        of: dict[str, list[Act]] = defaultdict(list)
        for intention in self._diary.due(self._clock.now()):
            of[intention.of].append(intention.act)
        async with asyncio.TaskGroup() as group:
            for acts in of.values():
                group.create_task(_one_by_one(acts))
        return sum(map(len, of.values()))

    def _listen(self) -> None:
        while True:
            try:
                seen = self._heard.get_nowait()
            except Empty:
                return
            if seen.data is not None and (pair := self._pair(seen.data)) is not None:
                if seen.topic == "feedback.v1":
                    pair.dated = bool(seen.data["next_session_at"])
                self._reactions[seen.type](pair, seen.data)

    def _pair(self, data: Mapping[str, Any]) -> Pair | None:
        id = data["pairing_id"]
        if id not in self.pairs and "participants" in data:
            of = {one["side"]: self._crowd.people[one["member_id"]] for one in data["participants"]}
            topics = frozenset(one["topic_id"] for one in data["focus"])
            self.pairs[id] = Pair(id, of["senior"], of["junior"], topics)
        return self.pairs.get(id)

    # -- what they hear, and what they intend then -----------------------------------------------------------------

    def _when_asked(self, pair: Pair, data: Mapping[str, Any]) -> None:
        asked, until = _time(data["proposed_at"]), _time(data["answer_by"])
        for me, partner in pair.both():
            chance = pair.chance(f"answer {me.external_id}")
            choice, reason = answer(me.hidden, partner.hidden, pair.topics, chance)
            at = asked + chance.uniform(0.2, 5) * DAY * (1 + me.hidden.busy)
            if choice == "forget":
                if chance.random() < 0.5:
                    continue  # for good
                choice, reason = by_heart(me.hidden, partner.hidden, pair.topics)
                at = until - chance.uniform(1.5, 3.5) * DAY  # reminded by then, and in time on a slow machine too
            said = {"answer": "accepted"} if choice == "accept" else {"answer": "declined", "reason": reason}
            self._send(at, pair, me, "matcher", "POST", "answer", said, said["answer"] or "")

    def _when_formed(self, pair: Pair, data: Mapping[str, Any]) -> None:
        formed = pair.formed_at = _time(data["formed_at"])
        self._when_it_moves(pair, data)
        chance = pair.chance("beginning")
        drafted = formed + chance.uniform(0.5, 6) * DAY
        if chance.random() > 0.3 * pair.senior.hidden.forgetful:
            goals = sorted(pair.topics)[:3] or ["See with other eyes"]
            draft = {"goals": goals, "meeting_rhythm": "monthly", "confidential": True}
            self._send(drafted, pair, pair.senior, "matcher", "POST", "charter", draft, "charter written")
            if chance.random() > 0.3 * pair.junior.hidden.forgetful:
                agreed = drafted + chance.uniform(0.5, 4) * DAY
                self._send(agreed, pair, pair.junior, "matcher", "POST", "charter", {"agree": True}, "charter agreed")
        if chance.random() > 0.08:
            self._book(pair, formed + chance.uniform(1, 8) * DAY * (1 + pair.senior.hidden.busy / 2))
        self._perhaps_not_for_good(pair, formed)
        for me, _ in pair.both():
            self._perhaps_away(pair, me, formed)

    def _perhaps_away(self, pair: Pair, me: Human, formed: datetime) -> None:
        """Two or three weeks, for which the pairing is on hold."""
        chance = pair.chance(f"away {me.external_id}")
        if chance.random() > 0.06:
            return
        since = formed + chance.uniform(25, 90) * DAY
        until = since + chance.uniform(9, 20) * DAY

        async def act() -> None:
            away = [{"since": since.date().isoformat(), "until": until.date().isoformat()}]
            await self._crowd.as_themselves(me).put("profiles", "/members/me/away", {"away": away})
            self.did["told when they are away"] += 1

        self.intend(since - 3 * DAY, me.member_id, act)
        self._send(since, pair, me, "matcher", "POST", "pause", {"until": until.date().isoformat()}, "put it on hold")
        self._send(until, pair, me, "matcher", "POST", "resume", {}, "went on")

    def _perhaps_not_for_good(self, pair: Pair, formed: datetime) -> None:
        """Some would rather go on with somebody else, and some change their minds altogether."""
        chance = pair.chance("second thoughts")
        if chance.random() < 0.16 - 0.12 * pair.liking():
            at = formed + chance.uniform(30, 75) * DAY
            who = pair.one_of_them(chance)
            self._send(at, pair, who, "feedback", "POST", "partner-change", {}, "another partner wished")
        elif chance.random() < 0.06:
            at = formed + chance.uniform(20, 110) * DAY
            who = pair.one_of_them(chance)
            self._send(at, pair, who, "matcher", "POST", "end", {}, "ended by one of them")

    def _when_it_moves(self, pair: Pair, data: Mapping[str, Any]) -> None:
        pair.running = data["state"] in ("formed", "chartered")
        planned = datetime.fromisoformat(f"{data['planned_end']}T00:00:00+00:00") if data["planned_end"] else None
        if planned is None or planned == pair.planned_end or not pair.running:
            return
        first, pair.planned_end = pair.planned_end is None, planned
        chance = pair.chance("going on")
        if first and pair.liking() > 0.3 and chance.random() < 0.6:
            for me, _ in pair.both():
                at = planned - chance.uniform(5, 12) * DAY
                self._send(at, pair, me, "matcher", "POST", "renew", {"months": 3}, "wished to go on")

    def _when_it_goes_on(self, pair: Pair, data: Mapping[str, Any]) -> None:
        self._when_it_moves(pair, data)
        if not pair.dated and pair.held < self._planned:
            self._book(pair, _time(data["happened_at"]) + pair.chance(f"back {pair.dates}").uniform(0.5, 4) * DAY)

    def _when_there_is_a_date(self, pair: Pair, data: Mapping[str, Any]) -> None:
        session, starts = data["session"]["session_id"], _time(data["session"]["starts_at"])
        pair.dates += 1
        chance = pair.chance(f"date {pair.dates}")
        who = pair.one_of_them(chance)
        what = meeting(pair.senior.hidden, pair.junior.hidden, chance)
        path = f"sessions/{session}"
        if what == "held":
            for me, partner in pair.both():
                if chance.random() < me.hidden.forgetful:
                    continue
                at = starts + timedelta(hours=1) + chance.uniform(0, 1.5) * DAY
                said = {"met": True, "worth": worth(me.hidden, partner.hidden, pair.topics, chance)}
                self._send(at, pair, me, "feedback", "PUT", f"{path}/pulse", said, "said that they met")
            self._perhaps_an_idea(pair, starts, chance)
        elif what == "missed":
            self._send(starts + DAY / 4, pair, who, "feedback", "POST", f"{path}/missed", {}, "said nobody came")
        elif what == "cancelled":
            self._send(starts - DAY, pair, who, "feedback", "POST", f"{path}/cancel", {}, "called a meeting off")
        else:
            later = {"starts_at": _text(starts + chance.uniform(2, 6) * DAY)}
            self._send(starts - DAY, pair, pair.senior, "feedback", "PUT", path, later, "moved a meeting")

    def _perhaps_an_idea(self, pair: Pair, met: datetime, chance: Random) -> None:
        if chance.random() < 0.15:
            noted = {"text": f"Try {min(pair.topics, default='it')} on a real task together."}
            self._send(met + DAY, pair, pair.junior, "feedback", "POST", "ideas", noted, "noted an idea")

    def _when_they_have_met(self, pair: Pair, data: Mapping[str, Any]) -> None:
        pair.held = data["sessions_held"]
        if pair.held >= self._planned or not pair.running or pair.dated:
            return
        met = _time(data["session"]["starts_at"])
        chance = pair.chance(f"after meeting {pair.held}")
        if chance.random() < 0.75:
            self._book(pair, met + chance.uniform(1, 8) * DAY, ahead=chance.uniform(14, 22))
        elif chance.random() < 0.8:  # in their own calendars, and noted afterwards
            at = met + chance.uniform(20, 33) * DAY
            noted = {"starts_at": _text(at), "held": True}
            who = pair.one_of_them(chance)
            self._send(at + DAY / 3, pair, who, "feedback", "POST", "sessions", noted, "said that they met")

    def _when_a_date_is_off(self, pair: Pair, data: Mapping[str, Any]) -> None:
        if pair.running and not pair.dated:
            chance = pair.chance(f"instead of date {pair.dates}")
            self._book(pair, _time(data["happened_at"]) + chance.uniform(1, 6) * DAY)

    def _when_help_is_offered(self, pair: Pair, data: Mapping[str, Any]) -> None:
        """The mail helps about half of them."""
        chance = pair.chance(f"help {pair.dates} {pair.held}")
        if pair.running and not pair.dated and chance.random() < 0.5:
            self._book(pair, _time(data["happened_at"]) + chance.uniform(0.5, 4) * DAY)

    def _when_questions_come(self, pair: Pair, data: Mapping[str, Any]) -> None:
        me, partner = pair.on_side(data["side"])
        milestone = data["milestone"]
        chance = pair.chance(f"{milestone} {me.external_id}")
        if chance.random() < 0.1 + me.hidden.forgetful:
            return
        due = _time(data["due_at"])
        months = (due - (pair.formed_at or due)) / (30 * DAY)
        asked = _ON_DAY_0 if milestone == "day_0" else _LATER
        said = {
            "answers": ratings(asked, liking(me.hidden, partner.hidden, pair.topics), months, chance),
            "call_me": milestone != "day_0" and chance.random() < 0.02,
        }
        at = due + chance.uniform(0.2, 6) * DAY
        self._send(at, pair, me, "feedback", "PUT", f"checkins/{milestone}", said, "answered a check-in")

    # -- doing it --------------------------------------------------------------------------------------------------

    def _book(self, pair: Pair, at: datetime, *, ahead: float | None = None) -> None:
        """The one who books gives the next meeting a date."""
        pair.dates += 1
        chance = pair.chance(f"booking {pair.dates}")
        days = ahead if ahead is not None else chance.uniform(2, 8)

        async def act() -> None:
            starts = (self._clock.now() + days * DAY).replace(hour=chance.randint(9, 15), minute=0, second=0)
            said = {"starts_at": _text(starts)}
            await self._try(pair, pair.senior, "feedback", "POST", "sessions", said, "gave a meeting a date")

        self.intend(at, pair.pairing_id, act)

    def _send(
        self,
        at: datetime,
        pair: Pair,
        me: Human,
        service: str,
        method: str,
        path: str,
        said: Mapping[str, Any],
        what: str,
    ) -> None:
        self.intend(at, pair.pairing_id, lambda: self._try(pair, me, service, method, path, said, what))

    async def _try(
        self, pair: Pair, me: Human, service: str, method: str, path: str, said: Mapping[str, Any], what: str
    ) -> None:
        """What can no longer be done is let go; a service that has not heard of it yet is asked again a day later."""
        try:
            await self._crowd.as_themselves(me).tell(method, service, f"/pairings/{pair.pairing_id}/{path}", said)
        except Refusal as refusal:
            if refusal.reason not in _ORDINARY:
                raise
            again = f"{path} {me.external_id}"
            pair.tries[again] += 1
            if refusal.reason in ("not_found", "no_charter", "not_yet") and pair.tries[again] < _MOST_TRIES:
                self._send(self._clock.now() + DAY, pair, me, service, method, path, said, what)
            else:
                self.did["came too late"] += 1
        else:
            self.did[what] += 1


async def _one_by_one(acts: list[Act]) -> None:
    for act in acts:
        await act()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
