"""Notifier: what is said to people, and when; how they are reached.

Owns: notifications, each reader's wishes and the week's places, what stands in an inbox; how each member is to be
reached, as they and HR said; erasures here.
Hears: ``contact.changed``, ``programme.changed``, ``round.computed``, ``pairing.*``, ``answer.given``, ``session.*``,
``checkin.*``, ``contact.needed``, ``erasure.requested``.
Says: ``notification.sent``, ``notification.failed``, ``notification.suppressed``, ``erasure.completed``.
"""
