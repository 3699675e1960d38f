"""Matcher: the only service that decides that a pairing exists.

Owns: programmes, rounds and their proposals, pairings, requests for a partner, suggestions that wait for a
coordinator, the claim of the worker on each programme, the seat ledger of each member, receipts, and what a programme
has learned about its weights.
Handles: ``profile.changed`` (and its tombstone), ``erasure.requested``, ``session.held``,
``partner.change.requested``, ``outcome.recorded``, and of its own events ``programme.changed`` and the ``pairing.*``
events that close a phase. Every replica reads ``programme.changed``, ``profile.changed`` and ``pairing.state`` whole,
into its ``PartnerReplica``.
Publishes: ``programme.changed``, ``round.computed``, ``round.published``, all events of ``pairings.v1``,
``pairing.state``, ``answer.given``, ``request.*``, ``member.unmatched``, ``erasure.completed``.
"""
