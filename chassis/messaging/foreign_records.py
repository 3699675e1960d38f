"""Counts records of writers who do not own the topic, and says so in the log, seldom enough not to fill it."""

import logging
import time

from chassis.observability import metrics

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0  # between two log lines about one topic


class ForeignRecords:
    """The foreign records that one part of a service has met."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._logged_at: dict[str, float] = {}  # monotonic seconds, by topic

    def count(self, topic: str) -> None:
        """Count one record. Nothing of its content is repeated."""
        metrics.count_foreign(self._service, topic)
        now = time.monotonic()
        if now - self._logged_at.get(topic, now - LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._logged_at[topic] = now
            log.warning("somebody else writes to a topic of ours; check its access rules", extra={"topic": topic})
