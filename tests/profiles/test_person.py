"""What a person is and says, decided without any server."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from contracts.envelope import OutgoingEvent, Tombstone
from contracts.errors import CommandRejected, NotFound
from contracts.moment import Moment
from contracts.privacy import ErasureRequested
from contracts.profiles import Absence, ContactChanged, Offer, ProfileChanged, Style
from services.profiles.domain import person as people
from services.profiles.domain.enrolment import Invitation, ParticipationWish, Programmes
from services.profiles.domain.hr_record import ContactWishes, Entered, ExternalId, Grade, HrRecord, HrSuggestions
from services.profiles.domain.person import Decision, OrgPosition, Person
from services.profiles.domain.style import StatementAnswers
from services.profiles.domain.topics import OfferEntry, SeekEntry
from tests.profiles.conftest import programme

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
MOMENT = Moment(NOW, NOW)
PROGRAMMES: Programmes = {"p1": programme("p1", now=NOW)}


def hr(**changes: Any) -> HrRecord:
    known: dict[str, Any] = {
        "external_id": ExternalId(source="hr", id="e1"),
        "name": "Al Ek",
        "email": "al@halden.example",
        "organisation_id": "halden",
        "department_id": "it",
        "level": Grade(scheme="1-20", value="9", normalised=9),
    }
    return HrRecord(**(known | changes))


def imported(person: Person | None = None, *, now: datetime = NOW, **changes: Any) -> Decision:
    return people.apply_hr_record(person, "m1", hr(**changes), OrgPosition(), None, PROGRAMMES, now)


def al(**changes: Any) -> Person:
    decided = imported(**changes)
    assert decided is not None
    return decided[0]


def after(decided: Decision) -> Person:
    assert decided is not None, "something was to change"
    return decided[0]


def said(decided: Decision) -> list[OutgoingEvent]:
    return [] if decided is None else decided[1]


def entered(person: Person, **what: Any) -> Decision:
    return people.change_person(person, lambda one: people.replace_entered(one, Entered(**what)), PROGRAMMES, NOW)


def takes_part(person: Person, *, now: datetime = NOW, programmes: Programmes = PROGRAMMES, **wish: Any) -> Decision:
    wished = ParticipationWish(**wish)
    return people.change_person(
        person, lambda one: people.take_part_in(one, "p1", wished, programmes, now), programmes, now
    )


OFFERS = (OfferEntry(topic="excel"),)
SEEKS = (SeekEntry(topic="python"),)


def ready() -> Person:
    person = after(entered(al(), offers=OFFERS, seeks=SEEKS))
    return after(takes_part(person, side="senior", notice="1"))


class TestPublication:
    def test_a_new_person_says_profile_and_contact(self) -> None:
        assert [type(event) for event in said(imported())] == [ProfileChanged, ContactChanged]

    def test_the_same_row_again_is_nothing_to_do(self) -> None:
        assert imported(al()) is None

    def test_only_what_changed_in_public_is_said(self) -> None:
        assert [type(event) for event in said(imported(al(), name="Al B"))] == [ContactChanged]
        assert [type(event) for event in said(imported(al(), department_id="sales"))] == [ProfileChanged]
        assert said(entered(al(), intro="Hello")) == []

    def test_a_profile_holds_no_name_no_address_and_no_free_text(self) -> None:
        person = after(entered(al(), intro="my secret hobby", offers=(OfferEntry(topic="llama whispering"),)))
        profile = people.public_profile(person)
        assert isinstance(profile, ProfileChanged)
        text = profile.model_dump_json()
        assert not any(word in text for word in ("Al Ek", "halden.example", "hobby", "whispering"))
        assert person.topics.unknown == ("llama whispering",)

    def test_topics_are_said_by_their_ids(self) -> None:
        person = after(entered(al(), offers=(OfferEntry(topic="EXCEL", level="teach"), OfferEntry(topic="excel"))))
        assert len(person.topics.offers) == 1
        assert isinstance(person.topics.offers[0], Offer)
        assert person.topics.offers[0].level == "teach"

    def test_who_has_no_address_is_never_reached_by_email(self) -> None:
        person = after(
            people.change_person(
                al(email=None),
                lambda one: people.replace_contact(one, ContactWishes(channels=("email",))),
                PROGRAMMES,
                NOW,
            )
        )
        assert person.channels() == ("inbox",)


class TestReadiness:
    def test_ready_is_enrolled_with_notice_level_an_offer_and_a_seek(self) -> None:
        enrolment = ready().enrolments[0]
        assert (enrolment.state, enrolment.waiting_since, enrolment.side) == ("ready", NOW, "senior")

    @pytest.mark.parametrize(
        ("level", "offers", "seeks", "notice"),
        [
            (None, OFFERS, SEEKS, "1"),
            (9, (), SEEKS, "1"),
            (9, OFFERS, (), "1"),
            (9, OFFERS, SEEKS, None),
            (9, (OfferEntry(topic="llama whispering"),), SEEKS, "1"),
        ],
    )
    def test_without_one_of_them_nobody_is_ready(self, level: int | None, offers: Any, seeks: Any, notice: Any) -> None:
        grade = Grade(scheme="1-20", value="9", normalised=level) if level else None
        person = after(entered(al(level=grade), offers=offers, seeks=seeks, languages=("en",)))
        assert after(takes_part(person, notice=notice)).enrolments[0].state == "enrolled"

    def test_importing_is_not_joining(self) -> None:
        decided = people.apply_hr_record(
            None, "m1", hr(), OrgPosition(), Invitation(programme_id="p1"), PROGRAMMES, NOW
        )
        assert after(decided).enrolments[0].state == "invited"

    def test_a_new_notice_is_to_be_seen_again(self) -> None:
        renewed = {"p1": programme("p1", now=NOW, notice="2")}
        person = after(people.change_person(ready(), lambda one: one, renewed, LATER))
        assert (person.enrolments[0].state, person.enrolments[0].waiting_since) == ("enrolled", None)
        with pytest.raises(CommandRejected, match="current version"):
            takes_part(person, programmes=renewed, notice="1")
        assert after(takes_part(person, programmes=renewed, notice="2")).enrolments[0].state == "ready"

    def test_who_leaves_may_come_back_and_keeps_what_they_said(self) -> None:
        left = after(people.change_person(ready(), lambda one: people.leave_programme(one, "p1", NOW), PROGRAMMES, NOW))
        assert left.enrolments[0].state == "left"
        assert imported(left) is None, "an invitation is not sent to who has left"
        back = after(takes_part(left, now=LATER))
        assert (back.enrolments[0].state, back.enrolments[0].waiting_since) == ("ready", LATER)

    @pytest.mark.parametrize(
        ("changes", "state", "code"),
        [
            ({"organisation_id": "other"}, "open", "other_organisation"),
            ({"employment": "left"}, "open", "not_employed"),
            ({}, "closed", "programme_not_open"),
            ({}, "draft", "programme_not_open"),
        ],
    )
    def test_not_everybody_can_enrol(self, changes: dict[str, Any], state: str, code: str) -> None:
        with pytest.raises(CommandRejected) as refused:
            takes_part(al(**changes), programmes={"p1": programme("p1", now=NOW, state=state)})
        assert refused.value.code == code

    def test_an_unknown_programme_is_unknown(self) -> None:
        with pytest.raises(NotFound):
            takes_part(al(), programmes={})

    def test_confirmations_keep_the_time_of_the_first(self) -> None:
        once = after(takes_part(al(), confidentiality_acknowledged=True, briefed=True))
        assert takes_part(once, now=LATER, confidentiality_acknowledged=True, briefed=True) is None
        back = after(takes_part(once, now=LATER, confidentiality_acknowledged=False))
        assert back.enrolments[0].acknowledged_at is None


class TestEmployment:
    def test_the_day_after_the_last_one_they_have_left(self) -> None:
        person = after(imported(ready(), employment="leaving", employed_until=date(2026, 3, 10)))
        assert (person.employment, person.due) == ("leaving", datetime(2026, 3, 11, tzinfo=UTC))
        gone = after(people.change_person(person, lambda one: one, PROGRAMMES, datetime(2026, 3, 11, tzinfo=UTC)))
        assert (gone.employment, gone.due, gone.enrolments[0].state) == ("left", None, "left")
        assert (
            imported(gone, now=LATER + timedelta(days=30), employment="leaving", employed_until=date(2026, 3, 10))
            is None
        )

    def test_who_returns_is_employed_again_and_decides_anew_about_programmes(self) -> None:
        gone = after(imported(ready(), employment="left"))
        back = after(imported(gone, employment="active"))
        assert (back.employment, back.enrolments[0].state) == ("active", "left")


class TestPrivateMatters:
    def test_style_is_half_the_difference_of_two_statements(self) -> None:
        answers: dict[Any, int | None] = {
            "candour_plain": 2,
            "candour_gentle": -2,
            "pace_try": 1,
            "pace_plan": 1,
            "debate_lively": 2,
        }
        person = after(
            people.change_person(
                al(),
                lambda one: people.replace_statements(one, StatementAnswers(answers=answers), NOW),
                PROGRAMMES,
                NOW,
            )
        )
        profile = people.public_profile(person)
        assert isinstance(profile, ProfileChanged)
        assert profile.style == Style(candour=2.0, pace=0.0, change=None, debate=None)

    def test_nobody_avoids_themselves_and_absences_go_forward(self) -> None:
        with pytest.raises(CommandRejected):
            people.replace_avoided(al(), ["m1"])
        with pytest.raises(CommandRejected):
            people.replace_absences(al(), [Absence(since=date(2026, 3, 2), until=date(2026, 3, 1))])
        with pytest.raises(CommandRejected):
            people.replace_contact(al(), ContactWishes(delegates=("m1",)))
        with pytest.raises(CommandRejected):
            people.replace_contact(al(), ContactWishes(time_zone="Mars/Olympus"))


class TestErasure:
    def test_a_stub_is_all_that_stays(self) -> None:
        decided = people.erase_person(ready(), lambda ref: f"hash of {len(ref)}", MOMENT)
        stub = after(decided)
        assert said(decided) == [
            Tombstone(ProfileChanged, "m1"),
            Tombstone(ContactChanged, "m1"),
            ErasureRequested(member_id="m1", requested_at=NOW),
        ]
        text = stub.model_dump_json()
        assert not any(word in text for word in ("Al", "halden", "e1", "excel", "p1"))
        assert people.erase_person(stub, str, Moment(LATER, LATER)) is None

    def test_the_nightly_file_does_not_bring_them_back(self) -> None:
        stub = after(people.erase_person(al(), str, MOMENT))
        assert imported(stub) is None
        with pytest.raises(NotFound):
            entered(stub, intro="still here?")

    def test_the_guardian_says_of_a_stub_that_it_is_gone(self) -> None:
        stub = after(people.erase_person(al(), str, MOMENT))
        assert people.public_profile(stub) == Tombstone(ProfileChanged, "m1")
        assert people.public_contact(stub) == Tombstone(ContactChanged, "m1")

    def test_completion_is_reported_once_and_leaves_no_keys(self) -> None:
        stub = after(people.erase_person(al(), str, MOMENT))
        done = after(people.complete_own_erasure(stub, LATER))
        assert done.erasure is not None
        assert (done.erasure.keys, done.erasure.heir, done.lease) == ((), None, None)
        assert people.complete_own_erasure(done, LATER) is None

    def test_reports_of_an_erased_manager_move_up_to_the_next(self) -> None:
        place = OrgPosition(manager="boss", line=("boss", "top"), evaluators=("boss", "x"))
        person = al().model_copy(
            update={"place": place, "avoid": ("boss", "y"), "contact": ContactWishes(delegates=("boss",))}
        )
        after_ = people.remove_mentions(person, "boss", "top")
        assert after_.place == OrgPosition(manager="top", line=("top",), evaluators=("x",))
        assert (after_.avoid, after_.contact.delegates) == (("y",), ())


rows = some.builds(
    hr,
    name=some.sampled_from(["Al Ek", "Al B"]),
    department_id=some.sampled_from(["it", "sales"]),
    employment=some.sampled_from(["active", "on_leave", "leaving", "left"]),
    locale=some.sampled_from([None, "de"]),
    time_zone=some.sampled_from([None, "Europe/Vienna"]),
    suggested=some.builds(
        HrSuggestions,
        languages=some.sampled_from([(), ("de",), ("en", "fr")]),
        experience_band=some.sampled_from([None, 1, 2]),
        offers=some.sampled_from([(), OFFERS]),
        seeks=some.sampled_from([(), SEEKS]),
    ),
)
own = some.one_of(
    some.builds(
        Entered,
        languages=some.sampled_from([None, (), ("nb",)]),
        experience_band=some.sampled_from([None, 5]),
        offers=some.sampled_from([None, (), (OfferEntry(topic="python", level="teach"),)]),
        intro=some.sampled_from([None, "Hei"]),
    ),
    some.builds(
        ContactWishes, locale=some.sampled_from([None, "nb"]), time_zone=some.sampled_from([None, "Europe/Oslo"])
    ),
    some.builds(StatementAnswers, answers=some.just({"pace_try": 1})),
    some.builds(ParticipationWish, side=some.sampled_from([None, "senior"]), notice=some.sampled_from([None, "1"])),
)


@given(some.lists(some.one_of(rows, own), max_size=12))
def test_no_order_of_imports_and_entries_lets_hr_overwrite_what_a_person_entered(steps: list[Any]) -> None:
    person = al()
    mine: dict[str, Any] = {"entered": Entered(), "contact": ContactWishes(), "statements": None, "notice": None}
    for step in steps:
        person = _next(person, step, mine)
        assert person.entered == mine["entered"]
        assert person.contact == mine["contact"]
        assert (person.statements and person.statements.answers) == mine["statements"]
        if person.entered.languages is not None:
            assert person.languages() == person.entered.languages
        if person.contact.locale is not None:
            assert person.locale() == person.contact.locale
        if mine["notice"] is not None:
            assert person.enrolments[0].notice is not None


def _next(person: Person, step: Any, mine: dict[str, Any]) -> Person:
    if isinstance(step, HrRecord):
        decided = people.apply_hr_record(
            person, "m1", step, OrgPosition(), Invitation(programme_id="p1"), PROGRAMMES, NOW
        )
    elif isinstance(step, Entered):
        mine["entered"] = step
        decided = people.change_person(person, lambda one: people.replace_entered(one, step), PROGRAMMES, NOW)
    elif isinstance(step, ContactWishes):
        mine["contact"] = step
        decided = people.change_person(person, lambda one: people.replace_contact(one, step), PROGRAMMES, NOW)
    elif isinstance(step, StatementAnswers):
        mine["statements"] = step.answers
        decided = people.change_person(person, lambda one: people.replace_statements(one, step, NOW), PROGRAMMES, NOW)
    else:
        try:
            decided = takes_part(person, **step.model_dump(exclude_none=True))
            mine["notice"] = step.notice or mine["notice"]
        except CommandRejected:
            decided = None
    return person if decided is None else decided[0]


@given(some.lists(some.one_of(rows, own), max_size=8), rows)
def test_a_row_counts_once_however_often_it_comes(steps: list[Any], row: HrRecord) -> None:
    person = al()
    mine: dict[str, Any] = {"notice": None}
    for step in steps:
        person = _next(person, step, mine)
    once = people.apply_hr_record(person, "m1", row, OrgPosition(), None, PROGRAMMES, NOW)
    person = person if once is None else once[0]
    assert people.apply_hr_record(person, "m1", row, OrgPosition(), None, PROGRAMMES, LATER) is None


@given(some.lists(some.one_of(rows, own), max_size=8))
def test_what_is_stored_reads_back_as_the_same_person(steps: list[Any]) -> None:
    person = al()
    mine: dict[str, Any] = {"notice": None}
    for step in steps:
        person = _next(person, step, mine)
    assert Person.model_validate(person.model_dump(mode="json")) == person
