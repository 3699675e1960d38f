"""What `status` shows, read from the servers, from each service's `/metrics`, and from what services answer."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cli.connections import service, without_password
from cli.console import REFUSED, Failure, note, say, table
from cli.installation import Addresses
from cli.local_stack import Health
from deploy.local import health as server_health
from deploy.local import stack
from deploy.local.stack import ServerStatus

_TECHNICAL = (
    "viceversa_http_", "viceversa_event", "viceversa_outbox_", "viceversa_consumer_lag", "viceversa_overdue",
    "viceversa_due",
)  # fmt: skip
"""Every other figure of ours is one of the business: how many people or messages have come how far."""

STEPS: Mapping[str, str] = {
    "proposed": "proposed",
    "lapsed": "did not come about",
    "formed": "both said yes",
    "chartered": "agreed on goals",
    "met": "have met",
    "active": "met lately",
    "paused": "on hold",
    "completed": "completed",
    "ended_early": "finished before the time",
    "not_started": "ended before they met",
}
"""The steps of the report's funnel, in words; each pair is counted in every step that it reached."""

_SIDE_BY_SIDE = 4
"""Programmes in one table; more would not fit a screen."""
_CLOCKS = {"due": "whose time has come", "lease": "left unfinished"}


@dataclass
class Figures:
    """Of one service, those that differ only in labels of place summed up.

    ``overdue_by``: by aggregate and kind, such as ``pairings due``; what should have been acted on long ago, and not
    what happens to be due this instant.
    """

    lag: float = 0.0
    outbox: float = 0.0
    oldest_s: float = 0.0
    overdue: float = 0.0
    overdue_by: dict[str, float] = field(default_factory=dict)
    dead_lettered: float = 0.0
    business: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Funnel:
    """How many pairs of a programme came how far. None: fewer than ``k``, too few to be told."""

    programme_id: str
    k: int
    steps: Mapping[str, int | None]

    def shown(self, step: str) -> str:
        number = self.steps.get(step, 0)
        return f"fewer than {self.k}" if number is None else str(number)


def servers(data: Path, chosen: Addresses) -> list[ServerStatus]:
    """Kafka and the store: those of this folder, or those of the addresses that count here."""
    found = stack.status(data)
    if any(server.pid for server in found):
        return found
    return [
        _asked("kafka", chosen.kafka, lambda: server_health.kafka_answers(chosen.kafka)),
        _asked("store", chosen.mongo, lambda: server_health.mongo_answers(chosen.mongo)),
    ]


def measured(url: str) -> Figures | None:
    """None: no answer."""
    try:
        text = httpx.get(f"{url}/metrics", timeout=3, trust_env=False).raise_for_status().text
    except httpx.HTTPError:
        return None
    return read(text)


def read(text: str) -> Figures:
    """What a service's `/metrics` says."""
    found = Figures()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            _add(found, sample.name, sample.labels, sample.value)
    return found


def told(data: Path) -> tuple[list[Funnel] | None, Mapping[str, int] | None]:
    """The funnels and the messages; None, and why, where nobody may be asked: all else is shown without a token."""
    try:
        return funnels(data), messages(data)
    except Failure as failure:
        note(f"How far the pairs have come is not shown: {failure.message}")
        return None, None


def funnels(data: Path) -> list[Funnel]:
    """Of each programme whose report whoever asks may see. Raises ``Failure`` when nothing answers."""
    with service(data, "matcher") as matcher, service(data, "feedback") as feedback:
        programmes = [one["programme_id"] for one in matcher.pages("/programmes") if one["state"] != "draft"]
        reports = [found for id in programmes if (found := _answered(feedback.get, f"/programmes/{id}/report"))]
    return [Funnel(one["programme_id"], one["k"], one["funnel"]) for one in reports]


def messages(data: Path) -> Mapping[str, int] | None:
    """How many messages of the notifier are how far; None for whom that is not."""
    with service(data, "notifier") as notifier:
        found: Mapping[str, int] | None = _answered(notifier.get, "/notifications/counts")
    return found


