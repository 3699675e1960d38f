"""Parameters that the endpoints of feedback receive: the context, the page, the language, and the caller by role."""

from typing import Annotated

from fastapi import Depends, Query

from chassis.web.http import Command, PageRequest, Principal, allow, command, service_context
from services.feedback.store import Feedback

FeedbackContext = Annotated[Feedback, Depends(service_context)]
Paging = Annotated[PageRequest, Depends()]
Language = Annotated[
    str, Query(max_length=35, description="A BCP 47 tag. The nearest language with translations is used.")
]

ANY_ROLE = allow("member", "coordinator", "admin", "service")
MemberPrincipal = Annotated[Principal, allow("member")]
MemberOrAdmin = Annotated[Principal, allow("member", "admin")]
UserPrincipal = Annotated[Principal, allow("member", "coordinator", "admin")]
CoordinatorPrincipal = Annotated[Principal, allow("coordinator", "admin")]
ContactPrincipal = Annotated[Principal, allow("member", "service")]

MemberCommand = Annotated[Command, command("member")]
ContactCommand = Annotated[Command, command("member", "service")]
