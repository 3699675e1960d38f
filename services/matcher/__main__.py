"""Composition root: ``python -m services.matcher``."""

from functools import partial

from chassis.service import Chassis, ServiceDefinition, run
from chassis.sweeps import Sweep
from contracts.pairings import ANSWERS, PAIRING_STATES, PAIRINGS
from contracts.privacy import erasure_completions_of
from contracts.profiles import ProfileChanged
from contracts.programmes import PROGRAMMES, ROUNDS
from contracts.requests import REQUESTS
from contracts.taxonomy import load
from contracts.unmatched import UNMATCHED
from services.matcher import erasure
from services.matcher.background_tasks import BackgroundTasks
from services.matcher.context import MEMBER_INDEXES, Matcher
from services.matcher.domain.learning.weight_versions import ProgrammeLearning
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.domain.pairings.request import PartnerRequest
from services.matcher.domain.pairings.seat_ledger import SeatLedger
from services.matcher.domain.programmes import programme as programmes
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rolling.programme_claim import ProgrammeClaim
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.domain.rounds.round import Round
from services.matcher.handlers import registry
from services.matcher.learning import commands
from services.matcher.learning import routes as learning_routes
from services.matcher.pairings import conflict_routes, deadlines, ledger_routes, request_routes, reservation
from services.matcher.pairings import routes as pairing_routes
from services.matcher.partner_replica import PartnerReplica, topic_replicas
from services.matcher.programmes import routes as programme_routes
from services.matcher.receipts import routes as receipt_routes
from services.matcher.rolling import routes as suggestion_routes
from services.matcher.rolling import suggestions
from services.matcher.rolling.worker import RollingWorker
from services.matcher.rounds import lifecycle, review_routes
from services.matcher.rounds import routes as round_routes
from services.matcher.solver_process.client import Solver
from services.matcher.stores.learning import EXAMPLE_INDEXES, LEARNING_INDEXES, ExampleStore, LearningStore
from services.matcher.stores.pairings import PAIRING_INDEXES, REQUEST_INDEXES, LedgerStore, PairingStore, RequestStore
from services.matcher.stores.programmes import ProgrammeStore
from services.matcher.stores.receipts import RECEIPT_INDEXES, ReceiptStore
from services.matcher.stores.rolling import SUGGESTION_INDEXES, SuggestionStore
from services.matcher.stores.rounds import (
    PROPOSAL_INDEXES,
    ROUND_INDEXES,
    UNMATCHED_INDEXES,
    ProposalStore,
    RoundStore,
    SummaryStore,
    UnmatchedStore,
)

PORT = 8102
ROUTERS = [
    module.router
    for module in (
        programme_routes,
        round_routes,
        review_routes,
        suggestion_routes,
        learning_routes,
        pairing_routes,
        request_routes,
        ledger_routes,
        receipt_routes,
        conflict_routes,
    )
]


def build(chassis: Chassis) -> ServiceDefinition[Matcher]:
    partners = PartnerReplica(load(), chassis.clock)
    replicas = topic_replicas(partners, chassis.settings)
    partners.sources = [replica.caught_up for replica in replicas]
    matcher = build_context(chassis, partners)
    return ServiceDefinition(
        context=matcher,
        handlers=registry,
        routers=ROUTERS,
        publishes=[
            PROGRAMMES,
            ROUNDS,
            PAIRINGS,
            PAIRING_STATES,
            ANSWERS,
            REQUESTS,
            UNMATCHED,
            erasure_completions_of("matcher"),
        ],
        sweeps=[
            Sweep(matcher.pairings, partial(deadlines.when_a_pairing_is_due, matcher=matcher), on="due"),
            Sweep(matcher.pairings, partial(reservation.when_a_reservation_expires, matcher=matcher), on="lease"),
            Sweep(matcher.requests, partial(deadlines.when_a_request_is_due, matcher=matcher), on="due"),
            Sweep(matcher.suggestions, partial(suggestions.notify_worker, matcher=matcher), on="lease"),
            Sweep(matcher.ledgers, partial(erasure.when_a_ledger_lease_expires, matcher=matcher), on="lease"),
            Sweep(matcher.rounds, partial(lifecycle.when_a_round_lease_expires, matcher=matcher), on="lease"),
            Sweep(matcher.learning, partial(commands.when_learning_is_due, matcher=matcher), on="due"),
            Sweep(matcher.learning, partial(commands.when_a_release_lease_expires, matcher=matcher), on="lease"),
        ],
        background=[
            matcher.solver.run_until_stopped,
            *(replica.run for replica in replicas),
            partial(partners.keep_fresh, matcher.members),
            RollingWorker(matcher).run,
        ],
    )


def build_context(chassis: Chassis, partners: PartnerReplica) -> Matcher:
    settings = chassis.settings
    return Matcher(
        programmes=chassis.aggregate_store(
            ProgrammeStore, "programmes", Programme, publishes={PROGRAMMES: programmes.to_public_event}
        ),
        rounds=chassis.aggregate_store(RoundStore, "rounds", Round, indexes=ROUND_INDEXES),
        proposals=chassis.document_store(ProposalStore, "proposals", PROPOSAL_INDEXES),
        unmatched=chassis.document_store(UnmatchedStore, "left_over", UNMATCHED_INDEXES),
        summaries=chassis.document_store(SummaryStore, "summaries"),
        pairings=chassis.aggregate_store(
            PairingStore,
            "pairings",
            Pairing,
            publishes={PAIRING_STATES: pairings.to_public_event},
            indexes=PAIRING_INDEXES,
        ),
        requests=chassis.aggregate_store(RequestStore, "requests", PartnerRequest, indexes=REQUEST_INDEXES),
        ledgers=chassis.aggregate_store(LedgerStore, "ledgers", SeatLedger),
        receipts=chassis.document_store(ReceiptStore, "receipts", RECEIPT_INDEXES),
        suggestions=chassis.aggregate_store(SuggestionStore, "suggestions", Suggestion, indexes=SUGGESTION_INDEXES),
        claims=chassis.aggregates("watches", ProgrammeClaim),
        learning=chassis.aggregate_store(LearningStore, "learning", ProgrammeLearning, indexes=LEARNING_INDEXES),
        examples=chassis.document_store(ExampleStore, "examples", EXAMPLE_INDEXES),
        members=chassis.projection("members", ProfileChanged, MEMBER_INDEXES),
        partners=partners,
        taxonomy=partners.taxonomy,
        clock=chassis.clock,
        solver=Solver(
            settings.mongo_url(), settings.database_name(chassis.service), settings.instance_name(chassis.service)
        ),
        tasks=BackgroundTasks(),
    )


if __name__ == "__main__":
    run("matcher", build, PORT)
