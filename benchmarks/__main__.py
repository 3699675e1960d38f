"""`python -m benchmarks [NAME ...]`: run, print JSON, and keep the results in benchmarks/RESULTS.md."""

import argparse
import asyncio
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import busy_service, command, imports, learning, matching, projection, rolling_live, stack
from benchmarks.environment import ground

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE / "RESULTS.md"
MEANING = {
    "projection": projection.__doc__,
    "command": command.__doc__,
    "import": imports.__doc__,
    "matching": matching.__doc__,
    "busy": busy_service.__doc__,
    "learning": learning.__doc__,
    "live": rolling_live.__doc__,
}


def run(name: str, scale: float) -> dict[str, Any]:
    if name == "projection":
        with ground() as here:
            return asyncio.run(projection.measure(here, scale))
    if name == "matching":
        return matching.measure(scale)
    if name == "learning":
        return learning.measure(scale)
    module = {"command": command, "import": imports, "busy": busy_service, "live": rolling_live}[name]
    with stack.running() as running:
        return asyncio.run(module.measure(running, scale))


def describe_machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEANING)}; without one, all")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the full size, for a quick look")
    parser.add_argument("--keep", action="store_true", help="keep the results in benchmarks/")
    chosen = parser.parse_args()
    results = []
    for name in chosen.names or list(MEANING):
        print(f"{name} ...", file=sys.stderr, flush=True)
        results.append(run(name, chosen.scale))
    print(json.dumps(results, indent=2))
    if chosen.keep:
        keep(results, chosen.scale)
    return 0 if all(result["met"] for result in results) else 1


def keep(results: list[dict[str, Any]], scale: float) -> None:
    """Write the results into the file, beside those of other benchmarks."""
    retained: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for result in results:
        retained[result["name"]] = {
            **result,
            "machine": describe_machine(),
            "at": datetime.now(UTC).date().isoformat(),
            "command": f"python -m benchmarks {result['name']} --keep" + (f" --scale {scale}" if scale != 1 else ""),
        }
    RESULTS.write_text(json.dumps(retained, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(retained), encoding="utf-8")


def page(retained: dict[str, Any]) -> str:
    lines = [
        "# Results",
        "",
        "Made by the commands below; ratios within one run are what counts, not absolute figures.",
    ]
    for name, meaning in MEANING.items():
        if name not in retained:
            continue
        result = retained[name]
        figures = {k: v for k, v in result.items() if k not in ("name", "machine", "at", "command")}
        lines += ["", f"## {name}", "", (meaning or "").strip(), ""]
        lines += [f"`{result['command']}`, {result['at']}, {json.dumps(result['machine'])}", ""]
        lines += ["```json", json.dumps(figures, indent=2), "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
