"""Composition root: ``python -m services.feedback``."""

from functools import partial

from chassis.erasure import Erasure
from chassis.service import Chassis, ServiceDefinition, run
from chassis.sweeps import Sweep
from contracts.feedback import CHECKINS, FEEDBACK, OUTCOMES, PARTNER_CHANGES
from contracts.pairings import PairingState
from contracts.privacy import erasure_completions_of
from contracts.programmes import ProgrammeChanged
from services.feedback import programme_routes, routes
from services.feedback.domain.anonymous_statistics import Cell
from services.feedback.domain.colleague import Colleague
from services.feedback.domain.followup import PairingFollowup
from services.feedback.domain.questions import load_questions
from services.feedback.handlers import advance_erasure, registry, when_a_followup_is_due_update_it
from services.feedback.report_batches import finish_batch, release_statistic, resume_followup
from services.feedback.store import CONTRIBUTION_INDEXES, FOLLOWUP_INDEXES, PAIRING_INDEXES, Feedback

PORT = 8104


def build(chassis: Chassis) -> ServiceDefinition[Feedback]:
    feedback = Feedback(
        followups=chassis.aggregates("courses", PairingFollowup, indexes=FOLLOWUP_INDEXES),
        cells=chassis.aggregates("cells", Cell),
        erasures=chassis.aggregates("erasures", Erasure),
        contributions=chassis.documents("contributions", CONTRIBUTION_INDEXES),
        pairings=chassis.projection("pairings", PairingState, PAIRING_INDEXES),
        programmes=chassis.projection("programmes", ProgrammeChanged),
        members=chassis.projection("members", Colleague),
        questions=load_questions(),
        clock=chassis.clock,
    )
    return ServiceDefinition(
        context=feedback,
        handlers=registry,
        routers=[routes.router, programme_routes.router],
        publishes=[FEEDBACK, CHECKINS, PARTNER_CHANGES, OUTCOMES, erasure_completions_of("feedback")],
        sweeps=[
            Sweep(feedback.followups, partial(when_a_followup_is_due_update_it, feedback=feedback), on="due"),
            Sweep(feedback.followups, partial(resume_followup, feedback=feedback), on="lease"),
            Sweep(feedback.cells, partial(release_statistic, feedback=feedback), on="due"),
            Sweep(feedback.cells, partial(finish_batch, feedback=feedback), on="lease"),
            Sweep(feedback.erasures, partial(advance_erasure, feedback=feedback), on="lease"),
        ],
    )


if __name__ == "__main__":
    run("feedback", build, PORT)
