"""Limits that only catch a hang, and one variable that stretches all of them.

Such a limit says nothing about speed: no test measures time. A passing test never waits until its limit, so a long one
costs nothing. Write `patience(seconds)`, where `seconds` is the need of a quiet machine. The limit is ten times that,
times VICEVERSA_TEST_PATIENCE: `VICEVERSA_TEST_PATIENCE=5 ./scripts/test` for a slow or shared machine.

Do not use it for times of the behaviour under test: a lease, a pause between two tries, a grace before a kill.
"""

import os

VARIABLE = "VICEVERSA_TEST_PATIENCE"
MARGIN = 10.0
"""Between what a quiet machine needs and what is taken for a hang."""


def stretch() -> float:
    """The environment's factor for each limit, 1 by default. Raises ValueError unless it is at least 0.1."""
    given = os.environ.get(VARIABLE, "1")
    try:
        factor = float(given)
    except ValueError:
        factor = 0.0
    if not 0.1 <= factor < float("inf"):
        raise ValueError(f"{VARIABLE} must be a number of at least 0.1, such as 3; it is {given!r}.")
    return factor


def patience(seconds: float) -> float:
    """The limit, in seconds, of a wait that takes `seconds` on a quiet machine."""
    return seconds * MARGIN * stretch()
