"""Settings of a trial round, which is never published: those of the programme with some values overridden."""

from collections.abc import Mapping

from pydantic import JsonValue, ValidationError

from contracts.errors import InvalidCommand
from contracts.programmes import ProgrammeSettings
from services.matcher.domain.programmes.programme import CONTRADICTORY_SETTINGS, check_settings

OVERRIDABLE_SETTINGS = ("rules", "matching")  # the settings that a result depends on


def override_settings(settings: ProgrammeSettings, changes: Mapping[str, JsonValue]) -> ProgrammeSettings:
    """The settings with ``changes``: a nested mapping of the overridden values alone. Raises ``InvalidCommand``."""
    if unknown := sorted(changes.keys() - set(OVERRIDABLE_SETTINGS)):
        raise InvalidCommand("unknown_setting", f"A trial changes rules and matching, not {', '.join(unknown)}.")
    document = settings.model_dump(mode="json")
    _apply_changes(document, changes, ())
    try:
        overridden = ProgrammeSettings.model_validate(document)
    except ValidationError as error:
        texts = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise InvalidCommand(CONTRADICTORY_SETTINGS, f"These settings are not possible: {texts}.") from error
    check_settings(overridden)
    return overridden


def _apply_changes(document: dict[str, JsonValue], changes: Mapping[str, JsonValue], path: tuple[str, ...]) -> None:
    for name, value in changes.items():
        current = document.get(name)
        if name not in document:
            raise InvalidCommand("unknown_setting", f"There is no setting {'.'.join((*path, name))}.")
        if isinstance(current, dict) and isinstance(value, dict):
            _apply_changes(current, value, (*path, name))
        else:
            document[name] = value
