"""Programmes: draft, open or closed, with versioned settings that are validated as a whole."""

import re
from collections.abc import Sequence
from typing import Literal

from contracts.base import FrozenModel
from contracts.days import has_public_holidays
from contracts.envelope import Instant, OutgoingEvent
from contracts.errors import CommandRejected, InvalidCommand
from contracts.moment import Moment
from contracts.programmes import Matching, ProgrammeChanged, ProgrammeSettings
from services.matcher.domain.fit.score import POSITION_FIELDS, sum_weights

CONTRADICTORY_SETTINGS = "contradictory_settings"
_LANGUAGE_TAG = re.compile(r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")


class Programme(FrozenModel):
    """A programme with its current settings. ``contact_since``: when it last got another contact while it was open."""

    programme_id: str
    settings_version: int
    state: Literal["draft", "open", "closed"]
    settings: ProgrammeSettings
    happened_at: Instant
    recorded_at: Instant
    contact_since: Instant | None = None
    due: Instant | None = None
    lease: Instant | None = None


Decision = tuple[Programme, Sequence[OutgoingEvent]]


def to_public_event(programme: Programme) -> ProgrammeChanged:
    """The whole state, which is public."""
    return ProgrammeChanged(
        programme_id=programme.programme_id,
        version=programme.settings_version,
        state=programme.state,
        settings=programme.settings,
        happened_at=programme.happened_at,
        recorded_at=programme.recorded_at,
        contact_since=programme.contact_since,
    )


def create_programme(
    existing: Programme | None, programme_id: str, settings: ProgrammeSettings, moment: Moment
) -> Decision:
    """Create a programme in draft. Raises ``CommandRejected`` if the id is taken."""
    if existing is not None:
        raise CommandRejected("programme_exists", "There is a programme with this id already.")
    check_settings(settings)
    programme = Programme(
        programme_id=programme_id,
        settings_version=1,
        state="draft",
        settings=settings,
        happened_at=moment.now,
        recorded_at=moment.recorded_at,
    )
    return programme, [to_public_event(programme)]


def change_settings(programme: Programme, settings: ProgrammeSettings, moment: Moment) -> Decision | None:
    """Set other settings under the next version. Running pairings keep the settings they were formed with."""
    if programme.state == "closed":
        raise CommandRejected("programme_closed", "This programme is closed.")
    check_settings(settings)
    if settings == programme.settings:
        return None
    changes: dict[str, object] = {"settings": settings, "settings_version": programme.settings_version + 1}
    if programme.state == "open" and settings.confidential_contact != programme.settings.confidential_contact:
        changes["contact_since"] = moment.now
    return _change_and_publish(programme, changes, moment)


def open_programme(programme: Programme, moment: Moment) -> Decision | None:
    """Open the programme for rounds and requests. Raises ``CommandRejected`` if its last day has passed."""
    if programme.state == "open":
        return None
    ends = programme.settings.ends
    if ends is not None and ends < moment.now.date():
        raise CommandRejected("already_over", "This programme's last day has passed; change its dates first.")
    return _change_and_publish(programme, {"state": "open"}, moment)


def close_programme(programme: Programme, moment: Moment) -> Decision | None:
    """Close the programme: no new pairings start, running ones continue."""
    if programme.state == "closed":
        return None
    return _change_and_publish(programme, {"state": "closed"}, moment)


def check_settings(settings: ProgrammeSettings) -> None:
    """Raises ``InvalidCommand`` with the texts of all contradictions."""
    rules, meetings, care = settings.rules, settings.meetings, settings.care
    texts = [
        text
        for is_wrong, text in (
            (
                rules.max_level_gap is not None and rules.max_level_gap < rules.min_level_gap,
                "The greatest gap in seniority that is allowed is smaller than the least one.",
            ),
            *_find_matching_contradictions(settings.matching),
            (
                settings.starts is not None and settings.ends is not None and settings.ends <= settings.starts,
                "The programme would end before it starts.",
            ),
            (
                settings.working_days.country is not None
                and not has_public_holidays(settings.working_days.country, settings.working_days.subdivision),
                "The public holidays of this country, or of this part of it, are not known; list the days instead.",
            ),
            (
                meetings.first_held_by_working_day < meetings.first_booked_by_working_day,
                "The first meeting would have to be held before it has to be booked.",
            ),
            (
                settings.confidential_contact in settings.coordinators,
                "A coordinator cannot be the confidential contact of the programme.",
            ),
            (care.quiet_from_hour == care.quiet_until_hour, "The quiet hours begin and end at the same hour."),
            (len(set(care.checkin_days)) != len(care.checkin_days), "A check-in day occurs twice."),
            (len(set(settings.organisations)) != len(settings.organisations), "An organisation occurs twice."),
            (
                settings.rules.cross_organisation and len(settings.organisations) < 2,
                "Pairs across organisations are allowed, but there is only one organisation.",
            ),
            (
                not all(_LANGUAGE_TAG.match(tag) for tag in settings.labels),
                "The labels are given by language, such as en or de-AT.",
            ),
            (
                settings.retention.raw_answers_months > settings.retention.months,
                "Raw answers would be kept for longer than everything else.",
            ),
        )
        if is_wrong
    ]
    if texts:
        raise InvalidCommand(CONTRADICTORY_SETTINGS, " ".join(texts))


def _find_matching_contradictions(matching: Matching) -> tuple[tuple[bool, str], ...]:
    weights, ease, perspective, benefit = matching.weights, matching.ease, matching.perspective, matching.benefit
    max_worth = (
        benefit.first_wish * max(benefit.wishes.model_dump().values()) * max(benefit.depths.model_dump().values())
    )
    positions = [
        max(getattr(perspective.same, position), getattr(perspective.different, position))
        for position in POSITION_FIELDS
    ]
    total = sum(positions) + perspective.experience + max((gap.worth for gap in perspective.gaps), default=0.0)
    gaps = [gap.levels for gap in perspective.gaps]
    return (
        (
            sum_weights(weights) <= 0,
            "The weights of the fit sum to 0, so no pair is better than another.",
        ),
        (
            weights.lower_benefit + weights.higher_benefit <= 0,
            "What the two gain has no weight at all; then it is no mentoring.",
        ),
        (max_worth <= 0, "No wish can be covered: a mark of the benefit is 0 for every wish or every offer."),
        (
            matching.floors.benefit >= 1,
            "Nobody can reach a floor of 1 for the benefit.",
        ),
        (
            ease.style + ease.language + ease.time <= 0,
            "The parts of the compatibility sum to 0, so nobody can reach any.",
        ),
        (total > 1 + 1e-9, f"A pair could earn {total:.2f} for its perspective; all together may be 1 at most."),
        (len(set(gaps)) != len(gaps), "A gap in seniority occurs twice."),
        (
            bool(gaps) and max(gaps) < 0,
            "Only gaps below 0 earn anything: the senior would have to be below the junior.",
        ),
    )


def _change_and_publish(programme: Programme, changes: dict[str, object], moment: Moment) -> Decision:
    after = programme.model_copy(update={**changes, "happened_at": moment.now, "recorded_at": moment.recorded_at})
    return after, [to_public_event(after)]
