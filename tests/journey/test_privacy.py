"""Every byte of every topic, log, span, page and database is read for the words of one person.

Before their erasure the words lie only where the design lets them; after it, and after compaction, nowhere.
"""

from datetime import timedelta
from email import message_from_bytes

import pytest

from contracts.profiles import CONTACTS, PROFILES, ProfileChanged
from tests.journey.canary import (
    ADDRESS,
    ANSWERED,
    CANARY,
    INTRO,
    NUMBER,
    OTHERS,
    REASON,
    RESTRICTED,
    STATEMENTS,
    Life,
    erase,
    found_in,
    in_databases,
    in_logs,
    in_spans,
    live,
    on_pages,
    on_topics,
    words_in,
)
from tests.journey.conditions import wait_until
from tests.journey.people import begin_import, csv_of, imported, ok
from tests.journey.span_collector import Collector
from tests.journey.stack import Estate
from tests.journey.wire_capture import Hand, cleaning_often, configured, headers, read

NAMES = {"zephyrine", "quillfeather", "zippzapp", "zq-canarymail"}


@pytest.fixture(scope="module")
def life(estate_apart: Estate) -> Life:
    return live(estate_apart)


@pytest.fixture(scope="module")
def erased(life: Life) -> Life:
    erase(life)
    compact(life.estate)
    return life


def test_a_name_and_an_address_lie_on_contacts_alone_and_other_words_on_no_topic(life: Life) -> None:
    found: dict[str, set[str]] = {}
    for place, key, content in on_topics(life.estate):
        if words := words_in(content):
            found[f"{place.partition('/')[0]} of {key}"] = found.get(place, set()) | words
    assert found.keys() == {f"contacts.v1 of {life.canary}"}
    assert found[f"contacts.v1 of {life.canary}"] <= NAMES


def test_statements_avoided_people_and_reasons_lie_on_their_restricted_topics_alone(life: Life) -> None:
    for place, _, content in on_topics(life.estate):
        topic = place.partition("/")[0]
        assert not any(word.encode() in content for word in STATEMENTS), place
        if topic != "profiles.v1":
            assert b'"avoid"' not in content, place
            assert b'"style":{' not in content, place
        if topic != "answers.v1":
            assert REASON.encode() not in content, place
            assert b"declined" not in content, place
        assert b'"score"' not in content, place


def test_what_was_answered_in_a_checkin_lies_on_no_topic_but_in_bands_after_the_end(life: Life) -> None:
    topics: dict[str, bytes] = {}
    for place, _, content in on_topics(life.estate):
        topic = place.partition("/")[0]
        topics[topic] = topics.get(topic, b"") + content
    assert topics.keys() >= {"feedback.v1", "outcomes.v1", "notifications.v1"}
    for topic in ("feedback.v1", "outcomes.v1", "notifications.v1", "pairings.v1", "pairing-states.v1"):
        for field in ANSWERED:
            assert field.encode() not in topics[topic], f"{topic}: {field}"
    assert b'"junior_learned":"low"' in topics["outcomes.v1"]
    for topic, content in topics.items():
        assert topic == "outcomes.v1" or b"_learned" not in content, topic


def test_of_records_on_restricted_topics_dead_letters_hold_a_pointer_and_no_data(life: Life) -> None:
    letters = [one for one in read(life.estate) if one.topic.startswith("dead-letters.")]
    named = {type.TOPIC.name.encode() for type in RESTRICTED}
    restricted = [one for one in letters if one.header("dl-topic") in named]
    assert {one.header("dl-topic") for one in restricted} == named
    assert len(restricted) >= 3 * len(RESTRICTED)
    for letter in restricted:
        assert (letter.key, letter.value) == (None, b"")
        assert not words_in(letter.everything())


def test_no_log_span_or_page_has_a_word_of_it(life: Life, collector_apart: Collector) -> None:
    assert found_in(in_logs(life.estate)) == {}
    assert found_in(in_spans(life.estate, collector_apart)) == {}
    assert found_in(on_pages(life.estate)) == {}
    for place, content in [*in_logs(life.estate), *in_spans(life.estate, collector_apart)]:
        assert REASON.encode() not in content, place
        assert b"declined" not in content, place
        for field in ANSWERED:
            assert field.encode() not in content, f"{place}: {field}"


