"""Creates the indexes of a service's collections: those of the protocol, and those of the service's own queries."""

from collections.abc import Iterable, Mapping, Sequence

from chassis.storage.mongo import Index, Mongo


async def provision_indexes(
    mongo: Mongo,
    aggregates: Iterable[str],
    projections: Iterable[str],
    query_indexes: Mapping[str, Sequence[Index]] | None = None,
) -> None:
    """Create the indexes that the protocol and the service's queries need for speed; none of them is a rule.

    ``query_indexes``: by collection, what the service names beside its queries. Each profile of a store asks for its
    own kinds: unique pairs serve a compare-and-swap, query indexes everything that is not read by id.
    """
    for name in aggregates:
        if mongo.profile.has_version_indexes:
            await mongo.ensure_index(name, ["_id", "version"], unique=True)
        # A sweep reads page after page in the order of time and id. An index on both gives that order without sorting.
        order = ("_id",) if mongo.profile.has_query_indexes else ()
        for fields in (("outbox_since",), ("due", *order), ("lease", *order)):
            await mongo.ensure_index(name, fields)
    for name in projections if mongo.profile.has_version_indexes else ():
        await mongo.ensure_index(name, ["_id", "sequence"], unique=True)
    for name, indexes in (query_indexes or {}).items() if mongo.profile.has_query_indexes else ():
        for fields in indexes:
            await mongo.ensure_index(name, fields)
