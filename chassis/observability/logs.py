"""Logs: one JSON line for each record, with the trace id. They never hold a name, an address or a person's text.

Beside the message, only fields of an allow-list are written. An exception is written as its type, the safe part of its
message and its stack (see ``error_redaction``). Messages of other libraries are cut to their first line. The same
message of another library is written once a minute: a client whose broker is down repeats it hundreds of times.
"""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from opentelemetry import trace

from chassis.core.error_redaction import cause_chain, safe_message, stack_frames
from contracts.text import safe_json

OWN_LOGGERS = ("chassis", "services", "contracts", "cli", "deploy", "__main__")
MAX_MESSAGE_CHARACTERS = 1000
REPEAT_INTERVAL_S = 60.0  # in which the same message of another library is written once
MAX_REMEMBERED_MESSAGES = 500
_allowed_fields = {
    "attempt", "clock", "code", "collection", "correlation_id", "count", "duration", "event_id", "event_type", "group",
    "method", "offset", "on", "partition", "route", "seconds", "status", "topic",
}  # fmt: skip


def allow_fields(*names: str) -> None:
    """Allow these ``extra`` fields in the logs, for ids that name no person: ``allow_fields("pairing_id")``."""
    _allowed_fields.update(names)


class JsonFormatter(logging.Formatter):
    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._service = service
        self._instance = instance

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "instance": self._instance,
            "logger": record.name,
            "message": _message_text(record),
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            entry["trace_id"] = trace.format_trace_id(context.trace_id)
            entry["span_id"] = trace.format_span_id(context.span_id)
        for name in sorted(_allowed_fields & record.__dict__.keys()):
            entry[name] = _to_loggable(record.__dict__[name])
        if record.exc_info and record.exc_info[1] is not None:
            entry["error"] = _describe_error(record.exc_info[1])
        return safe_json(entry)


class RepeatFilter(logging.Filter):
    """Lets the same message of another library pass once in an interval, with the number of those held back.

    Messages are the same when their logger and their text before formatting are.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._messages: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()  # passed at, held back

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in OWN_LOGGERS:
            return True
        key, now = (record.name, record.levelno, str(record.msg)), self._monotonic()
        passed_at, held_back = self._messages.pop(key, (float("-inf"), 0))
        passes = now - passed_at >= REPEAT_INTERVAL_S
        self._messages[key] = (now, 0) if passes else (passed_at, held_back + 1)
        if len(self._messages) > MAX_REMEMBERED_MESSAGES:
            self._messages.popitem(last=False)
        if passes and held_back:
            record.count = held_back  # one of the allowed fields
        return passes


def configure(service: str, instance: str, level: str, stream: TextIO | None = None) -> None:
    """Let all loggers of the process write JSON to ``stream`` (stderr). Other libraries log from WARNING on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service, instance))
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    logging.captureWarnings(capture=True)


def _message_text(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] in OWN_LOGGERS:
        text = str(record.msg) % _redact_arguments(record.args) if record.args else str(record.msg)
        return text[:MAX_MESSAGE_CHARACTERS]
    if record.name == "asyncio":  # its messages go on with the repr of a task, its error and its arguments
        return record.getMessage().partition("\n")[0].partition(" <")[0][:MAX_MESSAGE_CHARACTERS]
    return record.getMessage().partition("\n")[0][:MAX_MESSAGE_CHARACTERS]


def _redact_arguments(arguments: Any) -> Any:
    """The arguments of a message, with errors replaced by their safe text."""
    if isinstance(arguments, Mapping):
        return {
            name: safe_message(value) if isinstance(value, BaseException) else value
            for name, value in arguments.items()
        }
    return tuple(safe_message(value) if isinstance(value, BaseException) else value for value in arguments)


def _to_loggable(value: object) -> object:
    return value if isinstance(value, int | float | bool) or value is None else str(value)[:200]


def _describe_error(error: BaseException) -> dict[str, Any]:
    first, *causes = cause_chain(error)
    entry: dict[str, Any] = {"type": type(first).__name__, "message": safe_message(first), "stack": stack_frames(first)}
    if causes:
        entry["causes"] = [safe_message(cause) for cause in causes[:5]]
    return entry
