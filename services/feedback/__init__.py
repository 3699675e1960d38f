"""Feedback: follows how pairings go and offers help. It advises and decides nothing.

Owns: the follow-up of each pairing (meetings, check-ins with their private answers, ideas), the anonymous statistics,
and erasures in this service.
Subscribes to: ``profile.changed`` (time zone and line only), ``programme.changed``, all of ``pairings.v1`` from
``formed`` on, ``pairing.state``, ``erasure.requested``.
Publishes: ``session.scheduled / held / cancelled / missed``, ``checkin.due / completed``, ``contact.needed``,
``partner.change.requested``, ``outcome.recorded``, ``erasure.completed``.
"""
