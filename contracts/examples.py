"""One example of every event, for the documents and for the released shapes. The people are invented."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

from contracts import feedback, notifications, pairings, privacy, profiles, programmes, requests, unmatched
from contracts.catalogue import EVENTS
from contracts.envelope import Envelope, EventData, source_of

_NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
_SENIOR = "0195a1c4-0000-7000-8000-00000000a001"
_JUNIOR = "0195a1c4-0000-7000-8000-00000000b002"
_PAIRING = "0195a1c4-0000-7000-8000-00000000c003"
_ROUND = "0195a1c4-0000-7000-8000-00000000d004"


def _pairing(state: str, previous: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "pairing_id": _PAIRING,
        "state": state,
        "previous_state": previous,
        "happened_at": _NOW,
        "recorded_at": _NOW + timedelta(milliseconds=12),
        "programme_id": "listening-upwards",
        "programme_version": 3,
        "round_id": _ROUND,
        "origin": "round",
        "participants": [
            {"member_id": _SENIOR, "side": "senior", "organisation_id": "halden", "department_id": "finance"},
            {"member_id": _JUNIOR, "side": "junior", "organisation_id": "halden", "department_id": "engineering"},
        ],
        "focus": [{"topic_id": "data-literacy", "from_side": "junior"}],
        "proposed_at": _NOW - timedelta(days=4),
        "answer_by": _NOW + timedelta(days=10),
        "receipt_id": "0195a1c4-0000-7000-8000-00000000e005",
        **more,
    }


def _formed(state: str, previous: str, **more: Any) -> dict[str, Any]:
    return _pairing(state, previous, formed_at=_NOW - timedelta(days=2), planned_end=date(2026, 9, 2), **more)


def _feedback(**more: Any) -> dict[str, Any]:
    return {
        "pairing_id": _PAIRING,
        "programme_id": "listening-upwards",
        "happened_at": _NOW,
        "recorded_at": _NOW + timedelta(milliseconds=12),
        "sessions_held": 2,
        "sessions_scheduled": 3,
        "first_held_at": _NOW - timedelta(days=30),
        "last_held_at": _NOW - timedelta(days=9),
        "next_session_at": _NOW + timedelta(days=5),
        **more,
    }


def _session(state: str) -> dict[str, Any]:
    session = {"session_id": "0195a1c4-0000-7000-8000-00000000f006", "state": state, "starts_at": _NOW}
    return _feedback(session=session)


def _checkin() -> dict[str, Any]:
    return _feedback(checkin_id="0195a1c4-0000-7000-8000-000000010007", side="junior", milestone="day_30", due_at=_NOW)


def _notification() -> dict[str, Any]:
    return {
        "notification_id": "0195a1c4-0000-7000-8000-000000011008",
        "member_id": _JUNIOR,
        "purpose": "proposal",
        "channel": "email",
        "cause_id": "0195a1c4-0000-7000-8000-000000012009",
        "pairing_id": _PAIRING,
        "programme_id": "listening-upwards",
        "happened_at": _NOW,
        "recorded_at": _NOW,
    }


def _round(state: str) -> dict[str, Any]:
    return {
        "round_id": _ROUND,
        "programme_id": "listening-upwards",
        "programme_version": 3,
        "state": state,
        "seniors": 40,
        "juniors": 52,
        "pairs": 38,
        "proposed": 38 if state == "published" else 0,
        "unmatched_seniors": 2,
        "unmatched_juniors": 14,
        "happened_at": _NOW,
        "recorded_at": _NOW,
    }


def _request(state: str) -> dict[str, Any]:
    return {
        "request_id": "0195a1c4-0000-7000-8000-00000001600d",
        "programme_id": "listening-upwards",
        "state": state,
        "asker": _JUNIOR,
        "asked": _SENIOR,
        "asker_side": "junior",
        "answer_by": _NOW + timedelta(days=10),
        "happened_at": _NOW,
        "recorded_at": _NOW,
    }


def _profile() -> dict[str, Any]:
    return {
        "member_id": _JUNIOR,
        "organisation_id": "halden",
        "department_id": "engineering",
        "site_id": "pune",
        "discipline_id": "electronics",
        "level": 4,
        "experience_band": 1,
        "line": ["0195a1c4-0000-7000-8000-00000001300a"],
        "offers": [{"topic": "data-literacy", "level": "teach"}],
        "seeks": [{"topic": "negotiation", "priority": 3}],
        "languages": ["en-IN", "hi"],
        "time_zone": "Asia/Kolkata",
        "availability": {"kind": "weekly", "windows": [{"weekday": 2, "start": 840, "end": 1020}]},
        "meeting_mode": "remote",
        "style": {"candour": 1.5, "pace": -0.5},
        "away": [{"since": date(2026, 4, 6), "until": date(2026, 4, 17)}],
        "personal_cap": 2,
        "enrolments": [
            {"programme_id": "listening-upwards", "side": "junior", "state": "ready", "waiting_since": _NOW}
        ],
    }


def _programme() -> dict[str, Any]:
    return {
        "programme_id": "listening-upwards",
        "version": 3,
        "state": "open",
        "settings": {
            "labels": {"en": {"name": "Listening upwards", "senior": "listener", "junior": "guide"}},
            "organisations": ["halden"],
            "coordinators": ["0195a1c4-0000-7000-8000-00000001400b"],
            "confidential_contact": "ombuds office",
            "starts": date(2026, 1, 12),
        },
        "happened_at": _NOW,
        "recorded_at": _NOW,
    }


def _rows() -> dict[type[EventData], dict[str, Any]]:
    contact = {
        "member_id": _JUNIOR,
        "display_name": "Asha Example",
        "email": "asha@halden.example",
        "channels": ["email", "inbox"],
        "locale": "en-IN",
        "time_zone": "Asia/Kolkata",
    }
    answer = {"pairing_id": _PAIRING, "programme_id": "listening-upwards", "side": "senior", "answer": "declined"}
    outcome = {"pairing_id": _PAIRING, "programme_id": "listening-upwards", "meetings": "high"}
    outcome |= dict.fromkeys(("senior_learned", "junior_learned", "senior_enjoyed", "junior_enjoyed"), "middle")
    at = {"happened_at": _NOW, "recorded_at": _NOW}
    ended = {"ended_at": _NOW, "end_kind": "completed", "charter_at": _NOW - timedelta(days=1)}
    return {
        profiles.ProfileChanged: _profile(),
        profiles.ContactChanged: contact,
        privacy.ErasureRequested: {"member_id": _JUNIOR, "requested_at": _NOW},
        privacy.ErasureCompleted: {"member_id": _JUNIOR, "service": "profiles", "completed_at": _NOW},
        programmes.ProgrammeChanged: _programme(),
        programmes.RoundComputed: _round("computed"),
        programmes.RoundPublished: _round("published"),
        pairings.PairingProposed: _pairing("proposed"),
        pairings.PairingLapsed: _pairing("lapsed", "proposed"),
        pairings.PairingFormed: _formed("formed", "proposed"),
        pairings.PairingChartered: _formed("chartered", "formed", charter_at=_NOW),
        pairings.PairingPaused: _formed("paused", "chartered"),
        pairings.PairingResumed: _formed("chartered", "paused"),
        pairings.PairingRenewed: _formed("chartered", "chartered", renewals=1),
        pairings.PairingEnded: _formed("ended", "chartered", **ended),
        pairings.PairingState: _formed("ended", "chartered", **ended),
        pairings.AnswerGiven: {**answer, "reason": "no_time", **at},
        requests.RequestOpened: _request("open"),
        requests.RequestAccepted: _request("accepted"),
        requests.RequestLapsed: _request("lapsed"),
        requests.RequestWithdrawn: _request("withdrawn"),
        unmatched.MemberUnmatched: {
            "member_id": _JUNIOR,
            "programme_id": "listening-upwards",
            "round_id": _ROUND,
            "code": "no_common_time",
            **at,
        },
        feedback.SessionScheduled: _session("scheduled"),
        feedback.SessionHeld: _session("held"),
        feedback.SessionCancelled: _session("cancelled"),
        feedback.SessionMissed: _session("missed"),
        feedback.CheckinDue: _checkin(),
        feedback.CheckinCompleted: _checkin(),
        feedback.ContactNeeded: _feedback(facts=["two_missed_in_a_row"]),
        feedback.PartnerChangeRequested: _feedback(),
        feedback.OutcomeRecorded: {**outcome, **at},
        notifications.NotificationSent: _notification(),
        notifications.NotificationFailed: _notification(),
        notifications.NotificationSuppressed: _notification(),
    }


@cache
def examples() -> dict[type[EventData], EventData]:
    """One event of every type, in the order of the catalogue."""
    rows = _rows()
    return {event: event.model_validate(rows[event]) for event in EVENTS}


def envelope_of(event: EventData) -> Envelope:
    """A plausible envelope for the event."""
    return Envelope(
        id="0195a1c4-0000-7000-8000-00000001500c",
        type=event.TYPE,
        source=source_of(event.writer() or event.TOPIC.writers[0]),
        subject=event.subject(),
        time=_NOW + timedelta(milliseconds=12),
        sequence=7,
        correlationid=event.correlation(),
    )


def headers_of(event: EventData) -> dict[str, str]:
    """The headers of the example as text."""
    return {name: value.decode() for name, value in envelope_of(event).headers()}
