"""HTTP representations of free members and suggestions."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from contracts.envelope import Instant
from contracts.profiles import Side
from contracts.taxonomy import Taxonomy
from services.matcher.domain.rolling.suggestion import Suggestion
from services.matcher.pairings.views import FocusView
from services.matcher.rolling.suggestions import FreeMember, SuggestedPair


class FreeView(BaseModel):
    """A member with free seats, and the days of waiting."""

    member_id: str
    side: Literal["senior", "junior", "either"]
    department_id: str
    places: int
    days_waiting: int

    @classmethod
    def of(cls, free: FreeMember, now: datetime) -> Self:
        return cls(
            member_id=free.member.id,
            side=free.member.enrolment.side,
            department_id=free.member.profile.department_id,
            places=free.seats,
            days_waiting=free.days_waiting(now),
        )


class SuggestionView(BaseModel):
    """Two members who fit and were never suggested to each other; propose the pair to ask them."""

    senior: str
    junior: str
    reasons: dict[Side, list[str]]
    focus: list[FocusView]

    @classmethod
    def of(cls, pair: SuggestedPair, taxonomy: Taxonomy) -> Self:
        return cls(
            senior=pair.senior.member_id,
            junior=pair.junior.member_id,
            reasons={side: list(texts) for side, texts in pair.reasons.items()},
            focus=[FocusView.of(topic, taxonomy) for topic in pair.focus],
        )


class WaitingView(BaseModel):
    """A suggestion that waits for a coordinator, or on which one has decided. Only open ones have reasons."""

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
    def of(cls, suggestion: Suggestion, pair: SuggestedPair | None, taxonomy: Taxonomy) -> Self:
        reasons = {side: list(texts) for side, texts in pair.reasons.items()} if pair is not None else {}
        topics = [FocusView.of(focus, taxonomy) for focus in pair.focus] if pair is not None else []
        return cls.model_validate({**suggestion.model_dump(), "reasons": reasons, "focus": topics})
