"""What `status` shows, read from the servers, from each service's `/metrics`, and from what services answer."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cli.connections import open_service, redact_password
from cli.console import REFUSED, Failure, print_line, print_note, print_table
from cli.installation import Addresses
from cli.local_stack import ProcessHealth
from deploy.local import health as server_health
from deploy.local import stack
from deploy.local.stack import ServerStatus

_TECHNICAL_METRICS = (
    "viceversa_http_", "viceversa_event", "viceversa_outbox_", "viceversa_consumer_lag", "viceversa_overdue",
    "viceversa_due",
)  # fmt: skip
"""Every other figure of ours is one of the business: how many people or messages have come how far."""

STEP_TEXTS: Mapping[str, str] = {
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

_PROGRAMMES_PER_TABLE = 4
"""Programmes in one table; more would not fit a screen."""
_CLOCK_TEXTS = {"due": "whose time has come", "lease": "left unfinished"}


@dataclass
class ServiceFigures:
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
class PairFunnel:
    """How many pairs of a programme came how far. None: fewer than ``k``, too few to be told."""

    programme_id: str
    k: int
    steps: Mapping[str, int | None]

    def format_step(self, step: str) -> str:
        number = self.steps.get(step, 0)
        return f"fewer than {self.k}" if number is None else str(number)


def check_servers(data: Path, chosen: Addresses) -> list[ServerStatus]:
    """Kafka and the store: those of this folder, or those of the addresses that count here."""
    found = stack.status(data)
    if any(server.pid for server in found):
        return found
    return [
        _check_server("kafka", chosen.kafka, lambda: server_health.kafka_answers(chosen.kafka)),
        _check_server("store", chosen.mongo, lambda: server_health.mongo_answers(chosen.mongo)),
    ]


def read_figures(url: str) -> ServiceFigures | None:
    """None: no answer."""
    try:
        text = httpx.get(f"{url}/metrics", timeout=3, trust_env=False).raise_for_status().text
    except httpx.HTTPError:
        return None
    return parse_figures(text)


def parse_figures(text: str) -> ServiceFigures:
    """What a service's `/metrics` says."""
    found = ServiceFigures()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            _add_sample(found, sample.name, sample.labels, sample.value)
    return found


def load_progress(data: Path) -> tuple[list[PairFunnel] | None, Mapping[str, int] | None]:
    """The funnels and the messages; None, and why, where nobody may be asked: all else is shown without a token."""
    try:
        return load_funnels(data), load_message_counts(data)
    except Failure as failure:
        print_note(f"How far the pairs have come is not shown: {failure.message}")
        return None, None


def load_funnels(data: Path) -> list[PairFunnel]:
    """Of each programme whose report whoever asks may see. Raises ``Failure`` when nothing answers."""
    with open_service(data, "matcher") as matcher, open_service(data, "feedback") as feedback:
        programmes = [one["programme_id"] for one in matcher.list_items("/programmes") if one["state"] != "draft"]
        reports = [
            found for id in programmes if (found := _get_unless_refused(feedback.get, f"/programmes/{id}/report"))
        ]
    return [PairFunnel(one["programme_id"], one["k"], one["funnel"]) for one in reports]


def load_message_counts(data: Path) -> Mapping[str, int] | None:
    """How many messages of the notifier are how far; None for whom that is not."""
    with open_service(data, "notifier") as notifier:
        found: Mapping[str, int] | None = _get_unless_refused(notifier.get, "/notifications/counts")
    return found


def count_exactly(data: Path) -> dict[str, dict[str, int]]:
    """For each programme, how many people and pairs are in each state; under the empty name, everybody known."""
    reached: dict[str, Counter[str]] = {"": Counter()}
    with open_service(data, "profiles") as profiles, open_service(data, "matcher") as matcher:
        for member in profiles.list_items("/members"):
            reached[""]["people"] += 1
            for enrolment in member["enrolments"]:
                reached.setdefault(enrolment["programme_id"], Counter())[enrolment["state"]] += 1
        for pairing in matcher.list_items("/pairings"):
            reached.setdefault(pairing["programme_id"], Counter())[f"pairings {pairing['state']}"] += 1
    return {name: dict(counts) for name, counts in reached.items()}


def print_processes(
    servers: Sequence[ServerStatus], services: Sequence[ProcessHealth], measured: Mapping[str, ServiceFigures | None]
) -> None:
    rows = [(one.name, redact_password(one.address or "-"), one.pid, one.trouble or "answers") for one in servers]
    rows += [(one.name, one.url or "-", one.pid, one.detail) for one in services]
    print_table("what", "=where", ">pid", "how it is", rows=rows)
    running = {name: figures for name, figures in measured.items() if figures}
    if not running:
        return
    print_line("")
    print_table(
        "service", ">not read yet", ">not published yet", ">the oldest, s", ">overdue", ">dead letters",
        rows=[
            (name, *(f"{number:g}" for number in (one.lag, one.outbox, one.oldest_s, one.overdue, one.dead_lettered)))
            for name, one in running.items()
        ],
    )  # fmt: skip
    for name, one in running.items():
        for what, number in one.overdue_by.items():
            collection, _, clock = what.rpartition(" ")
            print_line(f"  [yellow]overdue in {name}: {number:g} {collection} {_CLOCK_TEXTS.get(clock, clock)}[/]")


def print_funnels(found: Sequence[PairFunnel]) -> None:
    """One column for each programme."""
    for start in range(0, len(found), _PROGRAMMES_PER_TABLE):
        some = found[start : start + _PROGRAMMES_PER_TABLE]
        print_line("")
        rows = [(words, *(one.format_step(step) for one in some)) for step, words in STEP_TEXTS.items()]
        print_table("pairs", *(f">{one.programme_id}" for one in some), rows=rows)


def print_message_counts(found: Mapping[str, int]) -> None:
    print_line(
        f"\nMessages: {found['under_way']} under way, {found['later']} for later; {found['sent']} sent, "
        f"{found['failed']} failed, {found['suppressed']} left out on purpose."
    )


def print_exact_counts(reached: Mapping[str, Mapping[str, int]]) -> None:
    print_line("")
    rows = [
        (name or "everybody", state, number) for name, counts in reached.items() for state, number in counts.items()
    ]
    print_table("programme", "how far", ">number", rows=rows)


def _get_unless_refused(get: Callable[[str], Any], path: str) -> Any:
    """None for what the service does not tell whoever asks, or has not heard of yet."""
    try:
        return get(path)
    except Failure as failure:
        if failure.code != REFUSED:
            raise
        return None


def _check_server(name: str, address: str, ask: Callable[[], None]) -> ServerStatus:
    try:
        ask()
    except server_health.UnhealthyError as error:
        return ServerStatus(name, address, None, str(error))
    return ServerStatus(name, address, None, None)


def _add_sample(found: ServiceFigures, name: str, labels: Mapping[str, str], value: float) -> None:
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
        case _ if (
            name.startswith("viceversa_") and not name.startswith(_TECHNICAL_METRICS) and not name.endswith("_created")
        ):
            found.business[" ".join([name.removeprefix("viceversa_"), *labels.values()])] = value
