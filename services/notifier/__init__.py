"""Notifier: what is said to people, and when; how they are reached.

Owns: how each member is to be reached, as they and HR said; erasures here.
Hears: ``contact.changed``, ``programme.changed``, ``erasure.requested``.
Says: ``erasure.completed``.
"""
