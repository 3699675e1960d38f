"""Profiles: who people are in the organisation, what they offer and seek, and where they take part.

Owns: people (HR's record, what they entered themselves, contact, enrolments, absences), HR's imports, erasures.
Hears: ``programme.changed``, ``pairing.state``, ``erasure.completed``.
Says: ``profile.changed``, ``contact.changed`` (and their tombstones), ``erasure.requested``, ``erasure.completed``.
"""
