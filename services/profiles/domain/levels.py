"""Grade schemes: they map a company's own levels to numbers from 1 to 20 that are comparable across companies."""

COMMON_SCALE = "1-20"
MAX_LEVEL = 20

# Each scheme maps its grades to the common scale. Merged companies keep their own grades for years.
SCHEMES: dict[str, dict[str, int]] = {
    "1-10": {str(grade): 2 * grade for grade in range(1, 11)},
    "1-5": {str(grade): 4 * grade for grade in range(1, 6)},
    "letters": dict(zip("abcdefghij", range(2, 21, 2), strict=True)),
    "career": {
        "intern": 1,
        "apprentice": 1,
        "junior": 3,
        "professional": 6,
        "senior": 8,
        "expert": 10,
        "lead": 11,
        "manager": 12,
        "senior manager": 14,
        "director": 16,
        "vice president": 18,
        "executive": 20,
    },
}


class InvalidLevel(ValueError):
    """Not a level of the scheme, or not a scheme. The message names neither the person nor the input."""


def normalise_level(scheme: str, value: str) -> int:
    """The level on the scale from 1 to 20. Raises ``BadLevel``."""
    if scheme == COMMON_SCALE:
        if value.isascii() and value.isdigit() and len(value) <= 2 and 1 <= int(value) <= MAX_LEVEL:
            return int(value)
        raise InvalidLevel(f"the level must be a whole number from 1 to {MAX_LEVEL}")
    grades = SCHEMES.get(scheme)
    if grades is None:
        raise InvalidLevel(f"there is no level scheme with this name; use one of {', '.join((COMMON_SCALE, *SCHEMES))}")
    level = grades.get(value.casefold())
    if level is None:
        raise InvalidLevel(f"the level scheme {scheme!r} has no such level; use one of {', '.join(grades)}")
    return level
