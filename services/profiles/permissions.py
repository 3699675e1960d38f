"""Applies the access policy of the domain to the caller of an endpoint."""

from chassis.web.http import Principal
from services.profiles.domain.access_policy import coordinated_programmes
from services.profiles.domain.enrolment import Programmes


def find_coordinated(principal: Principal, programmes: Programmes) -> frozenset[str]:
    """The programmes that the caller looks after, by their token or by the settings of the programme."""
    return coordinated_programmes(principal.member_id, principal.roles, principal.programmes, programmes)