def test_no_answer_to_a_mistake_repeats_what_was_sent(life: Life) -> None:
    assert {one.status_code for one in life.mistakes} >= {401, 404, 422}
    for answer in life.mistakes:
        assert answer.status_code < 500, f"{answer.request.method} {answer.request.url.path}: {answer.text}"
        if not answer.is_success:
            words = words_in(answer.content + str(answer.headers).encode())
            assert not words, f"{answer.request.method} {answer.request.url.path}: {answer.text}"


def test_words_lie_in_the_databases_of_those_who_need_them_alone(life: Life) -> None:
    found = found_in(in_databases(life.estate))
    assert found.keys() <= {"profiles.persons", "notifier.contacts", "matcher.pairings", "feedback.courses"}
    assert found["notifier.contacts"] <= NAMES
    assert found["matcher.pairings"] == {"pomegranate"}
    assert found["feedback.courses"] == {"kumquat"}
    assert INTRO.split()[1] in found["profiles.persons"]


def test_reasons_lie_with_the_pairing_alone_and_answers_with_its_course(life: Life) -> None:
    for place, content in in_databases(life.estate):
        assert place == "matcher.pairings" or REASON.encode() not in content, place
        for field in ("call_me", "pulses", "advice"):
            assert place == "feedback.courses" or field.encode() not in content, f"{place}: {field}"


def test_mails_are_where_names_go_to_the_two_of_a_pairing_and_they_hold_nothing_else(life: Life) -> None:
    """The one exception: a mail is written to be read."""
    partners = [ADDRESS, *(f"cn.j{n}@halden.example" for n in range(7))]
    found: set[str] = set()
    for mail in life.estate.mails().values():
        if words := words_in(mail):
            found |= words
            assert any(str(message_from_bytes(mail)["To"]).endswith(f"<{address}>") for address in partners)
    assert {"zephyrine", "zippzapp"} & found
    assert found <= NAMES


def test_the_report_of_an_import_names_lines_and_columns_and_nobody(life: Life) -> None:
    admin = life.estate.api("profiles", life.estate.token(None, "admin"))
    for one in ok(admin.get("/imports"))["items"]:
        errors = admin.get(f"/imports/{one['import_id']}/errors", params={"limit": 200})
        assert not words_in(errors.content)
        if one["failed"]:
            first = 2 + len([CANARY, *OTHERS])  # after the columns' names and those who are as they should be
            assert {issue["line"] for issue in ok(errors)["items"]} >= set(range(first, first + 6))


# -- being forgotten -------------------------------------------------------------------------------------------------


def test_after_erasure_and_compaction_no_word_is_left_anywhere(erased: Life, collector_apart: Collector) -> None:
    assert {place: words for place, _, content in on_topics(erased.estate) if (words := words_in(content))} == {}
    assert found_in(in_databases(erased.estate)) == {}
    assert found_in(in_logs(erased.estate)) == {}
    assert found_in(in_spans(erased.estate, collector_apart)) == {}


def test_all_four_services_have_said_that_they_forgot(erased: Life) -> None:
    said = [one for one in read(erased.estate, "privacy.v1") if one.key == erased.canary.encode()]
    types = [(one.header("ce_type") or b"").decode() for one in said]
    assert types[0] == "mentoring.erasure.requested.v1"
    completed = {one.header("ce_source") for one in said[1:]}
    assert completed == {f"/viceversa/{name}".encode() for name in ("profiles", "matcher", "notifier", "feedback")}


