"""The data that `status` shows, read from the servers, from each service's `/metrics`, and from the services' APIs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cli.connections import kafka_connection, open_service, redact_password
from cli.console import REFUSED, Failure, print_line, print_note, print_table, spinner
from cli.installation import Addresses
from cli.local_stack import ProcessHealth, check_health
from deploy.local import health as server_health
from deploy.local import stack
from deploy.local.stack import ServerStatus

_TECHNICAL_METRICS = (
    "viceversa_http_", "viceversa_event", "viceversa_outbox_", "viceversa_consumer_lag", "viceversa_overdue",
    "viceversa_due",
)  # fmt: skip
"""Prefixes of technical metrics. All other metrics of ours count people or messages, by state."""

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
"""Texts for the steps of the report's funnel. Each pair is counted in every step that it has reached."""

_PROGRAMMES_PER_TABLE = 4
"""Programmes in one table. More would not fit on a screen."""
_CLOCK_TEXTS = {"due": "whose time has come", "lease": "left unfinished"}


@dataclass
class ServiceFigures:
    """Metrics of one service, summed over labels such as topic and partition.

    ``overdue_by``: number of overdue items by aggregate and kind, such as ``pairings due``. An item is overdue only
    some time after it was due.
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
    """The number of pairs of a programme in each step. None: fewer than ``k``, too few to be published."""

    programme_id: str
    k: int
    steps: Mapping[str, int | None]

    def format_step(self, step: str) -> str:
        number = self.steps.get(step, 0)
        return f"fewer than {self.k}" if number is None else str(number)


@dataclass(frozen=True)
class StatusReport:
    """Everything that `status` shows.

    ``figures``: by service; None for a service that does not answer. ``funnels`` and ``messages`` are None while
    something is not ready, and for a caller who may not see them. ``exact_counts``: only when they were asked for.
    """

    servers: Sequence[ServerStatus]
    services: Sequence[ProcessHealth]
    figures: Mapping[str, ServiceFigures | None]
    is_ready: bool
    funnels: Sequence[PairFunnel] | None
    messages: Mapping[str, int] | None
    exact_counts: Mapping[str, Mapping[str, int]] | None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data, for a script."""
        services = []
        for service in self.services:
            figures = self.figures.get(service.name)
            services.append({**asdict(service), "figures": asdict(figures) if figures else None})
        return {
            "servers": [
                {**asdict(server), "address": redact_password(server.address or "")} for server in self.servers
            ],
            "services": services,
            "funnel": {funnel.programme_id: {"k": funnel.k, "steps": funnel.steps} for funnel in self.funnels or ()},
            "messages": self.messages,
            **({"exact": self.exact_counts} if self.exact_counts is not None else {}),
        }


def load_report(data: Path, addresses: Addresses, *, exact: bool) -> StatusReport:
    """Read everything that `status` shows. ``exact``: also count all people and pairs, which is slow."""
    servers = check_servers(data, addresses)
    services = check_health(data, addresses)
    figures = {name: read_figures(url) for name, url in addresses.management_urls.items()}
    is_ready = all(server.trouble is None for server in servers) and all(service.ready for service in services)
    funnels, messages = load_progress(data) if is_ready else (None, None)
    exact_counts = None
    if exact:
        with spinner("Counting"):
            exact_counts = count_exactly(data)
    return StatusReport(servers, services, figures, is_ready, funnels, messages, exact_counts)


def print_report(report: StatusReport) -> None:
    print_processes(report.servers, report.services, report.figures)
    print_funnels(report.funnels or ())
    if report.messages is not None:
        print_message_counts(report.messages)
    if report.exact_counts is not None:
        print_exact_counts(report.exact_counts)


def check_servers(data: Path, addresses: Addresses) -> list[ServerStatus]:
    """Kafka and the store: the servers of this data folder, or those of the configured addresses."""
    servers = stack.status(data)
    if any(server.pid for server in servers):
        return servers
    return [
        _check_server("kafka", addresses.kafka, lambda: server_health.kafka_answers(kafka_connection(data))),
        _check_server("store", addresses.mongo, lambda: server_health.mongo_answers(addresses.mongo)),
    ]


def read_figures(management_url: str) -> ServiceFigures | None:
    """The metrics of a service; None when it does not answer."""
    try:
        text = httpx.get(f"{management_url}/metrics", timeout=3, trust_env=False).raise_for_status().text
    except httpx.HTTPError:
        return None
    return parse_figures(text)


def parse_figures(text: str) -> ServiceFigures:
    """Parse the text of a service's `/metrics`."""
    figures = ServiceFigures()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            _add_sample(figures, sample.name, sample.labels, sample.value)
    return figures


def load_progress(data: Path) -> tuple[list[PairFunnel] | None, Mapping[str, int] | None]:
    """The funnels and the message counts.

    Both are None when the caller has no token for them; the reason is printed, and everything else is still shown.
    """
    try:
        return load_funnels(data), load_message_counts(data)
    except Failure as failure:
        print_note(f"The progress of the pairs is not shown: {failure.message}")
        return None, None


