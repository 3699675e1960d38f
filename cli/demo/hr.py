"""Imports of HR's file of people."""

import asyncio
from collections.abc import Callable
from typing import Any

from cli.console import Failure
from cli.demo.http_client import DemoCaller

_POLL_S = 0.15


async def import_file(
    hr: DemoCaller, file: bytes, on_progress: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Import a file and return when it is done. Raises ``Failure``.

    A second admin releases an import that touches many pairings.

    ``on_progress`` is called with the import after each poll.
    """
    current: dict[str, Any] = await hr.send_content("profiles", "/imports?source=hr", file, "text/csv")
    path = f"/imports/{current['import_id']}"
    while current["state"] != "done":
        if current["state"] in ("failed", "cancelled"):
            raise Failure(f"HR's file was not imported: {current['failure']}")
        if current["state"] == "waiting_for_release":
            await hr.web.admin("a second admin").post("profiles", f"{path}/release")
        await asyncio.sleep(_POLL_S)
        current = await hr.get("profiles", path)
        if on_progress is not None:
            on_progress(current)
    return current
