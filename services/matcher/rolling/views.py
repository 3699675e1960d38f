"""HTTP representations of free members and suggestions."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from contracts.envelope import Instant
from contracts.profiles import Side
from contracts.taxonomy import Taxonomy
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.pairings.views import FocusView
from services.matcher.rolling.suggestions import Free, Pair


class FreeView(BaseModel):
    """Somebody with a place free, and for how many days they have been waiting."""

    member_id: str
    side: Literal["senior", "junior", "either"]
    department_id: str
    places: int
    days_waiting: int

    @classmethod
    def of(cls, free: Free, now: datetime) -> Self:
        return cls(
            member_id=free.member.id,
            side=free.member.enrolment.side,
            department_id=free.member.profile.department_id,
            places=free.places,
            days_waiting=free.days(now),
        )


class SuggestionView(BaseModel):
    """Two who would fit and were never suggested to each other before; put them together to ask them."""

    senior: str
    junior: str
    reasons: dict[Side, list[str]]
    focus: list[FocusView]

    @classmethod
    def of(cls, found: Pair, taxonomy: Taxonomy) -> Self:
        return cls(
            senior=found.senior.member_id,
            junior=found.junior.member_id,
            reasons={side: list(texts) for side, texts in found.reasons.items()},
            focus=[FocusView.of(one, taxonomy) for one in found.focus],
        )


class WaitingView(BaseModel):
    """A suggestion that waits for a coordinator, or on which one has decided; then it has no reasons any longer."""

    suggestion_id: str
    programme_id: str
    senior: str
    junior: str
    state: Literal["open", "released", "dismissed"]
    made_at: Instant
    pairing_id: str | None
    reasons: dict[Side, list[str]]
    focus: list[FocusView]

    @classmethod
    def of(cls, one: Suggestion, pair: Pair | None, taxonomy: Taxonomy) -> Self:
        why = {side: list(texts) for side, texts in pair.reasons.items()} if pair is not None else {}
        topics = [FocusView.of(focus, taxonomy) for focus in pair.focus] if pair is not None else []
        return cls.model_validate({**one.model_dump(), "reasons": why, "focus": topics})
