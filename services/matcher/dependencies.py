"""Parameters that the endpoints of the matcher receive: the context, the page, and the caller by role."""

from typing import Annotated

from fastapi import Depends

from chassis.web.http import Command, PageRequest, Principal, allow, command, service_context
from services.matcher.context import Matcher

MatcherContext = Annotated[Matcher, Depends(service_context)]
Paging = Annotated[PageRequest, Depends()]

MemberPrincipal = Annotated[Principal, allow("member")]
CoordinatorPrincipal = Annotated[Principal, allow("coordinator", "admin")]
UserPrincipal = Annotated[Principal, allow("member", "coordinator", "admin")]

MemberCommand = Annotated[Command, command("member")]
CoordinatorCommand = Annotated[Command, command("coordinator", "admin")]
UserCommand = Annotated[Command, command("member", "coordinator", "admin")]
