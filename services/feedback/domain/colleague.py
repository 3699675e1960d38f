"""What feedback keeps of a profile: where somebody's day begins, and in whose line they stand. Nothing else."""

from typing import ClassVar

from contracts.envelope import EventData, Tag, Topic
from contracts.profiles import PROFILES, MemberId, ProfileChanged


class Colleague(EventData):
    """``profile.changed`` as feedback reads it: style, wishes and private rules are not even stored here."""

    TYPE: ClassVar[str] = ProfileChanged.TYPE
    TOPIC: ClassVar[Topic] = PROFILES
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    line: tuple[MemberId, ...] = ()
    evaluators: tuple[MemberId, ...] = ()
    time_zone: Tag | None = None
