"""A pairing's story: what its events say, in words, in the order of business time, and nothing that they do not say."""

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


def at(days: float) -> datetime:
    return MONDAY + timedelta(days=days)


def happened(data: StoryEvent, id: str = "") -> ReadEvent:
    return ReadEvent(id or f"{data.TYPE}/{data.happened_at}", data, TRACE)


def pairing(kind: type[PairingEvent], days: float, **more: Any) -> ReadEvent:
    both = (("anouk", "senior"), ("selin", "junior"))
    common = {
        "pairing_id": "p", "state": STATES[kind], "happened_at": at(days), "recorded_at": at(days),
        "programme_id": "fresh-eyes", "programme_version": 1, "origin": "round", "proposed_at": MONDAY,
        "answer_by": at(14),
        "participants": [
            {"member_id": member, "side": side, "organisation_id": "halden", "department_id": side}
            for member, side in both
        ],
    }  # fmt: skip
    return happened(kind.model_validate({**common, **more}), kind.TYPE)


def feedback(kind: type[FeedbackEvent], days: float, **more: Any) -> ReadEvent:
    common = {"pairing_id": "p", "programme_id": "fresh-eyes", "happened_at": at(days), "recorded_at": at(days)}
    return happened(kind.model_validate({**common, **more}), f"{kind.TYPE}/{days}/{more.get('side', '')}")


def meeting(kind: type[SessionEvent], days: float, starts: float, id: str = "m1", held: int = 0) -> ReadEvent:
    session = {"session_id": id, "state": kind.TYPE.split(".")[2], "starts_at": at(starts)}
    return feedback(kind, days, session=session, sessions_held=held)


def checkin(kind: type[CheckinDue | CheckinCompleted], days: float, side: str, milestone: str = "day_30") -> ReadEvent:
    return feedback(kind, days, checkin_id=f"{milestone}-{side}", side=side, milestone=milestone, due_at=at(days))


def message(
    cause: ReadEvent, member: str, purpose: str, days: float, *, channel: str = "email",
    kind: type[NotificationEvent] = NotificationSent,
) -> ReadEvent:  # fmt: skip
    data = {
        "notification_id": f"{member}-{purpose}", "member_id": member, "purpose": purpose, "channel": channel,
        "cause_id": cause.id, "pairing_id": "p", "happened_at": at(days), "recorded_at": at(days),
    }  # fmt: skip
    return happened(kind.model_validate(data), f"{kind.TYPE}/{cause.id}/{member}/{purpose}")


def words(*events: ReadEvent) -> list[str]:
    return [step.words for step in build_story(events, NAMES)]


def test_a_whole_life_in_words() -> None:
    assert words(
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
        feedback(PartnerChangeRequested, 80),
        pairing(PairingEnded, 81, ended_at=at(81), end_kind="ended_early"),
    ) == [
        "Proposed to Anouk van Dijk and Selin Çelik; they may answer until Mon 16 March 2026.",
        "Both said yes. Planned until Sat 5 September 2026.",
        "They agreed on goals, dates and confidentiality.",
        "First meeting planned for Thu 12 March 2026.",
        "The meeting of Thu 12 March 2026 was called off.",
        "Help was offered, because no first meeting was planned in time.",
        "Next meeting planned for Sun 22 March 2026.",
        "The meeting of Sun 22 March 2026 was moved to Mon 23 March 2026.",
        "Nobody came to the meeting of Mon 23 March 2026, or not both; it had not been called off.",
        "They met after all, for the first time, on Mon 23 March 2026.",
        "On hold for a while.",
        "They go on.",
        "They go on until Sat 5 December 2026, as both wished.",
        "They met, for the second time.",
        "Another partner was wished for; by which of the two is told to nobody.",
        "They finished.",
    ]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("completed", "The time that they had planned is over: completed."),
        ("ended_early", "They finished."),
        ("not_started", "It ended before they had met."),
        (None, "It ended."),
    ],
)
def test_each_end_has_its_words(kind: str | None, said: str) -> None:
    assert words(pairing(PairingEnded, 1, end_kind=kind)) == [said]


def test_a_refusal_and_an_expiry_read_alike() -> None:
    refused, expired = (words(pairing(PairingProposed, 0), pairing(PairingLapsed, days))[1] for days in (2, 14))
    assert refused == expired == "It did not come about: not everybody said yes in time."


@pytest.mark.parametrize(
    ("origin", "said"), [("coordinator", "by whoever coordinates"), ("request", "as one of them had asked")]
)
def test_how_it_came_about_is_told_and_not_who_asked(origin: str, said: str) -> None:
    assert said in words(pairing(PairingProposed, 0, origin=origin))[0]


def test_without_names_it_is_told_all_the_same() -> None:
    for names in ({}, {"anouk": "Anouk van Dijk"}):
        [step] = build_story([pairing(PairingProposed, 0)], names)
        assert step.words.startswith("Proposed to both;")


