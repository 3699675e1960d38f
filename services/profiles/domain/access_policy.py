"""Who may see what of a person: one rule for each relation of a caller to a person.

A coordinator looks after the people who take part *now*: from enrolment to the end of it. An invitation, and an
enrolment that has ended, give no access. docs/architecture/access.md has the fields of each relation in a table.
"""

from collections.abc import Collection
from typing import Final, Literal

from services.profiles.domain.enrolment import Programmes
from services.profiles.domain.imports import HrImport
from services.profiles.domain.person import Person

ImportReader = Literal["admin", "service", "coordinator"]
Relation = Literal["self", "admin", "service", "coordinator", "stranger"]
TAKING_PART: Final = ("enrolled", "ready")
"""The states of an enrolment in which the coordinators of its programme see the person."""


def coordinated_programmes(
    member_id: str | None, roles: Collection[str], in_token: Collection[str], programmes: Programmes
) -> frozenset[str]:
    """The programmes that a caller looks after: those that their token names, and those that name them.

    A coordinator who is no longer named has none of the rights left.
    """
    if "coordinator" not in roles:
        return frozenset()
    naming = {id for id, programme in programmes.items() if member_id and member_id in programme.settings.coordinators}
    return frozenset(in_token) | naming


def relation_to_member(
    person: Person, member_id: str | None, roles: Collection[str], coordinated: Collection[str]
) -> Relation:
    """The relation of a caller to a person. ``coordinated``: the programmes that the caller looks after."""
    if member_id is not None and person.member_id == member_id:
        return "self"
    if "admin" in roles:
        return "admin"
    if "service" in roles:
        return "service"
    takes_part = any(
        enrolment.programme_id in coordinated and enrolment.state in TAKING_PART for enrolment in person.enrolments
    )
    return "coordinator" if takes_part else "stranger"


def import_reader(
    hr_import: HrImport, subject: str, roles: Collection[str], coordinated: Collection[str]
) -> ImportReader | None:
    """As whom a caller reads this import; None: the caller may not know that it exists.

    Others than admins read what they uploaded themselves: a service HR's files, a coordinator lists of invitations to
    programmes that they still look after.
    """
    if "admin" in roles:
        return "admin"
    if hr_import.uploaded_by != subject:
        return None
    if hr_import.kind == "people":
        return "service" if "service" in roles and hr_import.invites_to is None else None
    return "coordinator" if hr_import.programme_id in coordinated else None
