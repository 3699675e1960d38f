"""Notifier: notifies members and coordinators by e-mail and in an inbox.

Owns: notifications and the inbox; each recipient's preferences and weekly slots; how each member is reached, as the
member and HR said; addresses whose mail came back; erasures in this service.
Subscribes to: ``contact.changed``, ``programme.changed``, ``round.computed``, ``pairing.*``, ``answer.given``,
``request.*``, ``member.unmatched``, ``session.*``, ``checkin.*``, ``contact.needed``, ``erasure.requested``.
Publishes: ``notification.sent``, ``notification.failed``, ``notification.suppressed``, ``erasure.completed``.
"""
