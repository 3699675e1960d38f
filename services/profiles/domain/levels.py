"""Grade schemes: a level in a company's own words becomes a number from 1 to 20, comparable over all of them."""

NORMALISED = "1-20"
HIGHEST = 20

# A scheme maps each of its grades to the common scale. Merged companies keep their own grades for years.
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


class BadLevel(ValueError):
    """Not a level of the scheme, or not a scheme; the message names neither the person nor what was written."""


def normalised(scheme: str, value: str) -> int:
    """The level on the scale from 1 to 20. Raises ``BadLevel``."""
    if scheme == NORMALISED:
        if value.isascii() and value.isdigit() and len(value) <= 2 and 1 <= int(value) <= HIGHEST:
            return int(value)
        raise BadLevel(f"the level must be a whole number from 1 to {HIGHEST}")
    grades = SCHEMES.get(scheme)
    if grades is None:
        raise BadLevel(f"there is no level scheme of that name; known are {', '.join((NORMALISED, *SCHEMES))}")
    level = grades.get(value.casefold())
    if level is None:
        raise BadLevel(f"the scheme {scheme!r} has no such level; it has {', '.join(grades)}")
    return level
