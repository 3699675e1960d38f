"""The cost of a round's repair in reads of the whole membership."""

from typing import Any

from services.matcher.engine.solve import MatchingProblem
from services.matcher.solver_process import compute
from services.matcher.solver_process.compute import CachedResult, SolverCollections, UnmatchedReason
from tests.matcher.builders import PROGRAMME, TODAY, member, person, settings


class Gone(dict[str, UnmatchedReason]):
    """A collection that counts its complete iterations."""

    looks = 0

    def keys(self) -> Any:
        self.looks += 1
        return super().keys()


class TestRepairCost:
    async def test_unmatched_members_are_computed_once(self) -> None:
        """One set of all members for each person would be slow: with 100,000 people a repair took 200 seconds."""
        seniors = {f"s{n}": member(person(f"s{n}")) for n in range(60)}
        juniors = {f"j{n}": member(person(f"j{n}", "junior")) for n in range(50)}
        pairs = {(f"s{n}", f"j{n}"): compute.NumberedPair(n, 0.5) for n in range(50)}
        left = Gone({f"s{n}": UnmatchedReason("places_taken") for n in range(50, 60)})
        problem = MatchingProblem(PROGRAMME, settings(), (), {}, (), TODAY, 1)
        existing = CachedResult("round/1", problem, None, 25.0, 25.0, seniors, juniors, pairs, left, proposals=50)
        nothing: Any = None  # is read or written, as nothing changes
        shelves = SolverCollections(nothing, nothing, nothing, nothing)
        await compute._update_unmatched(nothing, existing, pairs.keys(), shelves)
        assert (existing.newly_matched, existing.newly_unmatched) == (set(), set())
        assert left.looks <= 3