def test_of_the_member_only_stubs_and_graves_are_left(erased: Life) -> None:
    member = erased.canary.encode()
    holders = {place for place, content in in_databases(erased.estate) if member in content}
    assert holders <= {
        "profiles.persons",
        "matcher.members",
        "matcher.ledgers",
        "notifier.contacts",
        "notifier.erasures",
        "notifier.readers",
        "feedback.erasures",
        "feedback.members",
    }
    for place in ("matcher.members", "notifier.contacts", "feedback.members"):
        service, _, name = place.partition(".")
        row = erased.estate.database(service)[name].find_one({"_id": erased.canary})
        assert set(row) == {"_id", "sequence", "grave"}
    for document in erased.estate.database("matcher")["ledgers"].find():
        assert erased.canary not in str(document["held"])
        assert document["_id"] == erased.canary or erased.canary not in str(document)
    for service, name in (("notifier", "readers"), ("notifier", "erasures"), ("feedback", "erasures")):
        for document in erased.estate.database(service)[name].find({"_id": {"$ne": erased.canary}}):
            assert erased.canary not in str(document), f"{service}.{name}"
    reader = erased.estate.database("notifier")["readers"].find_one({"_id": erased.canary})
    assert (reader["member_id"], reader["wishes"], reader["hours"], reader["places"]) == ("", {}, None, [])
    stub = erased.estate.database("profiles")["persons"].find_one({"_id": erased.canary})
    assert (stub["hr"], stub["external_ids"], stub["outbox"]) == (None, [], [])
    assert (stub["erasure"]["keys"], stub["erasure"]["heir"]) == ([], None)
    others = erased.estate.database("profiles")["persons"].find({"_id": {"$ne": erased.canary}})
    assert [document for document in others if erased.canary in str(document)] == []


def test_the_others_see_no_trace_of_them_either(erased: Life) -> None:
    for number in ("CN-J0", "CN-J1", "CN-J2", "CN-J3", "CN-J4", "CN-J6"):
        member = erased.id(number)
        for api, paths in (
            (erased.members.matcher(member), ("/pairings", "/requests", f"/ledgers/{member}")),
            (erased.members.profiles(member), ("/members/me",)),
            (erased.members.notifier(member), ("/inbox?limit=200", "/preferences")),
            (erased.members.feedback(member), ("/members/me/pairings", "/checkins")),
        ):
            for path in paths:
                told = api.get(path)
                assert told.is_success, f"{number}: {path}"
                assert erased.canary not in told.text, f"{number}: {path}"
                assert not words_in(told.content), f"{number}: {path}"
        for pairing in erased.pairings.values():
            assert erased.members.matcher(member).get(f"/pairings/{pairing}").status_code == 404
            assert erased.members.feedback(member).get(f"/pairings/{pairing}/care").status_code == 404


def test_the_nightly_file_does_not_bring_them_back(erased: Life) -> None:
    done = imported(erased.estate, begin_import(erased.estate, csv_of([CANARY])))
    assert (done["created"], done["changed"]) == (0, 0)
    erased.estate.settle()
    admin = erased.estate.api("profiles", erased.estate.token(None, "admin"))
    assert ok(admin.get("/members", params={"external_id": NUMBER}))["items"] == []
    assert admin.get(f"/members/{erased.canary}").status_code == 404
    assert found_in(in_databases(erased.estate)) == {}
    assert {place for place, _, content in on_topics(erased.estate) if words_in(content)} == set()


def test_no_mail_comes_any_more_to_them_or_about_them(erased: Life) -> None:
    """While business time goes on, and others are reminded of what is open."""
    erased.estate.advance(timedelta(days=10))

    def new() -> list[bytes]:
        return [mail for name, mail in erased.estate.mails().items() if name not in erased.mails]

    others = b"<cn.boss@halden.example>"
    wait_until(lambda: any(others in mail for mail in new()), "somebody else reminded to answer")
    erased.estate.settle()
    for mail in new():
        assert not words_in(mail), mail.decode()
    waiting = erased.estate.database("notifier")["notifications"].count_documents({"member_id": erased.canary})
    assert waiting == 0


def compact(estate: Estate) -> None:
    """Let the broker compact now: short segments, and a record in each partition that closes the last one."""
    hand = Hand(estate)
    soon = {"segment_ms": "500", "min_cleanable_dirty_ratio": "0.01", "max_compaction_lag_ms": "1000"}

    def clean() -> bool:
        for topic in (PROFILES, CONTACTS):
            for partition in range(topic.partitions):
                unknown = headers(ProfileChanged, f"filler-{partition}", named="mentoring.filler.v1")
                hand.put(topic.name, f"filler-{partition}", b"{}", unknown, partition)
        return not any(words_in(content) for _, _, content in on_topics(estate, PROFILES.name, CONTACTS.name))

    with cleaning_often(estate), configured(estate, PROFILES, **soon), configured(estate, CONTACTS, **soon):
        wait_until(clean, "the broker has dropped what was erased", 90)
