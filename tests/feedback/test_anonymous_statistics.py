"""Statistics cover at least k people each, and a comparison of two releases reveals no smaller group."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from contracts.moment import Moment, next_week
from services.feedback.domain.anonymous_statistics import (
    Cell,
    Contribution,
    can_be_released,
    mark_batch_taken,
    release_batch,
    schedule_release,
)

NOW = datetime(2026, 3, 2, tzinfo=UTC)
MOMENT = Moment(now=NOW, recorded_at=NOW)

people = st.sampled_from([f"m{n}" for n in range(14)])
values = st.none() | st.integers(-4, 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), people, values),
        st.tuples(st.just("erase"), people, st.just(0)),
        st.tuples(st.just("release"), st.just(""), st.just(0)),
    ),
    max_size=120,
)


class TestReleases:
    @given(steps, st.integers(0, 9))
    def test_differ_by_nobody_or_at_least_k_people(self, story: list[tuple[str, str, int]], k: int) -> None:
        """After any answers, erasures and releases, two releases differ by no person or by at least k people."""
        waiting: list[Contribution] = []
        cell = planned()
        released: list[tuple[dict[int, int], int]] = [({}, 0)]
        batches: list[set[str]] = []
        for number, (act, member, value) in enumerate(story):
            if act == "answer":
                waiting.append(Contribution(id=f"c{number}", members=(member,), value=value))
            elif act == "erase":
                waiting = [contribution for contribution in waiting if member not in contribution.members]
            else:
                after = release(cell, waiting, k)
                are_enough = len({contribution.members for contribution in waiting}) >= max(k, 5)
                assert (after.batches > cell.batches) == are_enough
                assert after.due == MONDAY + timedelta(days=7)
                cell = after.model_copy(update={"due": MONDAY})
                if not are_enough:
                    continue
                batches.append({id for contribution in waiting for id in contribution.members})
                released.append((dict(cell.values), cell.n))
                finished = mark_batch_taken(cell, cell.taking)
                assert finished is not None
                cell, waiting = finished[0], []
        assert all(len(batch) >= max(k, 5) for batch in batches)
        for early in range(len(released)):
            for late in range(early + 1, len(released)):
                between = set().union(*batches[early:late])
                assert len(between) >= max(k, 5)
                more = released[late][1] - released[early][1]
                assert more >= max(k, 5)
                assert all(released[late][0].get(value, 0) >= count for value, count in released[early][0].items())


MONDAY = datetime(2026, 3, 9, tzinfo=UTC)


def planned() -> Cell:
    decision = schedule_release(None, "p1", "1:day_30:junior", NOW)
    assert decision is not None
    assert schedule_release(decision[0], "p1", "1:day_30:junior", NOW) is None, "it is planned once"
    return decision[0]


def release(cell: Cell, waiting: list[Contribution], k: int = 5, possible: int = 0) -> Cell:
    decision = release_batch(cell, MONDAY, waiting, k, possible, Moment(now=MONDAY, recorded_at=MONDAY))
    assert decision is not None
    return decision[0]


def five(start: int = 0) -> list[Contribution]:
    return [Contribution(id=f"c{start + n}", members=(f"m{n}",), value=n - 1) for n in range(5)]


class TestBatch:
    def test_counts_people_and_not_answers(self) -> None:
        often = [Contribution(id=f"c{n}", members=("m1" if n % 2 else "m2",), value=1) for n in range(20)]
        assert not can_be_released(often, 1)
        assert can_be_released(five(), 3), "no programme can ask for fewer than 5"
        assert not can_be_released(five(), 6)

    @given(st.lists(values, max_size=12), st.lists(values, min_size=12, max_size=12), st.integers(0, 9))
    def test_no_answer_decides_whether_or_when(self, said: list[int | None], other: list[int | None], k: int) -> None:
        """Two worlds in which the same people say different things: everything but the band is equal."""
        first, second = (
            release(
                planned(), [Contribution(id=f"c{n}", members=(f"m{n}",), value=answers[n]) for n in range(len(said))], k
            )
            for answers in (said, other)
        )
        assert first.model_dump(exclude={"values"}) == second.model_dump(exclude={"values"})
        assert first.n == second.n

    @given(st.datetimes(timezones=st.timezones()))
    def test_releases_are_at_the_same_time_for_everybody(self, now: datetime) -> None:
        release_at = next_week(now)
        assert (release_at.weekday(), release_at.hour, release_at.minute) == (0, 0, 0)
        assert timedelta(0) < release_at - now <= timedelta(days=7)

    @given(st.integers(-4, 4), st.integers(5, 9))
    def test_a_band_of_equal_answers_is_given_by_other_answers_too(self, value: int, people: int) -> None:
        equal = Cell(programme_id="p1", name="x", values={value: people})
        step = -1 if value > 0 else 1
        others = Cell(programme_id="p1", name="x", values={value: people - 1, value + step: 1})
        assert equal.change_band == others.change_band

    def test_band_needs_five_who_can_say(self) -> None:
        assert Cell(programme_id="p1", name="x", values={4: 4}, counted=9).change_band is None
        assert Cell(programme_id="p1", name="x", values={4: 5}, counted=9).change_band == "much_better"

    def test_is_released_once_by_concurrent_callers(self) -> None:
        cell = release(planned(), five(), possible=9)
        moment = Moment(now=MONDAY, recorded_at=MONDAY)
        assert (cell.n, cell.mean, cell.asked, cell.lease, cell.released_at) == (5, 1.0, 9, MONDAY, MONDAY)
        assert release_batch(cell, MONDAY, five(5), 5, 9, moment) is None, "this release is over"
        again = cell.model_copy(update={"due": MONDAY})
        assert release_batch(again, MONDAY, five(5), 5, 9, moment) is None, "the contributions are not marked yet"
        assert mark_batch_taken(cell, ("something else",)) is None
        done = mark_batch_taken(again, cell.taking)
        assert done is not None
        second = release(done[0], five(5), possible=9)
        assert (second.n, second.quantile(0.5), second.quantile(0.9)) == (10, 1, 3)

    def test_cell_of_the_former_version_counts_its_values(self) -> None:
        former = Cell.model_validate({"programme_id": "p1", "name": "x", "values": {"1": 6}, "asked": 8, "batches": 1})
        planned_again = schedule_release(former, "p1", "x", NOW)
        assert planned_again is not None
        after = release(planned_again[0], five(), possible=12)
        assert (former.n, after.n, after.batches) == (6, 11, 2)
