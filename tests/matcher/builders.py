"""Members for the tests of the matcher: some built by hand, and random ones by hypothesis."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

from hypothesis import strategies as st

from contracts.moment import Moment
from contracts.profiles import Availability, Enrolment, Offer, ProfileChanged, Seek, Style, Window
from contracts.programmes import GapWorth, Labels, Perspective, Places, ProgrammeSettings
from contracts.taxonomy import load
from services.matcher.domain.fit.hard_rules import Member

PROGRAMME = "reverse-2026"
TODAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MOMENT = Moment(now=NOW, recorded_at=NOW)
TAXONOMY = load()
TOPICS = ("generative-ai", "prompt-writing", "large-language-models", "negotiation", "budgeting", "leadership")


def moment_at(now: datetime) -> Moment:
    """A decision at the business time ``now``, while machine time stands at ``NOW``."""
    return Moment(now=now, recorded_at=NOW)


PLAIN = ProgrammeSettings(
    labels={"en": Labels(name="Reverse mentoring")},
    organisations=("acme", "daughter"),
    confidential_contact="people-team@acme.example",
)


def settings(**changes: Any) -> ProgrammeSettings:
    """Valid settings, with dotted changes: ``rules__min_level_gap=3``."""
    document = PLAIN.model_dump()
    for path, value in changes.items():
        section = document
        *above, last = path.split("__")
        for step in above:
            section = section[step]
        section[last] = value
    return ProgrammeSettings.model_validate(document)


def person(
    id: str,
    side: str = "senior",
    *,
    offers: Mapping[str, str] | None = None,
    seeks: Mapping[str, int] | None = None,
    enrolment: Mapping[str, Any] | None = None,
    **changes: Any,
) -> ProfileChanged:
    """A profile that is ready. Seniors offer negotiation and seek generative AI; juniors do the opposite."""
    senior = side == "senior"
    if offers is None:
        offers = {"negotiation": "teach"} if senior else {"generative-ai": "use"}
    if seeks is None:
        seeks = {"generative-ai": 3} if senior else {"negotiation": 3}
    fields: dict[str, Any] = {
        "member_id": id,
        "organisation_id": "acme",
        "department_id": f"department-of-{side}s",
        "level": 12 if senior else 5,
        "offers": [Offer.model_validate({"topic": topic, "level": level}) for topic, level in offers.items()],
        "seeks": [Seek(topic=topic, priority=priority) for topic, priority in seeks.items()],
        "enrolments": [
            Enrolment.model_validate({"programme_id": PROGRAMME, "side": side, "state": "ready", **(enrolment or {})})
        ],
    }
    return ProfileChanged.model_validate(fields | changes)


def member(profile: ProfileChanged) -> Member:
    return Member(profile, profile.enrolments[-1])


def weekly(*windows: tuple[int, int, int]) -> Availability:
    """Weekday, start and end in minutes."""
    return Availability(
        kind="weekly", windows=tuple(Window(weekday=day, start=start, end=end) for day, start, end in windows)
    )


def _windows() -> st.SearchStrategy[Availability]:
    window = st.tuples(st.integers(0, 6), st.integers(0, 22), st.integers(1, 6)).map(
        lambda w: (w[0], w[1] * 60, ((w[1] + w[2]) * 60 + 16) % 1440 + 1)  # some end on the next day
    )
    windows = st.lists(window, min_size=1, max_size=4).map(lambda times: weekly(*times))
    return st.one_of(st.just(Availability()), windows, st.just(Availability(kind="rotating")))


ANSWER = st.one_of(st.none(), st.sampled_from([-2.0, -1.0, -0.5, 0.0, 1.0, 2.0]))


@cache  # hypothesis validates each strategy once, and this takes longer than a draw
def _anybody(side: str) -> st.SearchStrategy[ProfileChanged]:
    return st.builds(
        ProfileChanged,
        member_id=st.just("somebody"),
        organisation_id=st.sampled_from(["acme", "daughter"]),
        department_id=st.sampled_from(["sales", "it", "hr"]),
        site_id=st.one_of(st.none(), st.sampled_from(["berlin", "lyon"])),
        discipline_id=st.one_of(st.none(), st.sampled_from(["law", "data"])),
        level=st.one_of(st.none(), st.integers(1, 20)),
        experience_band=st.one_of(st.none(), st.integers(0, 5)),
        offers=st.lists(
            st.builds(Offer, topic=st.sampled_from(TOPICS), level=st.sampled_from(["explain", "use", "teach"])),
            max_size=4,
        ).map(tuple),
        seeks=st.lists(st.builds(Seek, topic=st.sampled_from(TOPICS), priority=st.integers(1, 3)), max_size=4).map(
            tuple
        ),
        languages=st.lists(st.sampled_from(["en", "en-GB", "eng", "de", "ger", "fr"]), max_size=2).map(tuple),
        time_zone=st.sampled_from([None, "Europe/Berlin", "Asia/Kolkata", "America/New_York", "No/Where"]),
        availability=_windows(),
        style=st.builds(Style, candour=ANSWER, pace=ANSWER, change=ANSWER, debate=ANSWER),
        enrolments=st.builds(
            Enrolment,
            programme_id=st.just(PROGRAMME),
            side=st.just(side),
            capacity=st.integers(1, 3),
            state=st.just("ready"),
            confidentiality_acknowledged=st.booleans(),
        ).map(lambda enrolment: (enrolment,)),
    )


@cache
def _named(others: tuple[str, ...]) -> st.SearchStrategy[dict[str, tuple[str, ...]]]:
    names = st.lists(st.sampled_from(others), max_size=2, unique=True).map(tuple)
    return st.fixed_dictionaries({"line": names, "evaluators": names, "avoid": names}) if others else st.just({})


@st.composite
def profiles(draw: st.DrawFn, side: str, id: str, others: tuple[str, ...]) -> ProfileChanged:
    """Any profile; ``others`` are the ids that its line, its evaluators and its private list may name."""
    return draw(_anybody(side)).model_copy(update={"member_id": id, **draw(_named(others))})


@cache
def _size(most: int) -> st.SearchStrategy[int]:
    return st.integers(0, most)


@st.composite
def cohorts(draw: st.DrawFn, most: int = 6) -> tuple[list[ProfileChanged], list[ProfileChanged]]:
    """Seniors and juniors whose profiles may refer to each other."""
    seniors = [f"s{n}" for n in range(draw(_size(most)))]
    juniors = [f"j{n}" for n in range(draw(_size(most)))]
    named = _named((*seniors, *juniors, "elsewhere"))

    def of(side: str, ids: list[str]) -> list[ProfileChanged]:
        return [draw(_anybody(side)).model_copy(update={"member_id": id, **draw(named)}) for id in ids]

    return of("senior", seniors), of("junior", juniors)


def any_settings() -> st.SearchStrategy[ProgrammeSettings]:
    """Settings that are more or less strict."""
    return st.builds(
        settings,
        rules__min_level_gap=st.integers(0, 6),
        rules__max_level_gap=st.sampled_from([None, None, 8, 12]),
        rules__line_depth=st.integers(0, 3),
        rules__exclude_same_manager=st.booleans(),
        rules__cross_organisation=st.booleans(),
        rules__min_overlap_minutes=st.sampled_from([0, 60, 300]),
        matching__floors__benefit=st.sampled_from([0.0, 0.15, 0.5]),
        matching__floors__compatibility=st.sampled_from([0.0, 0.25, 0.6]),
        matching__weights__perspective=st.sampled_from([0.0, 2.0, 10.0]),
        matching__benefit__first_wish=st.sampled_from([0.8, 0.3, 1.0]),
        matching__benefit__depths__explain=st.sampled_from([0.6, 0.0]),
        matching__benefit__wishes__weak=st.sampled_from([0.4, 1.0]),
        matching__ease__plateau=st.sampled_from([0.8, 1.0]),
        matching__ease__time=st.sampled_from([0.15, 1.0]),
        matching__ease__ample_minutes=st.sampled_from([240, 30]),
        matching__perspective=st.sampled_from(
            [
                Perspective(),
                Perspective(same=Places(department=0.3, site=0.1), experience=0.0),
                Perspective(different=Places(), gaps=(GapWorth(levels=1, worth=0.4), GapWorth(levels=2, worth=0.8))),
            ]
        ).map(Perspective.model_dump),
    )
