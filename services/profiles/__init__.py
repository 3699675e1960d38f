"""Profiles: who people are in the organisation, what they offer and seek, and in which programmes they take part.

Owns: people (HR's record, what they entered themselves, contact, enrolments, absences), HR's imports, erasures.
Consumes: ``programme.changed``, ``pairing.state``, ``erasure.completed``.
Publishes: ``profile.changed``, ``contact.changed`` (and their tombstones), ``erasure.requested``,
``erasure.completed``.
"""
