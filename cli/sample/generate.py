"""Writes `people.csv` and `wishes.json`: `python -m cli.sample.generate`, or `--check` to compare with what is there.

Deterministic on every Python: see `chance`.
"""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.sample.seeded_random import Chance
from cli.sample.wishes import wishes_of
from cli.sample.workforce import Worker, workforce

SEED = 20130311
FOLDER = Path(__file__).parent
COLUMNS = (
    "external_id", "name", "organisation", "department", "level", "email", "site", "discipline", "manager",
    "evaluators", "employment", "employed_until", "locale", "time_zone",
)  # fmt: skip


def people_csv(everybody: list[Worker]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for worker in everybody:
        writer.writerow(
            [
                worker.external_id,
                worker.name,
                worker.organisation,
                worker.department.id,
                worker.level,
                worker.email,
                worker.site.id,
                worker.discipline,
                worker.manager.external_id if worker.manager else "",
                ";".join(evaluator.external_id for evaluator in worker.evaluators),
                worker.employment,
                worker.employed_until,
                worker.site.locale,
                worker.site.time_zone,
            ]
        )
    return text.getvalue()


def wishes_json(chance: Chance, everybody: list[Worker]) -> str:
    """One line for each person, so that a difference can be read."""
    lines = [
        f" {json.dumps(worker.external_id)}: {json.dumps(wishes_of(chance, worker, everybody), ensure_ascii=False)}"
        for worker in everybody
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def files() -> dict[str, str]:
    """Name and text of each file."""
    everybody = workforce(Chance(SEED))
    return {"people.csv": people_csv(everybody), "wishes.json": wishes_json(Chance(SEED + 1), everybody)}


def main(arguments: Sequence[str]) -> int:
    differing = []
    for name, text in files().items():
        path = FOLDER / name
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8", newline="\n")
        elif path.read_text(encoding="utf-8") != text:
            differing.append(name)
    if differing:
        sys.stderr.write(f"{', '.join(differing)}: not what the generator writes; run python -m cli.sample.generate\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
