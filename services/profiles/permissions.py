"""Applies the access policy of the domain to the caller of an endpoint."""

from collections.abc import Collection
from typing import Any

from chassis.web.http import Principal
from services.profiles.domain.access_policy import coordinated_programmes
from services.profiles.domain.enrolment import Programmes
from services.profiles.domain.person import Person


def find_coordinated(principal: Principal, programmes: Programmes) -> frozenset[str]:
    """The programmes that the caller looks after, by their token or by the settings of the programme."""
    return coordinated_programmes(principal.member_id, principal.roles, principal.programmes, programmes)


def build_import_filter(principal: Principal, coordinated: Collection[str], *, unfinished: bool) -> dict[str, Any]:
    """A MongoDB filter on the imports that the caller may see (see ``import_reader``)."""
    conditions: list[dict[str, Any]] = []
    if unfinished:
        conditions.append({"state": {"$in": ["received", "running", "waiting_for_release"]}})
    if "admin" not in principal.roles:
        kinds: list[dict[str, Any]] = [{"kind": "invitations", "programme_id": {"$in": sorted(coordinated)}}]
        if "service" in principal.roles:
            kinds.append({"kind": {"$in": ["people", None]}, "invites_to": None})
        conditions += [{"uploaded_by": principal.subject}, {"$or": kinds}]
    return {"$and": conditions} if conditions else {}


def is_in_own_line(principal: Principal, me: Person | None, others: Collection[Person]) -> bool:
    """Whether one of these people is the caller, or stands above or below them, in the line or as evaluator."""
    if principal.member_id is None:
        return False
    above = {principal.member_id, *(me.place.line if me else ()), *(me.place.evaluators if me else ())}
    return any(
        person.member_id in above
        or principal.member_id in person.place.line
        or principal.member_id in person.place.evaluators
        for person in others
    )
