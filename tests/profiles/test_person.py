"""Decisions about a person and the events that they publish, without any server."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def hr_record(**changes: Any) -> HrRecord:
    fields: dict[str, Any] = {
        "external_id": ExternalId(source="hr", id="e1"),
        "name": "Al Ek",
        "email": "al@halden.example",
        "organisation_id": "halden",
        "department_id": "it",
        "level": Grade(scheme="1-20", value="9", normalised=9),
    }
    return HrRecord(**(fields | changes))


def import_row(person: Person | None = None, *, now: datetime = NOW, **changes: Any) -> Decision:
    return people.apply_hr_record(person, "m1", hr_record(**changes), OrgPosition(), None, PROGRAMMES, now)


def imported_person(**changes: Any) -> Person:
    decision = import_row(**changes)
    assert decision is not None
    return decision[0]


def changed_person(decision: Decision) -> Person:
    assert decision is not None, "the decision changes the person"
    return decision[0]


def events_of(decision: Decision) -> list[OutgoingEvent]:
    return [] if decision is None else decision[1]


def enter(person: Person, **fields: Any) -> Decision:
    return people.change_person(
        person, lambda living: people.replace_entered(living, Entered(**fields)), PROGRAMMES, NOW
    )


def take_part(person: Person, *, now: datetime = NOW, programmes: Programmes = PROGRAMMES, **wish: Any) -> Decision:
    body = ParticipationWish(**wish)
    return people.change_person(
        person, lambda living: people.take_part_in(living, "p1", body, programmes, now), programmes, now
    )


OFFERS = (OfferEntry(topic="excel"),)
SEEKS = (SeekEntry(topic="python"),)


def ready_person() -> Person:
    person = changed_person(enter(imported_person(), offers=OFFERS, seeks=SEEKS))
    return changed_person(take_part(person, side="senior", notice="1"))


class TestPublishedEvents:
    def test_a_new_person_publishes_profile_and_contact(self) -> None:
        assert [type(event) for event in events_of(import_row())] == [ProfileChanged, ContactChanged]

    def test_the_same_row_again_changes_nothing(self) -> None:
        assert import_row(imported_person()) is None

    def test_only_public_changes_are_published(self) -> None:
        assert [type(event) for event in events_of(import_row(imported_person(), name="Al B"))] == [ContactChanged]
        assert [type(event) for event in events_of(import_row(imported_person(), department_id="sales"))] == [
            ProfileChanged
        ]
        assert events_of(enter(imported_person(), intro="Hello")) == []

    def test_a_profile_has_no_name_address_or_free_text(self) -> None:
        person = changed_person(
            enter(imported_person(), intro="my secret hobby", offers=(OfferEntry(topic="llama whispering"),))
        )
        profile = people.public_profile(person)
        assert isinstance(profile, ProfileChanged)
        text = profile.model_dump_json()
        assert not any(word in text for word in ("Al Ek", "halden.example", "hobby", "whispering"))
        assert person.topics.unknown == ("llama whispering",)

    def test_topics_are_published_by_id(self) -> None:
        person = changed_person(
            enter(imported_person(), offers=(OfferEntry(topic="EXCEL", level="teach"), OfferEntry(topic="excel")))
        )
        assert len(person.topics.offers) == 1
        assert isinstance(person.topics.offers[0], Offer)
        assert person.topics.offers[0].level == "teach"

    def test_a_person_without_address_is_not_reached_by_email(self) -> None:
        person = changed_person(
            people.change_person(
                imported_person(email=None),
                lambda living: people.replace_contact(living, ContactWishes(channels=("email",))),
                PROGRAMMES,
                NOW,
            )
        )
        assert person.channels() == ("inbox",)


class TestReadiness:
    def test_ready_needs_notice_level_offer_and_seek(self) -> None:
        enrolment = ready_person().enrolments[0]
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
    def test_a_missing_requirement_prevents_readiness(
        self, level: int | None, offers: Any, seeks: Any, notice: Any
    ) -> None:
        grade = Grade(scheme="1-20", value="9", normalised=level) if level else None
        person = changed_person(enter(imported_person(level=grade), offers=offers, seeks=seeks, languages=("en",)))
        assert changed_person(take_part(person, notice=notice)).enrolments[0].state == "enrolled"

    def test_an_import_invites_and_does_not_enrol(self) -> None:
        decision = people.apply_hr_record(
            None, "m1", hr_record(), OrgPosition(), Invitation(programme_id="p1"), PROGRAMMES, NOW
        )
        assert changed_person(decision).enrolments[0].state == "invited"

    def test_a_new_notice_must_be_seen_again(self) -> None:
        renewed = {"p1": programme("p1", now=NOW, notice="2")}
        person = changed_person(people.change_person(ready_person(), lambda living: living, renewed, LATER))
        assert (person.enrolments[0].state, person.enrolments[0].waiting_since) == ("enrolled", None)
        with pytest.raises(CommandRejected, match="current version"):
            take_part(person, programmes=renewed, notice="1")
        assert changed_person(take_part(person, programmes=renewed, notice="2")).enrolments[0].state == "ready"

    def test_a_person_may_return_and_keeps_their_answers(self) -> None:
        left = changed_person(
            people.change_person(
                ready_person(), lambda living: people.leave_programme(living, "p1", NOW), PROGRAMMES, NOW
            )
        )
        assert left.enrolments[0].state == "left"
        assert import_row(left) is None, "a person who has left is not invited again"
        returned = changed_person(take_part(left, now=LATER))
        assert (returned.enrolments[0].state, returned.enrolments[0].waiting_since) == ("ready", LATER)

    @pytest.mark.parametrize(
        ("changes", "state", "code"),
        [
            ({"organisation_id": "other"}, "open", "other_organisation"),
            ({"employment": "left"}, "open", "not_employed"),
            ({}, "closed", "programme_not_open"),
            ({}, "draft", "programme_not_open"),
        ],
    )
    def test_enrolment_is_refused_with_a_code(self, changes: dict[str, Any], state: str, code: str) -> None:
        with pytest.raises(CommandRejected) as refused:
            take_part(imported_person(**changes), programmes={"p1": programme("p1", now=NOW, state=state)})
        assert refused.value.code == code

    def test_an_unknown_programme_is_not_found(self) -> None:
        with pytest.raises(NotFound):
            take_part(imported_person(), programmes={})

    def test_a_repeated_confirmation_keeps_its_first_time(self) -> None:
        confirmed = changed_person(take_part(imported_person(), confidentiality_acknowledged=True, briefed=True))
        assert take_part(confirmed, now=LATER, confidentiality_acknowledged=True, briefed=True) is None
        withdrawn = changed_person(take_part(confirmed, now=LATER, confidentiality_acknowledged=False))
        assert withdrawn.enrolments[0].acknowledged_at is None


class TestEmployment:
    def test_a_person_has_left_the_day_after_their_last_day(self) -> None:
        person = changed_person(import_row(ready_person(), employment="leaving", employed_until=date(2026, 3, 10)))
        assert (person.employment, person.due) == ("leaving", datetime(2026, 3, 11, tzinfo=UTC))
        former = changed_person(
            people.change_person(person, lambda living: living, PROGRAMMES, datetime(2026, 3, 11, tzinfo=UTC))
        )
        assert (former.employment, former.due, former.enrolments[0].state) == ("left", None, "left")
        assert (
            import_row(former, now=LATER + timedelta(days=30), employment="leaving", employed_until=date(2026, 3, 10))
            is None
        )

    def test_a_returning_employee_must_enrol_again(self) -> None:
        former = changed_person(import_row(ready_person(), employment="left"))
        returned = changed_person(import_row(former, employment="active"))
        assert (returned.employment, returned.enrolments[0].state) == ("active", "invited")


class TestPrivateData:
    def test_style_is_half_the_difference_of_two_statements(self) -> None:
        answers: dict[Any, int | None] = {
            "candour_plain": 2,
            "candour_gentle": -2,
            "pace_try": 1,
            "pace_plan": 1,
            "debate_lively": 2,
        }
        person = changed_person(
            people.change_person(
                imported_person(),
                lambda living: people.replace_statements(living, StatementAnswers(answers=answers), NOW),
                PROGRAMMES,
                NOW,
            )
        )
        profile = people.public_profile(person)
        assert isinstance(profile, ProfileChanged)
        assert profile.style == Style(candour=2.0, pace=0.0, change=None, debate=None)

    def test_style_changes_three_times_a_month_at_most(self) -> None:
        """Whoever could change it at will would find out the answers of others by comparing many matches."""

        def answer(person: Person, value: int, now: datetime = NOW) -> Person:
            answers: dict[Any, int | None] = {"pace_try": value, "pace_plan": 0}
            return people.replace_statements(person, StatementAnswers(answers=answers), now)

        person = imported_person()
        for value in (2, 1, 1, 0):
            person = answer(person, value)
        with pytest.raises(CommandRejected, match="You have changed these answers 3 times lately"):
            answer(person, -1)
        silent = people.replace_statements(person, StatementAnswers(), NOW)
        assert silent.statements is not None
        assert not silent.statements.answers, "to take answers back is always possible"
        with pytest.raises(CommandRejected):
            answer(silent, 0)
        assert answer(silent, -1, NOW + timedelta(days=30)).statements != silent.statements

    def test_impossible_entries_are_refused(self) -> None:
        """One cannot avoid or delegate to oneself, end an absence before it begins, or use an unknown time zone."""
        with pytest.raises(CommandRejected):
            people.replace_avoided(imported_person(), ["m1"])
        with pytest.raises(CommandRejected):
            people.replace_absences(imported_person(), [Absence(since=date(2026, 3, 2), until=date(2026, 3, 1))])
        with pytest.raises(CommandRejected):
            people.replace_contact(imported_person(), ContactWishes(delegates=("m1",)))
        with pytest.raises(CommandRejected):
            people.replace_contact(imported_person(), ContactWishes(time_zone="Mars/Olympus"))


class TestErasureDecision:
    def test_only_a_stub_remains(self) -> None:
        decision = people.erase_person(ready_person(), lambda ref: f"hash of {len(ref)}", MOMENT)
        stub = changed_person(decision)
        assert events_of(decision) == [
            Tombstone(ProfileChanged, "m1"),
            Tombstone(ContactChanged, "m1"),
            ErasureRequested(member_id="m1", requested_at=NOW),
        ]
        text = stub.model_dump_json()
        assert not any(word in text for word in ("Al", "halden", "e1", "excel", "p1"))
        assert people.erase_person(stub, str, Moment(LATER, LATER)) is None

    def test_an_import_does_not_recreate_an_erased_person(self) -> None:
        stub = changed_person(people.erase_person(imported_person(), str, MOMENT))
        assert import_row(stub) is None
        with pytest.raises(NotFound):
            enter(stub, intro="still here?")

    def test_the_public_form_of_a_stub_is_a_tombstone(self) -> None:
        stub = changed_person(people.erase_person(imported_person(), str, MOMENT))
        assert people.public_profile(stub) == Tombstone(ProfileChanged, "m1")
        assert people.public_contact(stub) == Tombstone(ContactChanged, "m1")

    def test_completion_is_published_once_and_clears_the_keys(self) -> None:
        stub = changed_person(people.erase_person(imported_person(), str, MOMENT))
        completed = changed_person(people.complete_own_erasure(stub, LATER))
        assert completed.erasure is not None
        assert (completed.erasure.keys, completed.erasure.heir, completed.lease) == ((), None, None)
        assert people.complete_own_erasure(completed, LATER) is None

    def test_reports_of_an_erased_manager_move_up(self) -> None:
        position = OrgPosition(manager="boss", line=("boss", "top"), evaluators=("boss", "x"))
        person = imported_person().model_copy(
            update={"place": position, "avoid": ("boss", "y"), "contact": ContactWishes(delegates=("boss",))}
        )
        updated = people.remove_mentions(person, "boss", "top")
        assert updated.place == OrgPosition(manager="top", line=("top",), evaluators=("x",))
        assert (updated.avoid, updated.contact.delegates) == (("y",), ())


rows = st.builds(
    hr_record,
    name=st.sampled_from(["Al Ek", "Al B"]),
    department_id=st.sampled_from(["it", "sales"]),
    employment=st.sampled_from(["active", "on_leave", "leaving", "left"]),
    locale=st.sampled_from([None, "de"]),
    time_zone=st.sampled_from([None, "Europe/Vienna"]),
    suggested=st.builds(
        HrSuggestions,
        languages=st.sampled_from([(), ("de",), ("en", "fr")]),
        experience_band=st.sampled_from([None, 1, 2]),
        offers=st.sampled_from([(), OFFERS]),
        seeks=st.sampled_from([(), SEEKS]),
    ),
)
own_entries = st.one_of(
    st.builds(
        Entered,
        languages=st.sampled_from([None, (), ("nb",)]),
        experience_band=st.sampled_from([None, 5]),
        offers=st.sampled_from([None, (), (OfferEntry(topic="python", level="teach"),)]),
        intro=st.sampled_from([None, "Hei"]),
    ),
    st.builds(ContactWishes, locale=st.sampled_from([None, "nb"]), time_zone=st.sampled_from([None, "Europe/Oslo"])),
    st.builds(StatementAnswers, answers=st.just({"pace_try": 1})),
    st.builds(ParticipationWish, side=st.sampled_from([None, "senior"]), notice=st.sampled_from([None, "1"])),
)


def apply_step(person: Person, step: Any, expected: dict[str, Any]) -> Person:
    if isinstance(step, HrRecord):
        decision = people.apply_hr_record(
            person, "m1", step, OrgPosition(), Invitation(programme_id="p1"), PROGRAMMES, NOW
        )
    elif isinstance(step, Entered):
        expected["entered"] = step
        decision = people.change_person(person, lambda living: people.replace_entered(living, step), PROGRAMMES, NOW)
    elif isinstance(step, ContactWishes):
        expected["contact"] = step
        decision = people.change_person(person, lambda living: people.replace_contact(living, step), PROGRAMMES, NOW)
    elif isinstance(step, StatementAnswers):
        try:
            decision = people.change_person(
                person, lambda living: people.replace_statements(living, step, NOW), PROGRAMMES, NOW
            )
            expected["statements"] = step.answers
        except CommandRejected:
            decision = None
    else:
        try:
            decision = take_part(person, **step.model_dump(exclude_none=True))
            expected["notice"] = step.notice or expected["notice"]
        except CommandRejected:
            decision = None
    return person if decision is None else decision[0]


class TestOwnership:
    @given(st.lists(st.one_of(rows, own_entries), max_size=12))
    def test_hr_never_overwrites_entries_in_any_order(self, steps: list[Any]) -> None:
        """Imports and entries arrive in any order."""
        person = imported_person()
        expected: dict[str, Any] = {
            "entered": Entered(),
            "contact": ContactWishes(),
            "statements": None,
            "notice": None,
        }
        for step in steps:
            person = apply_step(person, step, expected)
            assert person.entered == expected["entered"]
            assert person.contact == expected["contact"]
            assert (person.statements and person.statements.answers) == expected["statements"]
            if person.entered.languages is not None:
                assert person.languages() == person.entered.languages
            if person.contact.locale is not None:
                assert person.locale() == person.contact.locale
            if expected["notice"] is not None:
                assert person.enrolments[0].notice is not None

    @given(st.lists(st.one_of(rows, own_entries), max_size=8), rows)
    def test_a_repeated_row_changes_nothing(self, steps: list[Any], row: HrRecord) -> None:
        person = imported_person()
        expected: dict[str, Any] = {"notice": None}
        for step in steps:
            person = apply_step(person, step, expected)
        first = people.apply_hr_record(person, "m1", row, OrgPosition(), None, PROGRAMMES, NOW)
        person = person if first is None else first[0]
        assert people.apply_hr_record(person, "m1", row, OrgPosition(), None, PROGRAMMES, LATER) is None

    @given(st.lists(st.one_of(rows, own_entries), max_size=8))
    def test_a_stored_person_reads_back_unchanged(self, steps: list[Any]) -> None:
        person = imported_person()
        expected: dict[str, Any] = {"notice": None}
        for step in steps:
            person = apply_step(person, step, expected)
        assert Person.model_validate(person.model_dump(mode="json")) == person
