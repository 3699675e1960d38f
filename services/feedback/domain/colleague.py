"""The part of a profile that feedback stores: the time zone and the line, nothing else."""

from typing import ClassVar

from contracts.envelope import EventData, Tag, Topic
from contracts.profiles import PROFILES, MemberId, ProfileChanged


class Colleague(EventData):
    """``profile.changed`` as feedback reads it. Style, wishes and private rules are never stored in this service."""

    TYPE: ClassVar[str] = ProfileChanged.TYPE
    TOPIC: ClassVar[Topic] = PROFILES
    KEY: ClassVar[str] = "member_id"

    member_id: MemberId
    line: tuple[MemberId, ...] = ()
    evaluators: tuple[MemberId, ...] = ()
    time_zone: Tag | None = None
