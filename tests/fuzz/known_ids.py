"""Hooks of schemathesis: half of the ids in a path exist, and each request may come from another role."""

import itertools
import json
import os
import random
from typing import Any

import schemathesis  # type: ignore[import-not-found]  # it has an environment of its own

TOKENS = json.loads(os.environ.get("FUZZ_TOKENS", "[]"))
EXISTING_IDS = json.loads(os.environ.get("FUZZ_IDS", "[]"))

_REQUESTS = itertools.count()


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


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_headers(context: Any, headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """Send the token of a drawn role, or none."""
    if not TOKENS:
        return headers
    token = random.Random(repr(headers) + str(next(_REQUESTS))).choice(TOKENS)
    return {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
