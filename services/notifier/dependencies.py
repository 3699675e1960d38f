"""Parameters that the endpoints of notifier receive: the context, the page, and the caller by role."""

from typing import Annotated

from fastapi import Depends

from chassis.web.http import Command, PageRequest, Principal, allow, command, service_context
from services.notifier.store import Notifier

NotifierContext = Annotated[Notifier, Depends(service_context)]
Paging = Annotated[PageRequest, Depends()]

MemberPrincipal = Annotated[Principal, allow("member")]
MemberOrAdmin = Annotated[Principal, allow("member", "admin")]
CoordinatorPrincipal = Annotated[Principal, allow("coordinator", "admin")]
MemberCommand = Annotated[Command, command("member")]
