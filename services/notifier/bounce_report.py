"""Reads delivery status notifications (RFC 3464), as mail servers send them to the sender of a mail."""

import re
from collections.abc import Iterator
from email import message_from_bytes, message_from_string
from email.message import Message
from email.policy import compat32

from services.notifier.domain.bounce import BounceReport

MAX_REPORT_BYTES = 1_000_000
MAX_RECIPIENTS = 10  # our mails have one; a list or an alias behind it may have more

_STATUS_PARTS = ("message/delivery-status", "message/global-delivery-status")
_ORIGINAL_PARTS = ("message/rfc822", "message/global", "message/global-headers")
_HEADER_PARTS = ("text/rfc822-headers",)
_STATUS = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_ID = re.compile(r"<[^\s<>]{1,300}>")


def read_report(content: bytes) -> list[BounceReport]:
    """The failed recipients of a report; empty where the mail is no report, or only says that a mail is late.

    Only status codes and Message-IDs are read. No address leaves this function.
    """
    report = message_from_bytes(content[:MAX_REPORT_BYTES], policy=compat32)
    if report.get_content_type() != "multipart/report":
        return []
    parts = [part for part in report.walk() if part is not report]
    ids = tuple(dict.fromkeys(_message_ids(report, parts)))
    statuses = [status for part in parts if part.get_content_type() in _STATUS_PARTS for status in _failures(part)]
    return [BounceReport(ids, status) for status in statuses[:MAX_RECIPIENTS]] if ids else []


def _failures(part: Message) -> Iterator[str]:
    """The status of each recipient whose mail failed. The server's own answer is more exact than its summary."""
    for block in _blocks(part):
        if str(block.get("Action", "")).strip().lower() != "failed":
            continue
        summary = _STATUS.search(str(block.get("Status", "")))
        diagnostic = _STATUS.search(str(block.get("Diagnostic-Code", "")))
        status = summary[1] if summary else "5.0.0"
        yield diagnostic[1] if diagnostic and status.endswith(".0.0") else status


def _blocks(part: Message) -> Iterator[Message]:
    """The groups of fields. Python's parser splits them in the older of the two types only."""
    payload = part.get_payload()
    for block in payload if isinstance(payload, list) else []:
        if isinstance(block, Message):
            yield block
            rest = block.get_payload()
            for text in re.split(r"\r?\n\r?\n", rest) if isinstance(rest, str) else []:
                yield message_from_string(text, policy=compat32)


def _message_ids(report: Message, parts: list[Message]) -> Iterator[str]:
    for part in parts:
        kind, payload = part.get_content_type(), part.get_payload()
        if kind in _ORIGINAL_PARTS and isinstance(payload, list):
            yield from (str(original["Message-ID"]) for original in payload if isinstance(original, Message))
        elif kind in _HEADER_PARTS:
            decoded = part.get_payload(decode=True)
            text = decoded.decode("utf-8", "replace") if isinstance(decoded, bytes) else str(payload)
            yield str(message_from_string(text, policy=compat32)["Message-ID"])
    for header in ("In-Reply-To", "References"):
        yield from _ID.findall(str(report.get(header, "")))[-10:]
