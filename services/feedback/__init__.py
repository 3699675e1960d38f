"""Feedback: how pairings go, and the care for them. It advises and decides nothing.

Owns: erasures here.
Hears: ``pairing.state``, ``programme.changed``, ``erasure.requested``.
Says: ``erasure.completed``.
"""
