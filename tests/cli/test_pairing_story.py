"""The history of a pairing: its events in words, in the order of business time, and nothing beyond them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from cli.formatting import FACT_TEXTS
from cli.pairing_story import ReadEvent, StoryEvent, StoryStep, build_story
from contracts.envelope import Envelope
from contracts.feedback import (
    CheckinCompleted,
    CheckinDue,
    ContactNeeded,
    FeedbackEvent,
    PartnerChangeRequested,
    SessionCancelled,
    SessionEvent,
    SessionHeld,
    SessionMissed,
    SessionScheduled,
)
from contracts.notifications import NotificationEvent, NotificationFailed, NotificationSent, NotificationSuppressed
from contracts.pairings import (
    PairingChartered,
    PairingEnded,
    PairingEvent,
    PairingFormed,
    PairingLapsed,
    PairingPaused,
    PairingProposed,
    PairingRenewed,
    PairingResumed,
)

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
NAMES = {"anouk": "Anouk van Dijk", "selin": "Selin Çelik"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
STATES: dict[type[PairingEvent], str] = {
    PairingProposed: "proposed", PairingLapsed: "lapsed", PairingFormed: "formed", PairingChartered: "chartered",
    PairingPaused: "paused", PairingResumed: "chartered", PairingRenewed: "chartered", PairingEnded: "ended",
}  # fmt: skip


def on_day(days: float) -> datetime:
    return MONDAY + timedelta(days=days)


def read_event(data: StoryEvent, id: str = "") -> ReadEvent:
    return ReadEvent(id or f"{data.TYPE}/{data.happened_at}", data, TRACE)


def pairing(kind: type[PairingEvent], days: float, **fields: Any) -> ReadEvent:
    members = (("anouk", "senior"), ("selin", "junior"))
    common = {
        "pairing_id": "p", "state": STATES[kind], "happened_at": on_day(days), "recorded_at": on_day(days),
        "programme_id": "fresh-eyes", "programme_version": 1, "origin": "round", "proposed_at": MONDAY,
        "answer_by": on_day(14),
        "participants": [
            {"member_id": member, "side": side, "organisation_id": "halden", "department_id": side}
            for member, side in members
        ],
    }  # fmt: skip
    return read_event(kind.model_validate({**common, **fields}), kind.TYPE)


def feedback(kind: type[FeedbackEvent], days: float, **fields: Any) -> ReadEvent:
    common = {"pairing_id": "p", "programme_id": "fresh-eyes", "happened_at": on_day(days), "recorded_at": on_day(days)}
    return read_event(kind.model_validate({**common, **fields}), f"{kind.TYPE}/{days}/{fields.get('side', '')}")


def meeting(kind: type[SessionEvent], days: float, starts: float, id: str = "m1", held: int = 0) -> ReadEvent:
    session = {"session_id": id, "state": kind.TYPE.split(".")[2], "starts_at": on_day(starts)}
    return feedback(kind, days, session=session, sessions_held=held)


def message(
    cause: ReadEvent, member: str, purpose: str, days: float, *, channel: str = "email",
    kind: type[NotificationEvent] = NotificationSent,
) -> ReadEvent:  # fmt: skip
    data = {
        "notification_id": f"{member}-{purpose}", "member_id": member, "purpose": purpose, "channel": channel,
        "cause_id": cause.id, "pairing_id": "p", "happened_at": on_day(days), "recorded_at": on_day(days),
    }  # fmt: skip
    return read_event(kind.model_validate(data), f"{kind.TYPE}/{cause.id}/{member}/{purpose}")


def texts(*events: ReadEvent) -> list[str]:
    return [step.words for step in build_story(events, NAMES)]


class TestPrivateSteps:
    def test_a_partner_change_reads_like_any_other_end(self) -> None:
        """Each of the two would know that it was the other one."""
        ended = pairing(PairingEnded, 81, ended_at=on_day(81), end_kind="ended_early")
        assert texts(feedback(PartnerChangeRequested, 80), ended) == texts(ended)

    def test_checkins_are_not_told(self) -> None:
        fields = {"checkin_id": "c", "side": "senior", "milestone": "day_30", "due_at": on_day(30)}
        assert texts(feedback(CheckinDue, 30, **fields), feedback(CheckinCompleted, 31, **fields)) == []

    def test_every_fact_has_a_text(self) -> None:
        allowed = ContactNeeded.model_json_schema()["properties"]["facts"]["items"]["enum"]
        assert set(FACT_TEXTS) == set(allowed)
        text_of_all = texts(feedback(ContactNeeded, 1, facts=tuple(allowed)))[0]
        assert all(text in text_of_all for text in FACT_TEXTS.values())
        assert "_" not in text_of_all


def formed_step(*builders: Callable[[ReadEvent], ReadEvent]) -> StoryStep:
    formed = pairing(PairingFormed, 3)
    steps = build_story(
        [*(build_message(formed) for build_message in builders), formed, pairing(PairingProposed, 0)], NAMES
    )
    assert len(steps) == 2
    return steps[1]


class TestStoryMessages:
    def test_messages_belong_to_the_step_that_caused_them(self) -> None:
        step = formed_step(
            lambda formed: message(formed, "anouk", "partners", 3.9),
            lambda formed: message(formed, "selin", "partners", 3),
        )
        assert (step.words, step.messages_text) == ("Both accepted.", "both were told by e-mail")
        assert {sent.member_id for sent in step.messages} == {"anouk", "selin"}

    @pytest.mark.parametrize(
        ("channel", "kind", "expected"),
        [
            ("inbox", NotificationSent, "Anouk van Dijk was told by e-mail; Selin Çelik was told in the inbox"),
            ("email", NotificationFailed, "Anouk van Dijk was told by e-mail; a message to Selin Çelik did not arrive"),
            ("email", NotificationSuppressed, "Anouk van Dijk was told by e-mail"),
        ],
    )
    def test_each_result_is_shown_except_suppressed_messages(
        self, channel: str, kind: type[NotificationEvent], expected: str
    ) -> None:
        step = formed_step(
            lambda formed: message(formed, "anouk", "partners", 3),
            lambda formed: message(formed, "selin", "partners", 3.1, channel=channel, kind=kind),
        )
        assert step.messages_text == expected

    def test_other_readers_are_named_by_role(self) -> None:
        needed = feedback(ContactNeeded, 17, facts=("no_first_meeting_booked",))
        messages = [
            message(needed, "anouk", "help_offered", 17),
            message(needed, "selin", "help_offered", 17),
            message(needed, "carla", "pair_needs_a_person", 17.1),
        ]
        assert (
            build_story([needed, *messages], NAMES)[0].messages_text == "both and the coordinator were told by e-mail"
        )

    def test_a_delayed_message_is_a_step_of_its_own(self) -> None:
        formed = pairing(PairingFormed, 3)
        later = [message(formed, member, "half_way", 90, channel="inbox") for member in ("anouk", "selin")]
        first, second = build_story([formed, *later], NAMES)
        assert first.messages == ()
        assert (second.at, second.words, second.messages_text) == (
            on_day(90), "Half of their time is over.", "both were told in the inbox",
        )  # fmt: skip

    def test_a_message_without_its_cause_is_a_step(self) -> None:
        cause = meeting(SessionHeld, 1, 1, held=1)
        [step] = build_story([message(cause, "anouk", "meeting_held", 1)], NAMES)
        assert (step.words, step.messages_text) == ("A message: meeting held.", "Anouk van Dijk was told by e-mail")


class TestStorySteps:
    def test_a_whole_pairing_in_words(self) -> None:
        assert texts(
            pairing(PairingProposed, 0),
            pairing(PairingFormed, 3, planned_end=date(2026, 9, 5)),
            pairing(PairingChartered, 5),
            meeting(SessionScheduled, 6, 10),
            meeting(SessionCancelled, 9, 10),
            feedback(ContactNeeded, 17, facts=("no_first_meeting_booked",)),
            meeting(SessionScheduled, 18, 20, "m2"),
            meeting(SessionScheduled, 19, 21, "m2"),
            meeting(SessionMissed, 22, 21, "m2"),
            meeting(SessionHeld, 23, 21, "m2", held=1),
            pairing(PairingPaused, 40),
            pairing(PairingResumed, 50),
            pairing(PairingRenewed, 60, planned_end=date(2026, 12, 5)),
            meeting(SessionHeld, 70, 70, "m3", held=2),
            pairing(PairingEnded, 81, ended_at=on_day(81), end_kind="ended_early"),
        ) == [
            "Proposed to Anouk van Dijk and Selin Çelik; they may answer until Mon 16 March 2026.",
            "Both accepted. Planned until Sat 5 September 2026.",
            "They agreed on goals, dates and confidentiality.",
            "First meeting planned for Thu 12 March 2026.",
            "The meeting of Thu 12 March 2026 was called off.",
            "Help was offered, because no first meeting was planned in time.",
            "Next meeting planned for Sun 22 March 2026.",
            "The meeting of Sun 22 March 2026 was moved to Mon 23 March 2026.",
            "Nobody came to the meeting of Mon 23 March 2026, or not both; it had not been called off.",
            "They met after all, for the first time, on Mon 23 March 2026.",
            "On hold for a while.",
            "They continue.",
            "They continue until Sat 5 December 2026, as both wanted.",
            "They met, for the second time.",
            "They finished early.",
        ]

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("completed", "Completed: the planned time is over."),
            ("ended_early", "They finished early."),
            ("not_started", "It ended before they had met."),
            (None, "It ended."),
        ],
    )
    def test_each_end_has_a_text(self, kind: str | None, text: str) -> None:
        assert texts(pairing(PairingEnded, 1, end_kind=kind)) == [text]

    def test_a_refusal_and_an_expiry_read_alike(self) -> None:
        refused, expired = (texts(pairing(PairingProposed, 0), pairing(PairingLapsed, days))[1] for days in (2, 14))
        assert refused == expired == "It was not formed: not both accepted in time."

    @pytest.mark.parametrize(
        ("origin", "text"), [("coordinator", "by the coordinator"), ("request", "at the request of one of them")]
    )
    def test_the_origin_is_shown_without_the_requester(self, origin: str, text: str) -> None:
        assert text in texts(pairing(PairingProposed, 0, origin=origin))[0]

    def test_a_story_needs_no_names(self) -> None:
        for names in ({}, {"anouk": "Anouk van Dijk"}):
            [step] = build_story([pairing(PairingProposed, 0)], names)
            assert step.words.startswith("Proposed to both;")

    def test_steps_are_ordered_by_business_time(self) -> None:
        """An event that arrives twice makes one step."""
        events = [pairing(PairingFormed, 3), pairing(PairingProposed, 0), pairing(PairingFormed, 3)]
        assert [step.at for step in build_story(events, NAMES)] == [on_day(0), on_day(3)]

    def test_each_step_has_its_trace_and_json_data(self) -> None:
        envelope = Envelope(
            id="e1", type=PairingProposed.TYPE, source="/viceversa/matcher", subject="p", time=MONDAY, sequence=1,
            correlationid="p", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
        )  # fmt: skip
        [step] = build_story([ReadEvent.of(envelope, pairing(PairingProposed, 0).data)], NAMES)
        assert step.to_json() == {
            "time": "2026-03-02T09:00:00.000Z",
            "type": "mentoring.pairing.proposed.v1",
            "words": "Proposed to Anouk van Dijk and Selin Çelik; they may answer until Mon 16 March 2026.",
            "trace_id": TRACE,
            "events": ["e1"],
            "told": None,
            "messages": [],
        }
        assert ReadEvent.of(replace(envelope, traceparent=None), pairing(PairingProposed, 0).data).trace_id is None
