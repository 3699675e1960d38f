"""Matcher: it alone decides that a pairing exists.

Owns: programmes, rounds with their proposals, pairings, requests for a partner, the ledger of each member's seats, and
what a programme has learned about its weights.
Hears: ``profile.changed`` (and its tombstone), ``erasure.requested``, ``session.held``, ``partner.change.requested``,
``outcome.recorded``, and of its own ``pairing.*`` those that close a phase.
Says: ``programme.changed``, ``round.computed``, ``round.published``, all of ``pairings.v1``, ``pairing.state``,
``answer.given``, ``erasure.completed``.
"""
