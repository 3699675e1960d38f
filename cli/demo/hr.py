"""HR's file of people, as HR hands it in."""

import asyncio
from collections.abc import Callable
from typing import Any

from cli.console import Failure
from cli.demo.http_client import DemoCaller

_POLL_S = 0.15


async def import_file(
    hr: DemoCaller, file: bytes, watch: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Returns when it is done; where it would touch many pairings a person releases it first. Raises ``Failure``.

    ``watch`` is told of every look at it.
    """
    found: dict[str, Any] = await hr.send_content("profiles", "/imports?source=hr", file, "text/csv")
    place = f"/imports/{found['import_id']}"
    while found["state"] != "done":
        if found["state"] == "failed":
            raise Failure(f"HR's file was not taken: {found['failure']}")
        if found["state"] == "waiting_for_release":
            await hr.post("profiles", f"{place}/release")
        await asyncio.sleep(_POLL_S)
        found = await hr.get("profiles", place)
        if watch is not None:
            watch(found)
    return found
