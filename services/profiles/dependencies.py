"""Dependencies of the endpoints of profiles, for FastAPI."""

from typing import Annotated

from fastapi import Depends

from chassis.web.http import Command, PageRequest, Principal, allow, command, service_context
from services.profiles.store import Profiles

ProfilesContext = Annotated[Profiles, Depends(service_context)]
Paging = Annotated[PageRequest, Depends()]
MemberCommand = Annotated[Command, command("member")]
ImportUser = Annotated[Principal, allow("coordinator", "admin", "service")]
ANY_ROLE = allow("member", "coordinator", "admin", "service")
