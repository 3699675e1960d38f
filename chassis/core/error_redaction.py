"""The text of an error that may leave the process: for logs, spans and health.

The message of an error often repeats the wrong input, which may be personal: pydantic quotes the input, and a driver
quotes the document. So an unknown error is shown by its type alone. Messages pass only from errors about servers and
connections, and from the chassis' own errors.
"""

import traceback
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

MAX_MESSAGE_CHARACTERS = 300
MAX_STACK_FRAMES = 20  # the innermost frames, which tell most
SAFE_MODULES = ("aiokafka.errors.", "httpx.", "chassis.")
SAFE_MONGO_ERRORS = (
    "AutoReconnect",
    "ConnectionFailure",
    "NetworkTimeout",
    "NotPrimaryError",
    "ServerSelectionTimeoutError",
)
PLAIN_OS_ERROR_MODULES = ("builtins", "socket", "ssl")
_ROOT = Path(__file__).parents[2]


def safe_message(error: BaseException) -> str:
    """The type of an error, and its message as far as that is safe to show, on one line."""
    name = type(error).__name__
    detail = " ".join(_safe_detail(error).split())
    return f"{name}: {detail}"[:MAX_MESSAGE_CHARACTERS] if detail else name


def error_code(error: BaseException) -> str | None:
    """The stable ``code`` attribute of an error, if it has a short plain one."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and len(code) <= 64 and code.isascii() and code.isprintable() else None


def stack_frames(error: BaseException) -> list[str]:
    """The stack of an error, innermost last: files, lines and functions, without values or source text."""
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), lookup_lines=False, capture_locals=False
    )
    return [f"{_short_path(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames[-MAX_STACK_FRAMES:]]


def cause_chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, the latest first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def validation_locations(error: ValidationError) -> str:
    """The first rejected fields, each with the type of its error, and never with the input."""
    details = error.errors(include_input=False, include_url=False, include_context=False)[:5]
    return "; ".join(f"{redacted_location(detail['loc'])}: {detail['type']}" for detail in details)


def redacted_location(loc: tuple[int | str, ...]) -> str:
    """The path of a field in a document. A key that is not a plain name may be data, and is shown as ``*``."""
    return ".".join(str(part) if isinstance(part, int) or _is_plain_name(part) else "*" for part in loc) or "value"


def _is_plain_name(part: str) -> bool:
    return len(part) <= 40 and part.isascii() and part.replace("-", "_").isidentifier()


def _safe_detail(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return validation_locations(error)
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(safe_message(inner) for inner in error.exceptions[:5]))
    if isinstance(error, OSError):
        if error.errno is not None:
            return error.strerror or ""  # without the name of the file
        # Libraries derive errors of their own from OSError; those of smtplib quote addresses.
        return str(error) if type(error).__module__ in PLAIN_OS_ERROR_MODULES else (error_code(error) or "")
    if error.__class__.__module__ == "pymongo.errors":
        return str(error) if error.__class__.__name__ in SAFE_MONGO_ERRORS else (error_code(error) or "")
    if f"{error.__class__.__module__}.".startswith(SAFE_MODULES):
        return str(error)
    return error_code(error) or ""


def _short_path(filename: str) -> str:
    path = Path(filename)
    if path.is_relative_to(_ROOT) and "site-packages" not in path.parts:
        return str(path.relative_to(_ROOT))
    return "/".join(path.parts[-2:])
