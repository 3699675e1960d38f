"""A hook of schemathesis: half of the ids in a path exist, so that requests reach beyond "not found"."""

import json
import os
import random
from typing import Any

import schemathesis  # type: ignore[import-not-found]  # it has an environment of its own

EXISTING_IDS = json.loads(os.environ.get("FUZZ_IDS", "[]"))


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Put a known id in the place of some drawn ones."""
    if not path_parameters or not EXISTING_IDS:
        return path_parameters
    chooser = random.Random(repr(path_parameters))
    return {
        name: chooser.choice(EXISTING_IDS) if chooser.random() < 0.5 else value
        for name, value in path_parameters.items()
    }
