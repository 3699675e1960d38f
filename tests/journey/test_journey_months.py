"""The months after the first acceptance: the whole life of one small programme, while business time advances.

Six pairs are named by their history. *lasting* begins late, meets, is renewed and reaches its planned end; *changing*
requests another partner; *pausing* takes a break. *quiet* never meets, and then one member leaves the company;
*parting* ends because one member is erased; *refused* never begins. After each step mail and inbox match the table of
purposes. In the end mail, inbox, the notifier's records and its events agree.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from functools import partial
from typing import Any

import pytest

from contracts import taxonomy
from tests.journey.conditions import wait_until
from tests.journey.people import (
    JourneyPerson,
    Json,
    Members,
    a_programme,
    admin,
    begin_import,
    cohort,
    csv_of,
    everything,
    imported,
    ok,
    partners,
    second_admin,
)
from tests.journey.stack import Stack
from tests.journey.subscriber import MAY_READ, OtherSystem, SubscriberEvent

PROGRAMME = "months"
PEOPLE = cohort(PROGRAMME, 6, 6)
COORDINATOR = JourneyPerson(
    "months-C", "senior", "Months Coordinator", department="legal", email="months.coordinator@halden.example"
)
NAMES = ("lasting", "changing", "pausing", "quiet", "parting", "refused")
DAY = timedelta(days=1)
RESTRICTED = ("checkins.v1", "partner-changes.v1", "outcomes.v1")
OPENLY = {"proposal", "proposal_closed", "partners", "agreed", "paused", "resumed", "renewed", "ended"}
"""Purposes whose events state them by name and id."""

JOINING = "invitation"
NEUTRAL = "Nobody is to blame, and nobody needs a reason."


@dataclass
class MonthsStory:
    """The programme since ``begun``, a Monday at nine; ``pairs`` by name; the other fields collect observations."""

    members: Members
    others: OtherSystem
    coordinator: str
    begun: datetime
    pairs: dict[str, Json] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)
    """The final number of mails of each member who left or was erased."""
    gone: dict[str, str] = field(default_factory=dict)
    """Addresses of members whose contact was deleted."""
    said: Counter[str] = field(default_factory=Counter)
    """Acknowledged HTTP requests, by the type of the event that must follow."""

    @property
    def stack(self) -> Stack:
        return self.members.stack

    # -- time ------------------------------------------------------------------------------------------------------

    def day(self, number: int, hour: int = 9) -> datetime:
        """The time on the given day after the beginning."""
        return self.begun + number * DAY + timedelta(hours=hour - 9)

    def until(self, moment: datetime) -> None:
        """Wait until no work is left, advance to this time, and process all work that is due by then."""
        self.stack.rest()
        self.stack.until(moment)
        self.stack.rest()

    def on(self, day: date, hour: int = 9) -> datetime:
        return datetime.combine(day, time(hour), self.begun.tzinfo)

    # -- acts of the members of a pair ------------------------------------------------------------------------------

    def id(self, name: str) -> str:
        return str(self.pairs[name]["pairing_id"])

    def both(self, name: str) -> tuple[str, str]:
        """The senior and the junior."""
        return partners(self.pairs[name])

    def pairing(self, name: str) -> Json:
        return self.members.pairing(self.id(name))

    def move(self, name: str, member: str, what: str, **body: Any) -> Json:
        return dict(ok(self.members.matcher(member).post(f"/pairings/{self.id(name)}/{what}", json=body)))

    def meet(self, name: str, member: str, starts_at: datetime, *, held: bool = False) -> str:
        """Report a meeting, and return its id."""
        before = {session["session_id"] for session in self.care(name)["sessions"]}
        body = {"starts_at": starts_at.isoformat(), "held": held}
        view = ok(self.members.feedback(member).post(f"/pairings/{self.id(name)}/sessions", json=body))
        self.said[f"session.{'held' if held else 'scheduled'}"] += 1
        return str(next(session["session_id"] for session in view["sessions"] if session["session_id"] not in before))

    def session(self, name: str, member: str, session: str, what: str) -> None:
        ok(self.members.feedback(member).post(f"/pairings/{self.id(name)}/sessions/{session}/{what}"))
        self.said[f"session.{what if what != 'cancel' else 'cancelled'}"] += 1

    def check_in(self, name: str, milestone: str, answer: int = 4) -> None:
        """Both members answer a check-in, each with own answers."""
        for member in self.both(name):
            self.answer(name, member, milestone, answer)

    def answer(self, name: str, member: str, milestone: str, answer: int = 4) -> None:
        api, path = self.members.feedback(member), f"/pairings/{self.id(name)}/checkins/{milestone}"
        open_ = {checkin["milestone"]: checkin for checkin in ok(api.get("/checkins"))["items"]}
        questions = [checkin["id"] for checkin in open_[milestone]["questions"]]
        given = ok(api.put(path, json={"answers": dict.fromkeys(questions, answer)}))
        assert given["completed"]
        self.said["checkin.completed"] += 1

    def care(self, name: str) -> Json:
        return dict(ok(self.members.coordinator("feedback").get(f"/pairings/{self.id(name)}/care")))

    # -- mail and inbox -------------------------------------------------------------------------------------------

    def address(self, member: str) -> str:
        if member in self.gone:
            return self.gone[member]
        api = self.stack.api("notifier", admin(self.stack))
        return str(ok(api.get(f"/contacts/{member}"))["email"])

    def post(self) -> dict[str, list[EmailMessage]]:
        """All mail of the stack, by address."""
        mails: dict[str, list[EmailMessage]] = defaultdict(list)
        for file in self.stack.maildir().iterdir():
            mail = message_from_bytes(file.read_bytes(), policy=default)
            mails[str(mail["To"].addresses[0].addr_spec)].append(mail)
        return mails

    def mailed(self, *members: str) -> list[Counter[str]]:
        """For each of these members, the number of mails of each purpose in the Maildir, without invitations."""
        post, purposes = self.post(), self.purposes()
        counts = [Counter(purposes[id_of(mail)] for mail in post[self.address(member)]) for member in members]
        return [counter - Counter({JOINING: counter[JOINING]}) for counter in counts]

    def letter(self, member: str, purpose: str) -> EmailMessage:
        """The only mail of this purpose to this member, complete."""
        purposes = self.purposes()
        [only] = [mail for mail in self.post()[self.address(member)] if purposes[id_of(mail)] == purpose]
        return only

    def purposes(self) -> dict[str, str]:
        return {note["_id"]: note["purpose"] for note in self.stack.database("notifier")["notifications"].find()}

    def inbox(self, member: str) -> list[Json]:
        return everything(partial(self.members.notifier(member).get, "/inbox"), {})

    def noted(self, member: str) -> Counter[str]:
        return Counter(item["purpose"] for item in self.inbox(member))

    # -- published events ---------------------------------------------------------------------------------------

    def events(self, topic: str, name: str | None = None) -> list[SubscriberEvent]:
        """The events of a topic about one of the pairs, or about any pair of the programme."""
        self.others.caught_up()
        events = [event for event in self.others.distinct(topic) if event.data]
        if name is not None:
            return [event for event in events if event.data and event.data.get("pairing_id") == self.id(name)]
        return [event for event in events if event.data and event.data.get("programme_id") == PROGRAMME]

    def life(self, name: str) -> list[str]:
        """The history of a pair in order, as the short types of its events."""
        return [short(event) for event in self.events("pairings.v1", name)]

    def is_silent(self, member: str) -> None:
        """From now on this member must receive no mail."""
        self.silent[member] = len(self.post()[self.address(member)])


def short(event: SubscriberEvent) -> str:
    return event.type.removeprefix("mentoring.").removesuffix(".v1")


def id_of(mail: EmailMessage) -> str:
    return str(mail["Message-ID"]).strip("<>").partition("@")[0]


@pytest.fixture(scope="module")
def others(stack: Stack) -> Iterator[OtherSystem]:
    """A subscriber that may also read outcomes in bands, which is forbidden to other systems."""
    with OtherSystem(stack.endpoints.kafka, stack.prefix, (*MAY_READ, *RESTRICTED)) as listening:
        yield listening


@pytest.fixture(scope="module")
def months(stack: Stack, others: OtherSystem) -> MonthsStory:
    imported(stack, begin_import(stack, csv_of([COORDINATOR])))
    api = stack.api("profiles", admin(stack))
    coordinator = ok(api.get("/members", params={"external_id": COORDINATOR.external_id}))["items"][0]["member_id"]
    members = a_programme(
        stack, PROGRAMME, PEOPLE, coordinators=[coordinator], care={"messages_per_week": 21, "min_group": 5}
    )
    now = stack.clock.now()
    monday = datetime.combine(now.date() + (7 - now.weekday()) * DAY, time(9), now.tzinfo)
    begun = stack.until(monday)
    return MonthsStory(members, others, coordinator, begun)


def reads_reasons(mail: EmailMessage, learns: str, shares: str) -> None:
    lines = mail.get_content().splitlines()
    assert any("you could learn about" in line and learns in line and shares not in line for line in lines)
    assert any("You could share" in line and shares in line and learns not in line for line in lines)


def figures(months: MonthsStory) -> Json:
    return dict(ok(months.members.coordinator("feedback").get(f"/programmes/{PROGRAMME}/report")))


class TestMonths:
    def test_each_side_gets_a_proposal_with_its_own_reasons(self, months: MonthsStory) -> None:
        computed = months.members.round()
        months.stack.rest()
        assert months.mailed(months.coordinator) == [{"round_to_review": 1}]
        months.members.publish(computed["round_id"])
        months.pairs = dict(zip(NAMES, months.members.pairings(state="proposed"), strict=True))
        months.stack.rest()
        for name in NAMES:
            for purposes in months.mailed(*months.both(name)):
                assert purposes == {"proposal": 1}
        senior, junior = months.both("lasting")
        gains = taxonomy.load().name("generative-ai"), taxonomy.load().name("leadership")
        for reader, learns, shares in ((senior, *gains), (junior, *reversed(gains))):
            reads_reasons(months.letter(reader, "proposal"), learns, shares)

    def test_both_accept_and_learn_who_their_partner_is(self, months: MonthsStory) -> None:
        for name in NAMES[1:-1]:
            months.members.accept_both(months.pairs[name])
        months.members.answer(months.both("lasting")[0], months.id("lasting"), "accepted")
        months.members.answer(months.both("refused")[1], months.id("refused"), "declined", reason="know_each_other")
        months.stack.rest()
        for name in NAMES[1:-1]:
            for purposes in months.mailed(*months.both(name)):
                assert purposes == {"proposal": 1, "partners": 1, "checkin": 1}
        reads_reasons(
            months.letter(months.both("quiet")[1], "partners"),
            taxonomy.load().name("leadership"),
            taxonomy.load().name("generative-ai"),
        )
        first, second = months.mailed(*months.both("refused"))
        assert first == second == {"proposal": 1, "proposal_closed": 1}
        assert months.life("refused") == ["pairing.proposed", "pairing.lapsed"]
        for name in ("changing", "pausing", "parting"):
            months.check_in(name, "day_0", 3)
            months.meet(name, months.both(name)[0], months.day(8, 10))

    def test_booking_and_meetings_are_reminded_in_time(self, months: MonthsStory) -> None:
        months.until(months.day(7, 11))
        for name in ("changing", "pausing", "parting"):
            for purposes in months.mailed(*months.both(name)):
                assert purposes == {
                    "proposal": 1,
                    "partners": 1,
                    "checkin": 1,
                    "charter_reminder": 1,
                    "meeting_soon": 1,
                }
            assert all("meeting_planned" in months.noted(member) for member in months.both(name))
        for purposes in months.mailed(*months.both("quiet")):
            assert purposes == {
                "proposal": 1,
                "partners": 1,
                "checkin": 1,
                "charter_reminder": 1,
                "checkin_reminder": 1,
            }
        months.until(months.day(8, 11))
        senior, junior = months.mailed(*months.both("quiet"))
        assert (senior["booking_reminder"], junior["booking_reminder"]) == (1, 0)

    def test_only_the_silent_side_is_reminded(self, months: MonthsStory) -> None:
        """The acceptance of the other side still counts."""
        months.until(months.day(10))
        answered, forgot = months.mailed(*months.both("lasting"))
        assert answered == {"proposal": 1}
        assert forgot == {"proposal": 1, "answer_reminder": 1}
        months.members.answer(months.both("lasting")[1], months.id("lasting"), "accepted")
        months.stack.rest()
        assert months.life("lasting") == ["pairing.proposed", "pairing.formed"]
        months.check_in("lasting", "day_0", 2)

    def test_a_charter_of_both(self, months: MonthsStory) -> None:
        senior, junior = months.both("lasting")
        months.move("lasting", senior, "charter", goals=["speak plainly"], meeting_rhythm="monthly")
        assert months.move("lasting", junior, "charter", agree=True)["state"] == "chartered"
        months.stack.rest()
        assert all(months.noted(member)["agreed"] == 1 for member in (senior, junior))
        assert months.life("lasting") == ["pairing.proposed", "pairing.formed", "pairing.chartered"]

    def test_meetings_moved_cancelled_held_undated_and_missed(self, months: MonthsStory) -> None:
        held = {name: months.care(name)["sessions"][0]["session_id"] for name in ("changing", "pausing", "parting")}
        for name in ("changing", "parting"):
            months.session(name, months.both(name)[1], held[name], "held")
        months.session("pausing", months.both("pausing")[0], held["pausing"], "missed")
        months.meet("pausing", months.both("pausing")[1], months.day(9, 15), held=True)
        senior, junior = months.both("lasting")
        moved = months.meet("lasting", senior, months.day(14, 10))
        path = f"/pairings/{months.id('lasting')}/sessions/{moved}"
        ok(months.members.feedback(senior).put(path, json={"starts_at": months.day(15, 10).isoformat()}))
        months.said["session.scheduled"] += 1
        off = months.meet("lasting", senior, months.day(16, 10))
        months.session("lasting", junior, off, "cancel")
        months.stack.rest()
        assert [short(event) for event in months.events("feedback.v1", "lasting") if ".session." in event.type] == [
            "session.scheduled", "session.scheduled", "session.scheduled", "session.cancelled",
        ]  # fmt: skip
        assert all(purposes["meeting_off"] == 1 for purposes in months.mailed(senior, junior))
        assert all(purposes["meeting_missed"] == 1 for purposes in months.mailed(*months.both("pausing")))
        assert all(months.noted(member)["meeting_held"] == 1 for member in months.both("pausing"))

    def test_a_moved_meeting_is_reminded_at_its_new_time_alone(self, months: MonthsStory) -> None:
        months.until(months.day(14, 9))
        assert not any(purposes["meeting_soon"] for purposes in months.mailed(*months.both("lasting")))
        months.until(months.day(14, 11))
        for member in months.both("lasting"):
            assert "10:00" in months.letter(member, "meeting_soon")["Subject"]
            assert f"{months.day(15):%-d %B}" in months.letter(member, "meeting_soon")["Subject"]

    def test_a_missing_first_meeting_is_noticed(self, months: MonthsStory) -> None:
        """A coordinator is informed."""
        assert not [event for event in months.events("feedback.v1") if "contact.needed" in event.type]
        months.until(months.day(15, 11))
        [needed] = [event for event in months.events("feedback.v1") if "contact.needed" in event.type]
        assert needed.data is not None
        assert (needed.subject, needed.data["facts"]) == (months.id("quiet"), ["no_first_meeting_booked"])
        [coordinator] = months.mailed(months.coordinator)
        assert coordinator == {"round_to_review": 1, "pair_needs_a_person": 1}
        text = months.letter(months.coordinator, "pair_needs_a_person").get_content()
        assert "no first meeting has been planned yet" in text
        assert not [somebody.name for somebody in PEOPLE if somebody.name in text]
        assert all(purposes["help_offered"] == 1 for purposes in months.mailed(*months.both("quiet")))
        listed = everything(
            partial(months.members.coordinator("feedback").get, f"/programmes/{PROGRAMME}/care"),
            {"help_wanted": "true"},
        )
        assert [session["pairing_id"] for session in listed] == [months.id("quiet")]
        [date] = [session for session in months.care("lasting")["sessions"] if session["state"] == "scheduled"]
        months.session("lasting", months.both("lasting")[1], date["session_id"], "held")

    def test_a_pause_ends_by_itself_and_its_days_do_not_count(self, months: MonthsStory) -> None:
        months.until(months.day(20))
        before = months.pairing("pausing")["planned_end"]
        months.move("pausing", months.both("pausing")[1], "pause", until=str(months.day(27).date()))
        months.until(months.day(27))
        assert months.life("pausing") == ["pairing.proposed", "pairing.formed", "pairing.paused", "pairing.resumed"]
        days = date.fromisoformat(months.pairing("pausing")["planned_end"]) - date.fromisoformat(before)
        assert days.days in (
            6,
            7,
        )  # from day 20 at nine to day 27: at midnight, or at the first sweep afterwards
        for member, purposes in zip(months.both("pausing"), months.mailed(*months.both("pausing")), strict=True):
            assert (months.noted(member)["paused"], purposes["resumed"]) == (1, 1)

    def test_day_30_asks_each_side_and_shows_no_answer(self, months: MonthsStory) -> None:
        """Figures cover at least k people, and come in the first moment of a week."""
        months.until(months.day(31))
        names = {name for name in NAMES for purposes in months.mailed(*months.both(name)) if purposes["checkin"] > 1}
        assert names == {"changing", "quiet", "parting"}
        months.check_in("changing", "day_30")
        report = figures(months)
        assert report["k"] == 5
        assert (report["funnel"]["proposed"], report["funnel"]["formed"], report["funnel"]["lapsed"]) == (6, 5, None)
        assert not [figure for figure in report["figures"] if figure["name"].startswith("1:")]

    def test_a_partner_change_ends_the_pairing_without_blame(self, months: MonthsStory) -> None:
        """No other person learns who requested the change."""
        months.until(months.day(33))
        senior, junior = months.both("changing")
        ok(months.members.feedback(junior).post(f"/pairings/{months.id('changing')}/partner-change", json={}))
        months.said["partner.change.requested"] += 1
        months.stack.rest()
        assert months.life("changing") == ["pairing.proposed", "pairing.formed", "pairing.ended"]
        assert months.pairing("changing")["end_kind"] == "ended_early"
        letters = [months.letter(member, "ended").get_content() for member in (senior, junior)]
        assert all(NEUTRAL in text for text in letters)
        assert not [event for event in months.events("feedback.v1", "changing") if "partner.change" in event.type]
        [wish] = list(months.events("partner-changes.v1", "changing"))
        assert wish.data is not None
        assert "side" not in wish.data
        assert not {senior, junior} & {str(value) for value in wish.data.values()}
        ended = months.events("pairings.v1", "changing")[-1]
        assert "ce_causationid" not in ended.record.headers, "an end by a wish looks like every other end"

    def test_free_members_are_suggested_to_new_partners(self, months: MonthsStory) -> None:
        """A coordinator releases the suggestion."""
        path = f"/programmes/{PROGRAMME}"
        free = [item["member_id"] for item in ok(months.members.coordinator().get(f"{path}/free"))["items"]]
        (old_senior, old_junior), (senior, junior) = months.both("changing"), months.both("refused")
        assert set(free) == {old_senior, old_junior, senior, junior}
        suggested = ok(months.members.coordinator().post(f"{path}/suggestions"))["items"]
        assert {(item["senior"], item["junior"]) for item in suggested} == {(senior, old_junior), (old_senior, junior)}
        before = months.mailed(*free)
        months.stack.rest()
        assert months.mailed(*free) == before, "a suggestion sends no message"
        body = {"senior": senior, "junior": old_junior}
        months.pairs["second"] = ok(months.members.coordinator().post(f"{path}/pairings", json=body))
        months.stack.rest()
        assert all(purposes["proposal"] == 2 for purposes in months.mailed(senior, old_junior))
        months.members.accept_both(months.pairs["second"])
        months.stack.rest()
        assert [purposes["partners"] for purposes in months.mailed(senior, old_junior)] == [1, 2]
        assert months.life("second") == ["pairing.proposed", "pairing.formed"]

    def test_a_leaver_gets_no_message_and_the_partner_gets_one(self, months: MonthsStory) -> None:
        leaver, stays = months.both("quiet")
        by_id = {id: external for external, id in months.members.ids.items()}
        row = next(somebody for somebody in PEOPLE if somebody.external_id == by_id[leaver])
        months.is_silent(leaver)
        head, line = csv_of([row]).decode().splitlines()
        leaving = begin_import(months.stack, f"{head},employment\n{line},left\n".encode())
        api = months.stack.api("profiles", admin(months.stack))
        settled = wait_until(
            lambda: next(
                (
                    state
                    for state in [ok(api.get(f"/imports/{leaving}"))["state"]]
                    if state in ("done", "waiting_for_release")
                ),
                None,
            ),
            "the import done or waiting",
        )
        if settled == "waiting_for_release":
            ok(months.stack.api("profiles", second_admin(months.stack)).post(f"/imports/{leaving}/release"))
        imported(months.stack, leaving)
        months.stack.rest()
        assert months.pairing("quiet")["end_kind"] == "not_started"
        assert months.mailed(stays)[0]["ended"] == 1
        assert NEUTRAL in months.letter(stays, "ended").get_content()

    def test_an_erased_member_gets_no_message(self, months: MonthsStory) -> None:
        """The partner gets one."""
        stays, erased = months.both("parting")
        months.gone[erased] = months.address(erased)
        months.is_silent(erased)
        ok(months.members.profiles(erased).post("/members/me/erasure"))
        api = months.stack.api("profiles", admin(months.stack))
        wait_until(lambda: ok(api.get(f"/erasures/{erased}"))["done"], "every service has forgotten them")
        months.stack.rest()
        assert months.life("parting")[-1] == "pairing.ended"
        assert months.mailed(stays)[0]["ended"] == 1
        assert not list(months.stack.database("notifier")["notifications"].find({"member_id": erased}))

    def test_days_on_hold_move_later_dates(self, months: MonthsStory) -> None:
        months.until(months.day(37))
        assert all(purposes["checkin"] == 1 for purposes in months.mailed(*months.both("pausing")))
        months.until(months.day(43))
        assert all(
            purposes["checkin"] == 2 for purposes in months.mailed(*months.both("pausing"), *months.both("lasting"))
        )
        months.check_in("lasting", "day_30", 5)

    def test_after_ninety_days_and_half_way(self, months: MonthsStory) -> None:
        months.until(months.day(103))
        assert months.care("lasting")["milestones"]["mid_point_reached_at"] is not None
        for member, purposes in zip(months.both("lasting"), months.mailed(*months.both("lasting")), strict=True):
            assert (purposes["checkin"], months.noted(member)["half_way"]) == (3, 1)
        months.check_in("lasting", "day_90", 5)

    def test_a_renewal_moves_the_end_and_its_announcement(self, months: MonthsStory) -> None:
        months.until(months.day(150))
        planned = date.fromisoformat(months.pairing("lasting")["planned_end"])
        for member in months.both("lasting"):
            months.move("lasting", member, "renew", months=1)
        months.stack.rest()
        assert all(purposes["renewed"] == 1 for purposes in months.mailed(*months.both("lasting")))
        months.until(months.on(planned - 13 * DAY))
        assert not any(purposes["closing_soon"] for purposes in months.mailed(*months.both("lasting")))
        moved = date.fromisoformat(months.pairing("lasting")["planned_end"])
        assert moved.month == planned.month % 12 + 1
        months.until(months.on(moved - 13 * DAY))
        assert all(purposes["closing_soon"] == 1 for purposes in months.mailed(*months.both("lasting")))

    def test_a_planned_end_is_thanked_and_recorded_in_bands(self, months: MonthsStory) -> None:
        end = date.fromisoformat(months.pairing("lasting")["planned_end"])
        months.until(months.on(end + DAY))
        assert months.life("lasting") == [
            f"pairing.{what}" for what in ("proposed", "formed", "chartered", "renewed", "ended")
        ]
        assert months.pairing("lasting")["end_kind"] == "completed"
        for member in months.both("lasting"):
            assert "Thank you" in months.letter(member, "ended")["Subject"]
        assert not months.events("outcomes.v1", "lasting")
        months.check_in("lasting", "end", 5)
        months.stack.rest()
        [outcome] = months.events("outcomes.v1", "lasting")
        assert outcome.data is not None
        assert {outcome.data[name] for name in ("senior_learned", "junior_learned", "senior_enjoyed")} == {"high"}
        assert outcome.data["meetings"] == "low"

    def test_an_unanswered_end_is_recorded_after_thirty_days(self, months: MonthsStory) -> None:
        months.until(months.day(260))
        assert months.pairing("pausing")["end_kind"] == "completed"
        [unanswered] = months.events("outcomes.v1", "pausing")
        assert unanswered.data is not None
        assert unanswered.data["senior_learned"] == "unknown"
        report = figures(months)
        assert all(count is None or count == 0 or count >= 5 for count in report["funnel"].values())
        assert report["funnel"]["proposed"] == 6  # seven proposals without the erased one
        named = {figure["name"]: figure for figure in report["figures"]}
        assert named["days_to_first_meeting"]["n"] >= 3
        assert (named["met_by_day_30"]["n"], named["met_by_day_30"]["share"]) == (4, 0.75)
        assert not [name for name in named if name.startswith(("1:", "3:", "4:"))], (
            "the figures would cover too few people"
        )


class TestAfterwards:
    def test_every_acknowledged_fact_is_told_once(self, months: MonthsStory) -> None:
        topics = ("feedback.v1", "checkins.v1", "partner-changes.v1")
        counts = Counter(short(event) for topic in topics for event in months.events(topic))
        assert {kind: counts[kind] for kind in months.said} == months.said
        for topic in ("pairings.v1", "feedback.v1", "notifications.v1"):
            firsts = {of: list(dict.fromkeys(numbers)) for of, numbers in months.others.sequences(topic).items()}
            assert firsts == {of: sorted(numbers) for of, numbers in firsts.items()}

    def test_leavers_and_erased_members_got_nothing_more(self, months: MonthsStory) -> None:
        post = months.post()
        assert {member: len(post[months.address(member)]) for member in months.silent} == months.silent
        assert len(months.silent) == 2

    def test_mail_inbox_records_and_events_agree(self, months: MonthsStory) -> None:
        collection = months.stack.database("notifier")["notifications"]
        ours: Sequence[str] = [*months.members.ids.values(), months.coordinator]
        staying = [member for member in ours if member not in months.gone]
        post = months.post()
        letters = [mail for member in ours for mail in post[months.address(member)]]
        ids = Counter(id_of(mail) for mail in letters)
        assert max(ids.values()) == 1
        for member in staying:
            records = {note["_id"]: note for note in collection.find({"member_id": member})}
            mailed = {id for id, note in records.items() if (note["state"], note["channel"]) == ("sent", "email")}
            assert {id_of(mail) for mail in post[months.address(member)]} == mailed
            shown = {note["id"]: note for note in months.inbox(member)} if member not in months.silent else None
            if shown is not None:
                assert set(shown) == {id for id, note in records.items() if note["shown_at"]}
                assert {id for id, note in shown.items() if note["by_email"] == "sent"} == mailed & set(shown)
            events = [
                event
                for event in months.others.distinct("notifications.v1")
                if event.data and event.data["member_id"] == member
            ]
            counts = Counter((event.subject, short(event)) for event in events if event.subject in records)
            said = {id: note for id, note in records.items() if note["said_at"] and note["reason"] != "not_needed"}
            assert all(note["state"] in ("sent", "suppressed") for note in records.values())
            assert set(counts) <= {(id, f"notification.{note['state']}") for id, note in said.items()}
            assert set(counts) >= {
                (id, f"notification.{note['state']}") for id, note in said.items() if note["purpose"] in OPENLY
            }
            causes = Counter((note.data["purpose"], note.data["cause_id"]) for note in events if note.data)
            assert max([*counts.values(), *causes.values()]) == 1