def exact(data: Path) -> dict[str, dict[str, int]]:
    """For each programme, how many people and pairs are in each state; under the empty name, everybody known."""
    reached: dict[str, Counter[str]] = {"": Counter()}
    with service(data, "profiles") as profiles, service(data, "matcher") as matcher:
        for member in profiles.pages("/members"):
            reached[""]["people"] += 1
            for enrolment in member["enrolments"]:
                reached.setdefault(enrolment["programme_id"], Counter())[enrolment["state"]] += 1
        for pairing in matcher.pages("/pairings"):
            reached.setdefault(pairing["programme_id"], Counter())[f"pairings {pairing['state']}"] += 1
    return {name: dict(counts) for name, counts in reached.items()}


def show(servers: Sequence[ServerStatus], services: Sequence[Health], measured: Mapping[str, Figures | None]) -> None:
    rows = [(one.name, without_password(one.address or "-"), one.pid, one.trouble or "answers") for one in servers]
    rows += [(one.name, one.url or "-", one.pid, one.detail) for one in services]
    table("what", "=where", ">pid", "how it is", rows=rows)
    running = {name: figures for name, figures in measured.items() if figures}
    if not running:
        return
    say("")
    table(
        "service", ">not read yet", ">not published yet", ">the oldest, s", ">overdue", ">dead letters",
        rows=[
            (name, *(f"{number:g}" for number in (one.lag, one.outbox, one.oldest_s, one.overdue, one.dead_lettered)))
            for name, one in running.items()
        ],
    )  # fmt: skip
    for name, one in running.items():
        for what, number in one.overdue_by.items():
            collection, _, clock = what.rpartition(" ")
            say(f"  [yellow]overdue in {name}: {number:g} {collection} {_CLOCKS.get(clock, clock)}[/]")


def show_funnels(found: Sequence[Funnel]) -> None:
    """One column for each programme."""
    for start in range(0, len(found), _SIDE_BY_SIDE):
        some = found[start : start + _SIDE_BY_SIDE]
        say("")
        rows = [(words, *(one.shown(step) for one in some)) for step, words in STEPS.items()]
        table("pairs", *(f">{one.programme_id}" for one in some), rows=rows)


def show_messages(found: Mapping[str, int]) -> None:
    say(
        f"\nMessages: {found['under_way']} under way, {found['later']} for later; {found['sent']} sent, "
        f"{found['failed']} failed, {found['suppressed']} left out on purpose."
    )


def show_exact(reached: Mapping[str, Mapping[str, int]]) -> None:
    say("")
    rows = [
        (name or "everybody", state, number) for name, counts in reached.items() for state, number in counts.items()
    ]
    table("programme", "how far", ">number", rows=rows)


def _answered(get: Callable[[str], Any], path: str) -> Any:
    """None for what the service does not tell whoever asks, or has not heard of yet."""
    try:
        return get(path)
    except Failure as failure:
        if failure.code != REFUSED:
            raise
        return None


def _asked(name: str, address: str, ask: Callable[[], None]) -> ServerStatus:
    try:
        ask()
    except server_health.UnhealthyError as error:
        return ServerStatus(name, address, None, str(error))
    return ServerStatus(name, address, None, None)


def _add(found: Figures, name: str, labels: Mapping[str, str], value: float) -> None:
    match name:
        case "viceversa_consumer_lag":
            found.lag += value
        case "viceversa_outbox_waiting":
            found.outbox += value
        case "viceversa_outbox_oldest_seconds":
            found.oldest_s = max(found.oldest_s, round(value, 1))
        case "viceversa_overdue":
            found.overdue += value
            if value:
                found.overdue_by[f"{labels['collection']} {labels['clock']}"] = value
        case "viceversa_events_dead_lettered_total":
            found.dead_lettered += value
        case _ if name.startswith("viceversa_") and not name.startswith(_TECHNICAL) and not name.endswith("_created"):
            found.business[" ".join([name.removeprefix("viceversa_"), *labels.values()])] = value
