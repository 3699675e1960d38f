"""Every byte of every topic, log, span, page and database is searched for the texts of one member.

Before the erasure they appear only in the places that the design allows. After erasure and compaction they appear
nowhere.
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
    CanaryLife,
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
from tests.journey.stack import Stack
from tests.journey.wire_capture import Hand, cleaning_often, configured, headers, read

NAMES = {"zephyrine", "quillfeather", "zippzapp", "zq-canarymail"}


@pytest.fixture(scope="module")
def life(second_stack: Stack) -> CanaryLife:
    return live(second_stack)


@pytest.fixture(scope="module")
def erased(life: CanaryLife) -> CanaryLife:
    erase(life)
    compact(life.stack)
    return life


class TestBeforeErasure:
    def test_name_and_address_are_on_contacts_alone(self, life: CanaryLife) -> None:
        """Other texts of the member are on no topic."""
        by_topic: dict[str, set[str]] = {}
        for location, key, content in on_topics(life.stack):
            if words := words_in(content):
                by_topic[f"{location.partition('/')[0]} of {key}"] = by_topic.get(location, set()) | words
        assert by_topic.keys() == {f"contacts.v1 of {life.canary}"}
        assert by_topic[f"contacts.v1 of {life.canary}"] <= NAMES

    def test_private_facts_are_on_restricted_topics_alone(self, life: CanaryLife) -> None:
        for location, _, content in on_topics(life.stack):
            topic = location.partition("/")[0]
            assert not any(word.encode() in content for word in STATEMENTS), location
            if topic not in ("profiles.v1", "contacts.v1"):
                assert b'"avoid"' not in content, location
            if topic != "profiles.v1":
                assert b'"style":{' not in content, location
            if topic != "answers.v1":
                assert REASON.encode() not in content, location
                assert b"declined" not in content, location
            assert b'"score"' not in content, location

    def test_answers_are_on_no_topic_but_in_bands_at_the_end(self, life: CanaryLife) -> None:
        topics: dict[str, bytes] = {}
        for location, _, content in on_topics(life.stack):
            topic = location.partition("/")[0]
            topics[topic] = topics.get(topic, b"") + content
        assert topics.keys() >= {"feedback.v1", "checkins.v1", "outcomes.v1", "notifications.v1"}
        for topic in (
            "feedback.v1",
            "checkins.v1",
            "outcomes.v1",
            "notifications.v1",
            "pairings.v1",
            "pairing-states.v1",
        ):
            for field in ANSWERED:
                assert field.encode() not in topics[topic], f"{topic}: {field}"
        assert b'"junior_learned":"low"' in topics["outcomes.v1"]
        for topic, content in topics.items():
            assert topic == "outcomes.v1" or b"_learned" not in content, topic

    def test_restricted_dead_letters_hold_a_pointer_alone(self, life: CanaryLife) -> None:
        letters = [record for record in read(life.stack) if record.topic.startswith("dead-letters.")]
        named = {type.TOPIC.name.encode() for type in RESTRICTED}
        restricted = [record for record in letters if record.header("dl-topic") in named]
        assert {record.header("dl-topic") for record in restricted} == named
        assert len(restricted) >= 2 * len(RESTRICTED), "the third record of each is foreign, and makes no dead letter"
        for letter in restricted:
            assert (letter.key, letter.value) == (None, b"")
            assert not words_in(letter.everything())

    def test_no_log_span_or_page_has_a_word_of_it(self, life: CanaryLife, collector_apart: Collector) -> None:
        assert found_in(in_logs(life.stack)) == {}
        assert found_in(in_spans(life.stack, collector_apart)) == {}
        assert found_in(on_pages(life.stack)) == {}
        for location, content in [*in_logs(life.stack), *in_spans(life.stack, collector_apart)]:
            assert REASON.encode() not in content, location
            assert b"declined" not in content, location
            for field in ANSWERED:
                assert field.encode() not in content, f"{location}: {field}"

    def test_no_error_repeats_the_request(self, life: CanaryLife) -> None:
        assert {mistake.status_code for mistake in life.mistakes} >= {401, 404, 422}
        for answer in life.mistakes:
            assert answer.status_code < 500, f"{answer.request.method} {answer.request.url.path}: {answer.text}"
            if not answer.is_success:
                words = words_in(answer.content + str(answer.headers).encode())
                assert not words, f"{answer.request.method} {answer.request.url.path}: {answer.text}"

    def test_databases_hold_the_words_that_they_need_alone(self, life: CanaryLife) -> None:
        by_database = found_in(in_databases(life.stack))
        assert by_database.keys() <= {"profiles.persons", "notifier.contacts", "matcher.pairings", "feedback.courses"}
        assert by_database["notifier.contacts"] <= NAMES
        assert by_database["matcher.pairings"] == {"pomegranate"}
        assert by_database["feedback.courses"] == {"kumquat"}
        assert INTRO.split()[1] in by_database["profiles.persons"]

    def test_reasons_and_answers_are_in_one_document_each(self, life: CanaryLife) -> None:
        """Reasons are in the pairing; answers are in its follow-up."""
        for location, content in in_databases(life.stack):
            assert location == "matcher.pairings" or REASON.encode() not in content, location
            for field in ("call_me", "pulses", "advice"):
                assert location == "feedback.courses" or field.encode() not in content, f"{location}: {field}"

    def test_mails_hold_the_names_of_the_two_alone(self, life: CanaryLife) -> None:
        """Mails are the one exception, because people read them."""
        partners = [ADDRESS, *(f"cn.j{n}@halden.example" for n in range(7))]
        seen_words: set[str] = set()
        for mail in life.stack.mails().values():
            if words := words_in(mail):
                seen_words |= words
                assert any(str(message_from_bytes(mail)["To"]).endswith(f"<{address}>") for address in partners)
        assert {"zephyrine", "zippzapp"} & seen_words
        assert seen_words <= NAMES

    def test_an_import_report_names_lines_and_nobody(self, life: CanaryLife) -> None:
        admin = life.stack.api("profiles", life.stack.token(None, "admin"))
        for report in ok(admin.get("/imports"))["items"]:
            errors = admin.get(f"/imports/{report['import_id']}/errors", params={"limit": 200})
            assert not words_in(errors.content)
            if report["failed"]:
                first = 2 + len([CANARY, *OTHERS])  # after the header and the valid rows
                assert {issue["line"] for issue in ok(errors)["items"]} >= set(range(first, first + 6))


# -- erasure -------------------------------------------------------------------------------------------------


class TestAfterErasure:
    def test_after_compaction_no_word_is_left_anywhere(self, erased: CanaryLife, collector_apart: Collector) -> None:
        assert {
            location: words for location, _, content in on_topics(erased.stack) if (words := words_in(content))
        } == {}
        assert found_in(in_databases(erased.stack)) == {}
        assert found_in(in_logs(erased.stack)) == {}
        assert found_in(in_spans(erased.stack, collector_apart)) == {}

    def test_all_four_services_report_completion(self, erased: CanaryLife) -> None:
        def said(topic: str) -> set[tuple[bytes | None, bytes | None]]:
            return {
                (record.header("ce_type"), record.header("ce_source"))
                for record in read(erased.stack, topic)
                if record.key == erased.canary.encode()
            }

        assert said("erasure-requests.v1") == {(b"mentoring.erasure.requested.v1", b"/viceversa/profiles")}
        for name in ("profiles", "matcher", "notifier", "feedback"):
            report = (b"mentoring.erasure.completed.v1", f"/viceversa/{name}".encode())
            assert said(f"erasure-completions.{name}.v1") == {report}

    def test_only_stubs_and_graves_are_left(self, erased: CanaryLife) -> None:
        member = erased.canary.encode()
        holders = {collection for collection, content in in_databases(erased.stack) if member in content}
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
        for collection in ("matcher.members", "notifier.contacts", "feedback.members"):
            service, _, name = collection.partition(".")
            row = erased.stack.database(service)[name].find_one({"_id": erased.canary})
            assert set(row) == {"_id", "sequence", "grave"}
        for document in erased.stack.database("matcher")["ledgers"].find():
            assert erased.canary not in str(document["held"])
            assert document["_id"] == erased.canary or erased.canary not in str(document)
        for service, name in (("notifier", "readers"), ("notifier", "erasures"), ("feedback", "erasures")):
            for document in erased.stack.database(service)[name].find({"_id": {"$ne": erased.canary}}):
                assert erased.canary not in str(document), f"{service}.{name}"
        reader = erased.stack.database("notifier")["readers"].find_one({"_id": erased.canary})
        assert (reader["member_id"], reader["wishes"], reader["hours"], reader["places"]) == ("", {}, None, [])
        stub = erased.stack.database("profiles")["persons"].find_one({"_id": erased.canary})
        assert (stub["hr"], stub["external_ids"], stub["outbox"]) == (None, [], [])
        assert (stub["erasure"]["keys"], stub["erasure"]["heir"]) == ([], None)
        others = erased.stack.database("profiles")["persons"].find({"_id": {"$ne": erased.canary}})
        assert [document for document in others if erased.canary in str(document)] == []

    def test_the_others_see_no_trace_of_them(self, erased: CanaryLife) -> None:
        for number in ("CN-J0", "CN-J1", "CN-J2", "CN-J3", "CN-J4", "CN-J6"):
            member = erased.id(number)
            for api, paths in (
                (erased.members.matcher(member), ("/pairings", "/requests", f"/ledgers/{member}")),
                (erased.members.profiles(member), ("/members/me",)),
                (erased.members.notifier(member), ("/inbox?limit=200", "/preferences")),
                (erased.members.feedback(member), ("/members/me/pairings", "/checkins")),
            ):
                for path in paths:
                    answer = api.get(path)
                    assert answer.is_success, f"{number}: {path}"
                    assert erased.canary not in answer.text, f"{number}: {path}"
                    assert not words_in(answer.content), f"{number}: {path}"
            for pairing in erased.pairings.values():
                assert erased.members.matcher(member).get(f"/pairings/{pairing}").status_code == 404
                assert erased.members.feedback(member).get(f"/pairings/{pairing}/care").status_code == 404

    def test_the_nightly_file_does_not_bring_them_back(self, erased: CanaryLife) -> None:
        done = imported(erased.stack, begin_import(erased.stack, csv_of([CANARY])))
        assert (done["created"], done["changed"]) == (0, 0)
        erased.stack.settle()
        admin = erased.stack.api("profiles", erased.stack.token(None, "admin"))
        assert ok(admin.get("/members", params={"external_id": NUMBER}))["items"] == []
        assert admin.get(f"/members/{erased.canary}").status_code == 404
        assert found_in(in_databases(erased.stack)) == {}
        assert {location for location, _, content in on_topics(erased.stack) if words_in(content)} == set()

    def test_no_mail_comes_to_them_or_about_them(self, erased: CanaryLife) -> None:
        """Business time advances, and other members receive their reminders."""
        erased.stack.advance(timedelta(days=10))

        def new() -> list[bytes]:
            return [mail for name, mail in erased.stack.mails().items() if name not in erased.mails]

        others = b"<cn.boss@halden.example>"
        wait_until(lambda: any(others in mail for mail in new()), "another member reminded to answer")
        erased.stack.settle()
        for mail in new():
            assert not words_in(mail), mail.decode()
        waiting = erased.stack.database("notifier")["notifications"].count_documents({"member_id": erased.canary})
        assert waiting == 0


def compact(stack: Stack) -> None:
    """Make the broker compact now: short segments, and one more record in each partition to close the last one."""
    hand = Hand(stack)
    soon = {"segment_ms": "500", "min_cleanable_dirty_ratio": "0.01", "max_compaction_lag_ms": "1000"}

    def clean() -> bool:
        for topic in (PROFILES, CONTACTS):
            for partition in range(topic.partitions):
                unknown = headers(ProfileChanged, f"filler-{partition}", named="mentoring.filler.v1")
                hand.put(topic.name, f"filler-{partition}", b"{}", unknown, partition)
        return not any(words_in(content) for _, _, content in on_topics(stack, PROFILES.name, CONTACTS.name))

    with cleaning_often(stack), configured(stack, PROFILES, **soon), configured(stack, CONTACTS, **soon):
        wait_until(clean, "the erased records removed by the broker", 30)
