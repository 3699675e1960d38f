"""The differences between stores: indexes, batch sizes and how much rest a search needs.

The protocol is the same on every store, and so are the documents: a service may change its profile at any start. An
index that another profile has made stays and does no harm. Only the local stack sets ``EMBEDDED``.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

ProfileName: TypeAlias = Literal["mongodb", "embedded"]


@dataclass(frozen=True)
class StoreProfile:
    """The properties of one kind of store.

    ``bulk_operations``: documents in one bulk write. ``projection_batch``: rows of a projection that are written by one
    command; the parts of a batch run side by side. ``has_version_indexes``: whether a compare-and-swap needs a unique
    index on ``_id`` and version. ``has_query_indexes``: whether queries that are not by ``_id`` use an index.
    ``rest_ratio``: a sweep rests so many times the duration of its search, and at most ``max_rest_s`` seconds: one
    search on a busy server must not hold up what a crash left behind. ``drops_databases``: whether dropping a database
    drops that one alone.
    """

    bulk_operations: int
    projection_batch: int
    has_version_indexes: bool
    has_query_indexes: bool
    rest_ratio: float
    max_rest_s: float
    drops_databases: bool


MONGODB = StoreProfile(
    bulk_operations=5_000,
    projection_batch=1_000,
    has_version_indexes=False,  # the index on _id finds the one document whose version is compared
    has_query_indexes=True,
    rest_ratio=1.0,  # a search by an index takes milliseconds
    max_rest_s=15.0,
    drops_databases=True,
)

EMBEDDED = StoreProfile(
    bulk_operations=1_000,  # its limit
    projection_batch=250,  # it answers nobody while it works on one command; a thousand replacements take half a second
    has_version_indexes=True,  # it uses no other index for a comparison of two fields
    has_query_indexes=False,  # it scans the collection, and an index would only slow down its writes
    rest_ratio=30.0,  # it scans the collection, so that searching may take a few per cent of the time
    max_rest_s=15.0,
    drops_databases=False,  # dropping database "t1" also destroys "t10"
)

PROFILES: dict[ProfileName, StoreProfile] = {"mongodb": MONGODB, "embedded": EMBEDDED}
