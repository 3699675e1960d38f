"""Matcher: it alone decides that a pairing exists.

Owns: programmes, rounds with their proposals, pairings, requests for a partner, suggestions that wait for a
coordinator, the watch over each programme, the ledger of each member's seats, and what a programme has learned about
its weights.
Hears: ``profile.changed`` (and its tombstone), ``erasure.requested``, ``session.held``, ``partner.change.requested``,
``outcome.recorded``, and of its own ``programme.changed`` and those ``pairing.*`` that close a phase. Every replica
follows ``programme.changed``, ``profile.changed`` and ``pairing.state`` whole, into its pool.
Says: ``programme.changed``, ``round.computed``, ``round.published``, all of ``pairings.v1``, ``pairing.state``,
``answer.given``, ``erasure.completed``.
"""
