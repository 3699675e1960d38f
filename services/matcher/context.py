"""The context of the matcher: its stores, and what runs beside them in one process."""

from dataclasses import dataclass, field

from chassis.core.clocks import Clock
from chassis.storage.aggregates import Aggregates
from chassis.storage.mongo import Index
from chassis.storage.projections import Projection
from contracts.profiles import ProfileChanged
from contracts.taxonomy import Taxonomy
from services.matcher.background_tasks import BackgroundTasks
from services.matcher.domain.fit.eligibility import MatchingTerms
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rolling.programme_claim import ProgrammeClaim
from services.matcher.domain.rounds.round import Round
from services.matcher.partner_replica import PartnerReplica
from services.matcher.solver_process.client import Solver
from services.matcher.stores.learning import ExampleStore, LearningStore
from services.matcher.stores.pairings import LedgerStore, PairingStore, RequestStore
from services.matcher.stores.programmes import ProgrammeStore
from services.matcher.stores.receipts import ReceiptStore
from services.matcher.stores.rolling import SuggestionStore
from services.matcher.stores.rounds import ComparisonCache, ProposalStore, RoundStore, SummaryStore, UnmatchedStore

MEMBER_INDEXES: list[Index] = [("enrolments.programme_id",)]


@dataclass
class Matcher:
    """Functions that need one or two of these take them alone, so that a signature tells what they can touch."""

    programmes: ProgrammeStore
    rounds: RoundStore
    proposals: ProposalStore
    unmatched: UnmatchedStore
    summaries: SummaryStore
    pairings: PairingStore
    requests: RequestStore
    ledgers: LedgerStore
    receipts: ReceiptStore
    suggestions: SuggestionStore
    claims: Aggregates[ProgrammeClaim]
    learning: LearningStore
    examples: ExampleStore
    members: Projection[ProfileChanged]
    partners: PartnerReplica
    taxonomy: Taxonomy
    clock: Clock
    solver: Solver
    tasks: BackgroundTasks
    comparisons: ComparisonCache = field(default_factory=ComparisonCache)

    def current_terms(self, source: Programme | Round) -> MatchingTerms:
        """The terms that pairs of the programme, or of the round, are assessed by today."""
        return MatchingTerms(source.programme_id, source.settings, self.taxonomy, self.clock.now().date())