def test_a_checkin_is_one_step_for_both_and_says_that_it_was_answered_and_by_no_name() -> None:
    due = [checkin(CheckinDue, 30, "senior"), checkin(CheckinDue, 30.3, "junior")]
    answered = [checkin(CheckinCompleted, 31, "junior"), checkin(CheckinCompleted, 33, "senior")]
    steps = build_story([pairing(PairingProposed, 0), *due, *answered], NAMES)[1:]
    assert [step.words for step in steps] == [
        "Both were asked how it goes (after 30 days).",
        "One of the two has answered how it goes (after 30 days).",
        "The other one has answered how it goes (after 30 days).",
    ]
    assert steps[0].events == (due[0].id, due[1].id)
    swapped = [checkin(CheckinCompleted, 31, "senior"), checkin(CheckinCompleted, 33, "junior")]
    assert words(*due, *swapped) == words(*due, *answered)


@pytest.mark.parametrize(
    ("milestone", "when"), [("day_0", "at the beginning"), ("day_90", "after 90 days"), ("end", "at the end")]
)
def test_a_milestone_has_words(milestone: str, when: str) -> None:
    assert words(checkin(CheckinDue, 1, "senior", milestone)) == [f"One of the two was asked how it goes ({when})."]


def test_every_fact_has_words() -> None:
    allowed = ContactNeeded.model_json_schema()["properties"]["facts"]["items"]["enum"]
    assert set(FACT_TEXTS) == set(allowed)
    told = words(feedback(ContactNeeded, 1, facts=tuple(allowed)))[0]
    assert all(text in told for text in FACT_TEXTS.values())
    assert "_" not in told


def formed_with(*messages: Callable[[ReadEvent], ReadEvent]) -> StoryStep:
    formed = pairing(PairingFormed, 3)
    steps = build_story([*(made(formed) for made in messages), formed, pairing(PairingProposed, 0)], NAMES)
    assert len(steps) == 2
    return steps[1]


def test_who_was_told_is_folded_into_the_step_that_caused_it() -> None:
    step = formed_with(
        lambda formed: message(formed, "anouk", "partners", 3.9),
        lambda formed: message(formed, "selin", "partners", 3),
    )
    assert (step.words, step.messages_text) == ("Both said yes.", "both were told by e-mail")
    assert {one.member_id for one in step.messages} == {"anouk", "selin"}


@pytest.mark.parametrize(
    ("channel", "kind", "said"),
    [
        ("inbox", NotificationSent, "Anouk van Dijk was told by e-mail; Selin Çelik was told in the inbox"),
        ("email", NotificationFailed, "Anouk van Dijk was told by e-mail; a message to Selin Çelik did not arrive"),
        ("email", NotificationSuppressed, "Anouk van Dijk was told by e-mail"),
    ],
)
def test_what_became_of_each_message_is_told_but_for_what_was_left_out_on_purpose(
    channel: str, kind: type[NotificationEvent], said: str
) -> None:
    step = formed_with(
        lambda formed: message(formed, "anouk", "partners", 3),
        lambda formed: message(formed, "selin", "partners", 3.1, channel=channel, kind=kind),
    )
    assert step.messages_text == said


def test_others_who_were_told_are_named_by_their_part_in_it() -> None:
    needed = feedback(ContactNeeded, 17, facts=("no_first_meeting_booked",))
    told = [
        message(needed, "anouk", "help_offered", 17),
        message(needed, "selin", "help_offered", 17),
        message(needed, "carla", "pair_needs_a_person", 17.1),
    ]
    assert build_story([needed, *told], NAMES)[0].messages_text == "both and whoever coordinates were told by e-mail"


def test_what_is_said_months_after_its_cause_is_a_step_of_its_own() -> None:
    formed = pairing(PairingFormed, 3)
    later = [message(formed, member, "half_way", 90, channel="inbox") for member in ("anouk", "selin")]
    first, second = build_story([formed, *later], NAMES)
    assert first.messages == ()
    assert (second.at, second.words, second.messages_text) == (
        at(90), "Half of their time is over.", "both were told in the inbox",
    )  # fmt: skip


def test_a_message_whose_cause_is_gone_is_told_alone() -> None:
    gone = meeting(SessionHeld, 1, 1, held=1)
    [step] = build_story([message(gone, "anouk", "meeting_held", 1)], NAMES)
    assert (step.words, step.messages_text) == ("A message: meeting held.", "Anouk van Dijk was told by e-mail")


def test_order_is_by_business_time_and_what_arrives_twice_is_told_once() -> None:
    events = [pairing(PairingFormed, 3), pairing(PairingProposed, 0), pairing(PairingFormed, 3)]
    assert [step.at for step in build_story(events, NAMES)] == [at(0), at(3)]


def test_each_step_has_the_trace_of_its_leg_and_is_data_for_a_script() -> None:
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
