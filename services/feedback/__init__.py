"""Feedback: how pairings go, and the care for them. It advises and decides nothing.

Owns: the course of each pairing (meetings, check-ins with their private answers, ideas), released figures, and who is
being forgotten here.
Hears: ``profile.changed`` (time zone and line alone), ``programme.changed``, all of ``pairings.v1`` from ``formed`` on,
``pairing.state``, ``erasure.requested``.
Says: ``session.scheduled / held / cancelled / missed``, ``checkin.due / completed``, ``contact.needed``,
``partner.change.requested``, ``outcome.recorded``, ``erasure.completed``.
"""
