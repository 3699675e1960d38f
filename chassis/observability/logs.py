"""Logs are JSON, a line for each event, with the trace id; never a name, an address or a text that a person wrote.

Beside the message, only fields of an allow-list are written. An exception is written as its type, what may be told of
it, and where it happened (see sanitise). What other libraries say is cut to its first line.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from opentelemetry import trace

from chassis.core.error_redaction import cause_chain, safe_message, stack_frames

OURS = ("chassis", "services", "contracts", "cli", "deploy", "__main__")
LONGEST = 1000
_fields = {
    "attempt", "clock", "code", "collection", "correlation_id", "count", "duration", "event_id", "event_type", "group",
    "method", "offset", "on", "partition", "route", "seconds", "status", "topic",
}  # fmt: skip


def allow_fields(*names: str) -> None:
    """Let these ``extra`` fields into the logs, for ids that are nobody's name: ``allow_fields("pairing_id")``."""
    _fields.update(names)


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
            "message": _message(record),
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            entry["trace_id"] = trace.format_trace_id(context.trace_id)
            entry["span_id"] = trace.format_span_id(context.span_id)
        for name in sorted(_fields & record.__dict__.keys()):
            entry[name] = _plain(record.__dict__[name])
        if record.exc_info and record.exc_info[1] is not None:
            entry["error"] = _error(record.exc_info[1])
        return json.dumps(entry, ensure_ascii=False)


def configure(service: str, instance: str, level: str, stream: TextIO | None = None) -> None:
    """All loggers of the process write JSON to ``stream`` (stderr). Other libraries speak up from WARNING on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service, instance))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    logging.captureWarnings(capture=True)


def _message(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] in OURS:
        text = str(record.msg) % _args(record.args) if record.args else str(record.msg)
        return text[:LONGEST]
    if record.name == "asyncio":  # its texts go on with the representation of a task, its error and its arguments
        return record.getMessage().partition("\n")[0].partition(" <")[0][:LONGEST]
    return record.getMessage().partition("\n")[0][:LONGEST]


def _args(args: Any) -> Any:
    """The arguments of a message; an error among them says no more than it may."""
    if isinstance(args, Mapping):
        return {
            name: safe_message(value) if isinstance(value, BaseException) else value for name, value in args.items()
        }
    return tuple(safe_message(value) if isinstance(value, BaseException) else value for value in args)


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | bool) or value is None else str(value)[:200]


def _error(error: BaseException) -> dict[str, Any]:
    first, *causes = cause_chain(error)
    entry: dict[str, Any] = {"type": type(first).__name__, "message": safe_message(first), "stack": stack_frames(first)}
    if causes:
        entry["causes"] = [safe_message(cause) for cause in causes[:5]]
    return entry
