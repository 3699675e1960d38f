"""Composition root: ``python -m services.matcher``."""

from functools import partial

from chassis.core.settings import Settings
from chassis.messaging.topic_replica import TopicReplica
from chassis.service import Chassis, ServiceDefinition, run
from chassis.sweeps import Sweep
from contracts.pairings import ANSWERS, PAIRING_STATES, PAIRINGS
from contracts.privacy import PRIVACY
from contracts.profiles import PROFILES, ProfileChanged
from contracts.programmes import PROGRAMMES, ROUNDS
from contracts.taxonomy import load
from services.matcher import erasure
from services.matcher.background_tasks import Tasks
from services.matcher.domain.learning.weight_versions import Learning
from services.matcher.domain.pairings import pairing as pairings
from services.matcher.domain.pairings.pairing import Pairing
from services.matcher.domain.pairings.request import Request
from services.matcher.domain.pairings.seat_ledger import Ledger
from services.matcher.domain.programmes import programme as programmes
from services.matcher.domain.programmes.programme import Programme
from services.matcher.domain.rolling.programme_claim import Watch
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.domain.rounds.round import Round
from services.matcher.handlers import hearing
from services.matcher.learning import commands
from services.matcher.learning import routes as learning_routes
from services.matcher.pairings import conflict_routes, deadlines, ledger_routes, request_routes, reservation
from services.matcher.pairings import routes as pairing_routes
from services.matcher.partner_replica import Pool, following
from services.matcher.programmes import routes as programme_routes
from services.matcher.receipts import routes as receipt_routes
from services.matcher.rolling import routes as suggestion_routes
from services.matcher.rolling import suggestions, worker
from services.matcher.rounds import lifecycle, review_routes
from services.matcher.rounds import routes as round_routes
from services.matcher.solver.client import Solver
from services.matcher.store import Matcher

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
    taxonomy = load()
    pool = Pool(taxonomy, chassis.clock)
    followers = followers_of(pool, chassis.settings)
    pool.waits_for = [follower.caught_up for follower in followers]
    matcher = Matcher(
        programmes=chassis.aggregates("programmes", Programme, publishes={PROGRAMMES: programmes.public}),
        rounds=chassis.aggregates("rounds", Round),
        pairings=chassis.aggregates("pairings", Pairing, publishes={PAIRING_STATES: pairings.public}),
        ledgers=chassis.aggregates("ledgers", Ledger),
        requests=chassis.aggregates("requests", Request),
        suggestions=chassis.aggregates("suggestions", Suggestion),
        watches=chassis.aggregates("watches", Watch),
        learning=chassis.aggregates("learning", Learning),
        members=chassis.projection("members", ProfileChanged),
        proposals=chassis.documents("proposals"),
        left_over=chassis.documents("left_over"),
        examples=chassis.documents("examples"),
        taxonomy=taxonomy,
        pool=pool,
        summaries=chassis.documents("summaries"),
        receipts=chassis.documents("receipts"),
        clock=chassis.clock,
        solver=Solver(
            chassis.settings.mongo_url(),
            chassis.settings.database_name(chassis.service),
            chassis.settings.instance_name(chassis.service),
        ),
        tasks=Tasks(),
    )
    return ServiceDefinition(
        context=matcher,
        handlers=hearing,
        routers=ROUTERS,
        publishes=[PROGRAMMES, ROUNDS, PAIRINGS, PAIRING_STATES, ANSWERS, PRIVACY],
        sweeps=[
            Sweep(matcher.pairings, partial(deadlines.when_a_pairing_is_due, matcher=matcher), on="due"),
            Sweep(matcher.pairings, partial(reservation.give_up_late, matcher=matcher), on="lease"),
            Sweep(matcher.requests, partial(deadlines.when_a_request_is_due, matcher=matcher), on="due"),
            Sweep(matcher.suggestions, partial(suggestions.tell_the_watch, matcher=matcher), on="lease"),
            Sweep(matcher.ledgers, partial(erasure.look_after, matcher=matcher), on="lease"),
            Sweep(matcher.rounds, partial(lifecycle.drive, matcher=matcher), on="lease"),
            Sweep(matcher.learning, partial(commands.look_again, matcher=matcher), on="due"),
            Sweep(matcher.learning, partial(commands.drive, matcher=matcher), on="lease"),
        ],
        background=[
            matcher.solver.run_until_stopped,
            *(follower.run for follower in followers),
            partial(pool.keep_fresh, matcher.members),
            partial(worker.keep_watch, matcher),
        ],
    )


def followers_of(pool: Pool, settings: Settings) -> list[TopicReplica[Pool]]:
    """Whoever tells the pool; programmes first, since people are compared by their rules."""
    connection, prefix = settings.connection(), settings.topic_prefix
    programmes = TopicReplica(PROGRAMMES, following, pool, connection=connection, prefix=prefix)
    others = [
        TopicReplica(topic, following, pool, connection=connection, prefix=prefix, after=programmes)
        for topic in (PROFILES, PAIRING_STATES)
    ]
    return [programmes, *others]


if __name__ == "__main__":
    run("matcher", build, PORT)
