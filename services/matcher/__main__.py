"""Composition root: ``python -m services.matcher``."""

from functools import partial

from chassis.following import Follower
from chassis.service import Chassis, Parts, run
from chassis.settings import Settings
from chassis.sweeps import Sweep
from contracts.pairings import ANSWERS, PAIRING_STATES, PAIRINGS
from contracts.people import PRIVACY, PROFILES, ProfileChanged
from contracts.programmes import PROGRAMMES, ROUNDS
from contracts.taxonomy import load
from services.matcher import followups, learning, leaving, rounds, seats, suggesting, watching
from services.matcher.conflicts_http import conflict_routes
from services.matcher.domain import pairing as pairings
from services.matcher.domain import programme as programmes
from services.matcher.domain.ledger import Ledger
from services.matcher.domain.pairing import Pairing
from services.matcher.domain.programme import Programme
from services.matcher.domain.refused import Contradiction, Refused, Unknown
from services.matcher.domain.request import Request
from services.matcher.domain.round import Round
from services.matcher.domain.suggestion import Suggestion
from services.matcher.domain.watch import Watch
from services.matcher.domain.weighting import Learning
from services.matcher.handlers import hearing
from services.matcher.http import programme_routes, suggestion_routes
from services.matcher.learning_http import learning_routes
from services.matcher.pairings_http import ledger_routes, pairing_routes, request_routes
from services.matcher.pool import Pool, following
from services.matcher.receipts_http import receipt_routes
from services.matcher.rounds_http import review_routes, round_routes
from services.matcher.solver import Solver
from services.matcher.store import Matcher
from services.matcher.tasks import Tasks

PORT = 8102


def build(chassis: Chassis) -> Parts[Matcher]:
    taxonomy = load()
    pool = Pool(taxonomy, chassis.clock)
    followers = followers_of(pool, chassis.settings)
    pool.waits_for = [follower.caught_up for follower in followers]
    matcher = Matcher(
        programmes=chassis.aggregates("programmes", Programme, says={PROGRAMMES: programmes.public}),
        rounds=chassis.aggregates("rounds", Round),
        pairings=chassis.aggregates("pairings", Pairing, says={PAIRING_STATES: pairings.public}),
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
            chassis.settings.database(chassis.service),
            chassis.settings.instance_of(chassis.service),
        ),
        tasks=Tasks(),
    )
    return Parts(
        context=matcher,
        hearing=hearing,
        routers=[
            programme_routes(matcher),
            round_routes(matcher),
            review_routes(matcher),
            suggestion_routes(matcher),
            learning_routes(matcher),
            pairing_routes(matcher),
            request_routes(matcher),
            ledger_routes(matcher),
            receipt_routes(matcher),
            conflict_routes(matcher),
        ],
        says=[PROGRAMMES, ROUNDS, PAIRINGS, PAIRING_STATES, ANSWERS, PRIVACY],
        sweeps=[
            Sweep(matcher.pairings, partial(followups.when_a_pairing_is_due, matcher=matcher), on="due"),
            Sweep(matcher.pairings, partial(seats.give_up_late, matcher=matcher), on="lease"),
            Sweep(matcher.requests, partial(followups.when_a_request_is_due, matcher=matcher), on="due"),
            Sweep(matcher.suggestions, partial(suggesting.tell_the_watch, matcher=matcher), on="lease"),
            Sweep(matcher.ledgers, partial(leaving.look_after, matcher=matcher), on="lease"),
            Sweep(matcher.rounds, partial(rounds.drive, matcher=matcher), on="lease"),
            Sweep(matcher.learning, partial(learning.look_again, matcher=matcher), on="due"),
            Sweep(matcher.learning, partial(learning.drive, matcher=matcher), on="lease"),
        ],
        background=[
            matcher.solver.look_after,
            *(follower.run for follower in followers),
            partial(pool.keep_fresh, matcher.members),
            partial(watching.keep_watch, matcher),
        ],
        problems={Contradiction: 422, Unknown: 404, Refused: 409},
    )


def followers_of(pool: Pool, settings: Settings) -> list[Follower[Pool]]:
    """Whoever tells the pool; programmes first, since people are compared by their rules."""
    connection, prefix = settings.connection(), settings.topic_prefix
    programmes = Follower(PROGRAMMES, following, pool, connection=connection, prefix=prefix)
    others = [
        Follower(topic, following, pool, connection=connection, prefix=prefix, after=programmes)
        for topic in (PROFILES, PAIRING_STATES)
    ]
    return [programmes, *others]


if __name__ == "__main__":
    run("matcher", build, PORT)
