"""What may be said about an error outside of the process: in logs, spans and health.

An error's own text often repeats what was wrong, and that may be personal: pydantic quotes the input, a driver quotes
the document. So an unknown error is named by its type alone; only texts of kinds that speak of servers and connections,
and of this chassis, are passed on.
"""

import traceback
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

MAX_MESSAGE_CHARACTERS = 300
MAX_STACK_FRAMES = 20  # frames of a stack; the innermost ones say most
SAFE_MODULES = ("aiokafka.errors.", "httpx.", "chassis.")
SAFE_MONGO_ERRORS = (
    "AutoReconnect",
    "ConnectionFailure",
    "NetworkTimeout",
    "NotPrimaryError",
    "ServerSelectionTimeoutError",
)
PLAIN_OS_ERRORS = ("builtins", "socket", "ssl")
_ROOT = Path(__file__).parents[2]


def safe_message(error: BaseException) -> str:
    """The type of an error and what may be told of it, on one line."""
    name = type(error).__name__
    told = " ".join(_told(error).split())
    return f"{name}: {told}"[:MAX_MESSAGE_CHARACTERS] if told else name


def error_code(error: BaseException) -> str | None:
    """The stable code that an error carries, where it has one."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and len(code) <= 64 and code.isascii() and code.isprintable() else None


def stack_frames(error: BaseException) -> list[str]:
    """Where it happened, innermost last: files, lines and functions, without values or source text."""
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), lookup_lines=False, capture_locals=False
    )
    return [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames[-MAX_STACK_FRAMES:]]


def cause_chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what led to it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def validation_locations(error: ValidationError) -> str:
    """Which fields were refused and why, by kind; never with what was given."""
    found = error.errors(include_input=False, include_url=False, include_context=False)[:5]
    return "; ".join(f"{redacted_location(one['loc'])}: {one['type']}" for one in found)


def redacted_location(loc: tuple[int | str, ...]) -> str:
    """A place in a document; a key that is not a plain name may be data, and is shown as ``*``."""
    return ".".join(str(part) if isinstance(part, int) or _plain(part) else "*" for part in loc) or "value"


def _plain(part: str) -> bool:
    return len(part) <= 40 and part.isascii() and part.replace("-", "_").isidentifier()


def _told(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return validation_locations(error)
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(safe_message(one) for one in error.exceptions[:5]))
    if isinstance(error, OSError):
        if error.errno is not None:
            return error.strerror or ""  # without the name of a file
        # Libraries derive their own from OSError: smtplib's quote addresses.
        return str(error) if type(error).__module__ in PLAIN_OS_ERRORS else (error_code(error) or "")
    if error.__class__.__module__ == "pymongo.errors":
        return str(error) if error.__class__.__name__ in SAFE_MONGO_ERRORS else (error_code(error) or "")
    if f"{error.__class__.__module__}.".startswith(SAFE_MODULES):
        return str(error)
    return error_code(error) or ""


def _short(filename: str) -> str:
    path = Path(filename)
    if path.is_relative_to(_ROOT) and "site-packages" not in path.parts:
        return str(path.relative_to(_ROOT))
    return "/".join(path.parts[-2:])
