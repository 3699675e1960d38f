"""Tells the operator of imports that stand still, in the health of the service."""

import asyncio

from chassis.observability.health import Health
from services.profiles.domain.imports import stands_still
from services.profiles.store import Profiles

WATCH_INTERVAL_S = 15.0


async def watch_imports(profiles: Profiles, health: Health) -> None:
    while True:
        await report_imports(profiles, health)
        await asyncio.sleep(WATCH_INTERVAL_S)


async def report_imports(profiles: Profiles, health: Health) -> None:
    """Report the first import that makes no progress, and how to go on."""
    recorded_at = profiles.clock.machine_now()
    still = [stored.id for stored in await profiles.unfinished_imports() if stands_still(stored.state, recorded_at)]
    trouble = f"import {min(still)} makes no progress; see `viceversa imports show`, or cancel it" if still else None
    health.report_work("imports", trouble)
