"""A what-if: the settings of a programme with some of them changed, for a round that is never published."""

from collections.abc import Mapping

from pydantic import JsonValue, ValidationError

from contracts.errors import InvalidCommand
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.programmes.programme import CONTRADICTORY_SETTINGS, check_settings

OVERRIDABLE_SETTINGS = ("rules", "matching")  # what a result depends on


def override_settings(settings: ProgrammeSettings, changes: Mapping[str, JsonValue]) -> ProgrammeSettings:
    """``changes`` as they stand in the settings, with no more than what is to differ. Raises ``InvalidCommand``."""
    if unknown := sorted(changes.keys() - set(OVERRIDABLE_SETTINGS)):
        raise InvalidCommand("unknown_setting", f"A trial changes rules and matching, not {', '.join(unknown)}.")
    made = settings.model_dump(mode="json")
    _apply_changes(made, changes, ())
    try:
        after = ProgrammeSettings.model_validate(made)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InvalidCommand(CONTRADICTORY_SETTINGS, f"These settings are not possible: {wrong}.") from error
    check_settings(after)
    return after


def _apply_changes(made: dict[str, JsonValue], changes: Mapping[str, JsonValue], path: tuple[str, ...]) -> None:
    for name, value in changes.items():
        known = made.get(name)
        if name not in made:
            raise InvalidCommand("unknown_setting", f"There is no setting {'.'.join((*path, name))}.")
        if isinstance(known, dict) and isinstance(value, dict):
            _apply_changes(known, value, (*path, name))
        else:
            made[name] = value
