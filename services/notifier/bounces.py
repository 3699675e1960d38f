"""Takes reports of mails that did not arrive: from a Maildir, from a webhook, and from the SMTP server's own reply."""

import asyncio
import contextlib
import logging
import stat
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from chassis.core.commands import Op
from chassis.observability.metrics import BusinessCounter
from services.notifier.bounce_report import MAX_REPORT_BYTES, read_report
from services.notifier.domain.bounce import BounceReport, address_mark, read_message_id, severity_of
from services.notifier.domain.recipient import mark_bounced
from services.notifier.store import Notifier

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 30
MAX_FILES = 100  # of one poll
MAX_AGE = timedelta(days=30)  # servers give up after days; a report about an older mail is not believed

_REPORTS = BusinessCounter("mail_reports", "Reports of mails that did not arrive.", ("result",))


async def take_report(report: BounceReport, notifier: Notifier) -> None:
    """Mark the address where the report is about a mail that we sent to it, and says that there is no such mailbox.

    A report that is not ours changes nothing, and its caller learns nothing from that.
    """
    if severity_of(report.status) != "hard":
        _REPORTS.increment(result="soft")
        return
    for message_id in report.message_ids:
        if await _mark_address(message_id, report.status, notifier):
            _REPORTS.increment(result="hard")
            return
    _REPORTS.increment(result="unknown")


async def _mark_address(message_id: str, status: str, notifier: Notifier) -> bool:
    """Returns False where we have sent no such mail, or where its recipient has another address by now."""
    sent, key = read_message_id(message_id), notifier.mailer.bounce_key
    stored = await notifier.notifications.get(sent.notification_id) if sent is not None else None
    if sent is None or key is None or stored is None:
        return False
    notification, now = stored.state, notifier.clock.now()
    if notification.member_id is None or notification.said_at is None or now - notification.said_at > MAX_AGE:
        return False
    contact = await notifier.contacts.get(notification.member_id)
    if contact is None or not contact.email or not sent.is_of(key, contact.email):
        return False
    await mark_address(notification.member_id, contact.email, status, f"bounce/{stored.id}", notifier)
    return True


async def mark_address(member_id: str, address: str, status: str, op: str, notifier: Notifier) -> None:
    """Send no more mail to this address of the member."""
    if await notifier.is_erased(member_id):
        return
    mark, at = address_mark(member_id, address), notifier.clock.now()
    await notifier.recipients.update(
        member_id, Op(op), lambda current: mark_bounced(current, member_id, mark, status, at)
    )


async def poll_maildir(folder: Path, notifier: Notifier) -> None:
    """Read the folder of reports again and again. A fault of the folder is logged, and read again later."""
    while True:
        try:
            await read_maildir(folder, notifier)
        except OSError as error:
            log.warning("the Maildir of reports cannot be read", extra={"error": type(error).__name__})
        await asyncio.sleep(POLL_INTERVAL_S)


async def read_maildir(folder: Path, notifier: Notifier) -> None:
    """Process the new mails of a Maildir. Reports are deleted, since they quote addresses; others move to ``cur``.

    Several replicas may read one Maildir: a report that is processed twice counts once.
    """
    for path in await asyncio.to_thread(_new_files, folder):
        content = await asyncio.to_thread(_read, path)
        if content is None:
            continue
        reports = read_report(content)
        for report in reports:
            await take_report(report, notifier)
        await asyncio.to_thread(_put_away, path, folder, is_report=bool(reports))


def _new_files(folder: Path) -> Sequence[Path]:
    return sorted((folder / "new").iterdir())[:MAX_FILES]


def _read(path: Path) -> bytes | None:
    """The beginning of the mail; None where another replica has taken it, or where it is no plain file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as file:
            return file.read(MAX_REPORT_BYTES)
    except FileNotFoundError:
        return None


def _put_away(path: Path, folder: Path, *, is_report: bool) -> None:
    with contextlib.suppress(FileNotFoundError):  # another replica was faster
        if is_report:
            path.unlink()
        else:
            (folder / "cur").mkdir(exist_ok=True)
            path.rename(folder / "cur" / f"{path.name}:2,")