def load_funnels(data: Path) -> list[PairFunnel]:
    """The funnel of each programme whose report the caller may see. Raises ``Failure`` when no service answers."""
    with open_service(data, "matcher") as matcher, open_service(data, "feedback") as feedback:
        programmes = [item["programme_id"] for item in matcher.list_items("/programmes") if item["state"] != "draft"]
        reports = [
            report for id in programmes if (report := _get_unless_refused(feedback.get, f"/programmes/{id}/report"))
        ]
    return [PairFunnel(item["programme_id"], item["k"], item["funnel"]) for item in reports]


def load_message_counts(data: Path) -> Mapping[str, int] | None:
    """The number of the notifier's messages in each state; None when the caller may not see it."""
    with open_service(data, "notifier") as notifier:
        counts: Mapping[str, int] | None = _get_unless_refused(notifier.get, "/notifications/counts")
    return counts


def count_exactly(data: Path) -> dict[str, dict[str, int]]:
    """Programme -> state -> number of people or pairs. The empty name holds the number of all people."""
    counts_by_programme: dict[str, Counter[str]] = {"": Counter()}
    with open_service(data, "profiles") as profiles, open_service(data, "matcher") as matcher:
        for member in profiles.list_items("/members"):
            counts_by_programme[""]["people"] += 1
            for enrolment in member["enrolments"]:
                counts_by_programme.setdefault(enrolment["programme_id"], Counter())[enrolment["state"]] += 1
        for pairing in matcher.list_items("/pairings"):
            counts_by_programme.setdefault(pairing["programme_id"], Counter())[f"pairings {pairing['state']}"] += 1
    return {name: dict(counts) for name, counts in counts_by_programme.items()}


def print_processes(
    servers: Sequence[ServerStatus],
    services: Sequence[ProcessHealth],
    figures_by_service: Mapping[str, ServiceFigures | None],
) -> None:
    rows = [(item.name, redact_password(item.address or "-"), item.pid, item.trouble or "answers") for item in servers]
    rows += [(item.name, item.url or "-", item.pid, item.detail) for item in services]
    print_table("process", "=address", ">pid", "state", rows=rows)
    running = {name: figures for name, figures in figures_by_service.items() if figures}
    if not running:
        return
    print_line("")
    print_table(
        "service", ">not read yet", ">not published yet", ">the oldest, s", ">overdue", ">dead letters",
        rows=[
            (
                name, f"{figures.lag:g}", f"{figures.outbox:g}", f"{figures.oldest_s:g}", f"{figures.overdue:g}",
                f"{figures.dead_lettered:g}",
            )
            for name, figures in running.items()
        ],
    )  # fmt: skip
    for name, figures in running.items():
        for kind, number in figures.overdue_by.items():
            collection, _, clock = kind.rpartition(" ")
            print_line(f"  [yellow]overdue in {name}: {number:g} {collection} {_CLOCK_TEXTS.get(clock, clock)}[/]")


def print_funnels(funnels: Sequence[PairFunnel]) -> None:
    """Print one column for each programme."""
    for start in range(0, len(funnels), _PROGRAMMES_PER_TABLE):
        group = funnels[start : start + _PROGRAMMES_PER_TABLE]
        print_line("")
        rows = [(text, *(funnel.format_step(step) for funnel in group)) for step, text in STEP_TEXTS.items()]
        print_table("pairs", *(f">{funnel.programme_id}" for funnel in group), rows=rows)


def print_message_counts(counts: Mapping[str, int]) -> None:
    print_line(
        f"\nMessages: {counts['under_way']} under way, {counts['later']} for later; {counts['sent']} sent, "
        f"{counts['failed']} failed, {counts['suppressed']} not sent on purpose."
    )


def print_exact_counts(counts_by_programme: Mapping[str, Mapping[str, int]]) -> None:
    print_line("")
    rows = [
        (name or "everybody", state, number)
        for name, counts in counts_by_programme.items()
        for state, number in counts.items()
    ]
    print_table("programme", "state", ">number", rows=rows)


def _get_unless_refused(get: Callable[[str], Any], path: str) -> Any:
    """The answer of a service, or None when it refuses the caller or does not know the item yet."""
    try:
        return get(path)
    except Failure as failure:
        if failure.code != REFUSED:
            raise
        return None


def _check_server(name: str, address: str, check: Callable[[], None]) -> ServerStatus:
    try:
        check()
    except server_health.UnhealthyError as error:
        return ServerStatus(name, address, None, str(error))
    return ServerStatus(name, address, None, None)


def _add_sample(figures: ServiceFigures, name: str, labels: Mapping[str, str], value: float) -> None:
    match name:
        case "viceversa_consumer_lag":
            figures.lag += value
        case "viceversa_outbox_waiting":
            figures.outbox += value
        case "viceversa_outbox_oldest_seconds":
            figures.oldest_s = max(figures.oldest_s, round(value, 1))
        case "viceversa_overdue":
            figures.overdue += value
            if value:
                figures.overdue_by[f"{labels['collection']} {labels['clock']}"] = value
        case "viceversa_events_dead_lettered_total":
            figures.dead_lettered += value
        case _ if (
            name.startswith("viceversa_") and not name.startswith(_TECHNICAL_METRICS) and not name.endswith("_created")
        ):
            figures.business[" ".join([name.removeprefix("viceversa_"), *labels.values()])] = value
