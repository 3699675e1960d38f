"""Writes `people.csv` and `wishes.json`: `python -m cli.sample.generate`. With `--check` it only compares them.

The output is the same on every Python version, see `seeded_random`.
"""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.sample.seeded_random import SeededRandom
from cli.sample.wishes import generate_wishes
from cli.sample.workforce import Worker, generate_workforce

SEED = 20130311
FOLDER = Path(__file__).parent
COLUMNS = (
    "external_id", "name", "organisation", "department", "level", "email", "site", "discipline", "manager",
    "evaluators", "employment", "employed_until", "locale", "time_zone",
)  # fmt: skip


def build_people_csv(everybody: list[Worker]) -> str:
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


def build_wishes_json(random: SeededRandom, everybody: list[Worker]) -> str:
    """One line for each person, so that a diff is readable."""
    lines = []
    for worker in everybody:
        wishes = generate_wishes(random, worker, everybody)
        lines.append(f" {json.dumps(worker.external_id)}: {json.dumps(wishes, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def generate_files() -> dict[str, str]:
    """File name -> text."""
    everybody = generate_workforce(SeededRandom(SEED))
    return {
        "people.csv": build_people_csv(everybody),
        "wishes.json": build_wishes_json(SeededRandom(SEED + 1), everybody),
    }


def main(arguments: Sequence[str]) -> int:
    differing = []
    for name, text in generate_files().items():
        path = FOLDER / name
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8", newline="\n")
        elif path.read_text(encoding="utf-8") != text:
            differing.append(name)
    if differing:
        sys.stderr.write(
            f"{', '.join(differing)}: different from the generator's output; run python -m cli.sample.generate\n"
        )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
