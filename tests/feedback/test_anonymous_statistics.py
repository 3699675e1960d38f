"""Statistics cover at least k people each, and a comparison of two releases reveals no smaller group."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from contracts.moment import Moment
from services.feedback.domain.anonymous_statistics import (
    Cell,
    Contribution,
    can_be_released,
    mark_batch_taken,
    merge_batch,
)

NOW = datetime(2026, 3, 2, tzinfo=UTC)
MOMENT = Moment(now=NOW, recorded_at=NOW)

people = st.sampled_from([f"m{n}" for n in range(14)])
values = st.integers(-4, 4)
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
        cell: Cell | None = None
        released: list[tuple[dict[int, int], int]] = [({}, 0)]
        batches: list[set[str]] = []
        for number, (act, member, value) in enumerate(story):
            if act == "answer":
                waiting.append(Contribution(id=f"c{number}", members=(member,), value=value))
            elif act == "erase":
                waiting = [contribution for contribution in waiting if member not in contribution.members]
            else:
                decision = merge_batch(
                    cell, "p1", "1:day_30:junior", waiting, k, 0, cell.batches if cell else 0, MOMENT
                )
                are_enough = len({contribution.members for contribution in waiting}) >= max(k, 5)
                differ = len({contribution.value for contribution in waiting}) > 1
                assert (decision is not None) == (are_enough and differ)
                if decision is None:
                    continue
                cell = decision[0]
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


def five(start: int = 0) -> list[Contribution]:
    return [Contribution(id=f"c{start + n}", members=(f"m{n}",), value=n - 1) for n in range(5)]


class TestBatch:
    def test_counts_people_and_not_answers(self) -> None:
        often = [Contribution(id=f"c{n}", members=("m1" if n % 2 else "m2",), value=1) for n in range(20)]
        assert not can_be_released("x", often, 1)
        assert can_be_released("x", five(), 3), "no programme can ask for fewer than 5"
        assert not can_be_released("x", five(), 6)

    def test_equal_answers_wait_for_another_one(self) -> None:
        """Otherwise the mean would tell the answer of each of them. Facts, which are public, need not differ."""
        equal = [Contribution(id=f"c{n}", members=(f"m{n}",), value=4) for n in range(9)]
        assert not can_be_released("1:day_30:junior", equal, 5)
        assert can_be_released("met_by_day_30", equal, 5)
        other = Contribution(id="other", members=("m9",), value=3)
        assert can_be_released("1:day_30:junior", [*equal, other], 5)

    def test_is_merged_once_by_concurrent_callers(self) -> None:
        decision = merge_batch(None, "p1", "x", five(), 5, 9, 0, MOMENT)
        assert decision is not None
        cell = decision[0]
        assert (cell.n, cell.mean, cell.asked, cell.lease) == (5, 1.0, 9, NOW)
        assert merge_batch(cell, "p1", "x", five(5), 5, 9, 0, MOMENT) is None, "another batch came first"
        assert merge_batch(cell, "p1", "x", five(5), 5, 9, 1, MOMENT) is None, "the last contribution is not marked yet"
        assert mark_batch_taken(cell, ("something else",)) is None
        done = mark_batch_taken(cell, cell.taking)
        assert done is not None
        again = merge_batch(done[0], "p1", "x", five(5), 5, 9, 1, MOMENT)
        assert again is not None
        assert (again[0].n, again[0].quantile(0.5), again[0].quantile(0.9)) == (10, 1, 3)
