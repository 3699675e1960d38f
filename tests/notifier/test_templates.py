"""Texts: every purpose in every language, in plain words, without anything that the recipient must not see."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from contracts.message_languages import find_message_language, message_language
from contracts.pairings import Focus, PairingFormed, Participant
from contracts.profiles import ContactChanged
from contracts.programmes import Labels, ProgrammeSettings
from contracts.text import has_link, without_links
from services.notifier.domain.notification import Notification, NotificationDetails
from services.notifier.domain.notification_schedule import SCHEDULE, ScheduleRow
from services.notifier.rendering import (
    RenderingContext,
    check_purposes,
    load_languages,
    render_message,
)

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
INTERNAL = re.compile(
    r"\b(at risk|receipt|ended early|score|rematch|junior|senior|member_id|undefined|lapsed|chartered|event)\b",
    re.IGNORECASE,
)
PAIRING = PairingFormed(
    pairing_id="p1",
    state="formed",
    happened_at=NOW,
    recorded_at=NOW,
    programme_id="g1",
    programme_version=1,
    origin="round",
    participants=(
        Participant(member_id="m1", side="senior", organisation_id="o", department_id="d"),
        Participant(member_id="m2", side="junior", organisation_id="o", department_id="d"),
    ),
    focus=(Focus(topic_id="generative-ai", from_side="junior"), Focus(topic_id="negotiation", from_side="senior")),
    proposed_at=NOW,
    answer_by=NOW,
    planned_end=date(2026, 9, 2),
)
SETTINGS = ProgrammeSettings(
    labels={"en": Labels(name="Two Ways"), "de": Labels(name="Beide Wege")},
    organisations=("o",),
    confidential_contact="ombuds@example.com",
)


def contact(id: str, name: str, locale: str = "en") -> ContactChanged:
    return ContactChanged(member_id=id, display_name=name, locale=locale, time_zone="Europe/Berlin")


def notification(purpose: str, **about: object) -> Notification:
    return Notification(
        notification_id="n1",
        member_id="m1",
        purpose=purpose,
        cause_id="e1",
        about=NotificationDetails.model_validate(
            {
                "pairing_id": "p1",
                "programme_id": "g1",
                "side": "senior",
                "starts_at": datetime(2026, 3, 29, 8, tzinfo=UTC),
                "answer_by": NOW,
                "planned_end": "2026-09-02",
                "end_kind": "ended_early",
                "facts": ("two_missed_in_a_row",),
                **about,
            }
        ),
        happened_at=NOW,
        created_at=NOW,
        useful_until=NOW,
    )


def rendering_context(
    locale: str = "en",
    partner: str | None = "Bo Ny",
    assisted: str | None = None,
    link_base: str | None = "https://viceversa.example/",
) -> RenderingContext:
    return RenderingContext(
        recipient=contact("m1", "Al Ek", locale),
        partner=contact("m2", partner) if partner else None,
        assisted=contact("m3", assisted) if assisted else None,
        pairing=PAIRING,
        programme=SETTINGS,
        link_base=link_base,
    )


class TestTemplates:
    @pytest.mark.parametrize("language", sorted(load_languages()))
    @pytest.mark.parametrize("row", SCHEDULE, ids=lambda row: row.purpose)
    def test_every_purpose_has_a_plain_text_in_each_language(self, row: ScheduleRow, language: str) -> None:
        for partner in ("Bo Ny", None):
            message = render_message(notification(row.purpose), rendering_context(language, partner))
            assert message.language == language
            assert "Al Ek" in message.text
            assert "\n" not in message.subject
            assert message.subject
            assert not INTERNAL.search(message.subject + message.text)
            assert "{" not in message.text

    def test_a_missing_purpose_stops_the_start(self) -> None:
        english = load_languages()["en"]
        incomplete = english.model_copy(update={"messages": {"ended": english.messages["ended"]}})
        with pytest.raises(ValueError, match="proposal_closed"):
            check_purposes("en.toml", incomplete)

    def test_contain_no_purpose_outside_the_schedule(self) -> None:
        for language in load_languages().values():
            assert set(language.messages) == {row.purpose for row in SCHEDULE}


class TestContent:
    @pytest.mark.parametrize("language", sorted(load_languages()))
    @pytest.mark.parametrize("row", SCHEDULE, ids=lambda row: row.purpose)
    def test_without_pages_for_people_there_are_no_links(self, row: ScheduleRow, language: str) -> None:
        """The services' own addresses show no page, so no mail leads there."""
        message = render_message(notification(row.purpose), rendering_context(language, link_base=None))
        assert "http" not in message.text
        assert "None" not in message.text

    @pytest.mark.parametrize("row", SCHEDULE, ids=lambda row: row.purpose)
    def test_a_name_that_is_gone_reads_well(self, row: ScheduleRow) -> None:
        for partner in (None, ""):
            english = render_message(notification(row.purpose), rendering_context("en", partner))
            german = render_message(notification(row.purpose), rendering_context("de", partner))
            assert not re.search(r"your (\w+ )?partner.*your (\w+ )?partner|  |: ?$", english.subject)
            assert "your partner as your mentoring partner" not in english.text
            assert not re.search(r"\b(mit|von) Ihr Gegenüber", german.subject + german.text)

    def test_a_reader_without_a_name_is_greeted(self) -> None:
        context = replace(rendering_context(), recipient=contact("m1", ""))
        assert render_message(notification("partners"), context).text.startswith("Hello,\n")

    @pytest.mark.parametrize("purpose", ["proposal", "partners"])
    def test_names_the_recipients_reasons_for_the_match(self, purpose: str) -> None:
        text = render_message(notification(purpose), rendering_context()).text
        assert "From Bo Ny you could learn about: Generative AI." in text
        assert "You could share what you know about: Negotiation." in text

    def test_a_proposal_links_to_the_answer_and_keeps_no_secret(self) -> None:
        text = render_message(notification("proposal"), rendering_context()).text
        assert "https://viceversa.example/pairings/p1" in text
        assert "nobody is told that it was you" in text

    def test_times_are_local_on_the_day_of_a_clock_change(self) -> None:
        assert (
            "Sunday, 29 March 2026, 10:00 (CEST)"
            in render_message(notification("meeting_planned"), rendering_context()).text
        )
        assert (
            "Sonntag, 29. März 2026, 10:00 Uhr (CEST)"
            in render_message(notification("meeting_planned"), rendering_context("de-AT")).text
        )

    def test_an_assistant_sees_whose_time_and_when_only(self) -> None:
        assistant_note = notification("meeting_time", pairing_id=None, side=None, programme_id=None)
        message = render_message(assistant_note, rendering_context(partner=None, assisted="Cy Om"))
        assert "Cy Om" in message.text
        assert "29 March" in message.text
        for hidden in ("Bo Ny", "p1", "Two Ways", "negotiation", "Negotiation"):
            assert hidden not in message.subject + message.text

    def test_names_the_programme_in_the_recipients_language(self) -> None:
        assert "Beide Wege" in render_message(notification("invitation"), rendering_context("de")).text
        assert "Two Ways" in render_message(notification("invitation"), rendering_context("fr")).text

    @pytest.mark.parametrize(
        ("locale", "language"),
        [
            ("de-AT", "de"),
            ("de_CH", "de"),
            ("gsw", "de"),
            ("gsw-CH", "de"),
            ("deu", "de"),
            ("lb", "de"),
            ("EN-gb", "en"),
        ],
    )
    def test_the_nearest_language_is_taken(self, locale: str, language: str) -> None:
        assert find_message_language(locale) == message_language(locale) == language

    def test_without_a_near_language_messages_are_english(self) -> None:
        assert [find_message_language(locale) for locale in ("fr", "pt_BR", "zh-Hant")] == [None] * 3
        assert render_message(notification("invitation"), rendering_context("fr")).language == "en"

    @pytest.mark.parametrize(
        "name",
        [
            "Eve <eve@evil.example>, pay",
            "http://evil.example/pay",
            "www.evil.example",
            "Open bit.ly/x",
            "mailto:eve@evil.example",
            "\uff45vil\uff0eexample",
        ],
    )
    def test_no_name_becomes_a_link(self, name: str) -> None:
        message = render_message(notification("partners"), rendering_context(partner=name))
        written = message.text.replace("https://viceversa.example/pairings/p1", "") + message.subject
        assert not re.search(r"://|@|www\.\S|\w[.]\w", written)
        assert has_link(name)
        assert not has_link(without_links(name))

    @pytest.mark.parametrize("name", ["Anna-Maria d.J. O'Brien, Jr.", "J.R.R. Tolkien", "St. John", "Ål Ek"])
    def test_names_of_people_stay_as_they_are(self, name: str) -> None:
        assert without_links(name) == name

    def test_a_name_cannot_break_a_line(self) -> None:
        message = render_message(notification("partners"), rendering_context(partner="Bo\r\nBcc: all@example.com"))
        assert "\n" not in message.subject
        assert "\nBcc" not in message.text
