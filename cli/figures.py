"""What `status` shows, read from the servers and from each service's `/metrics`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cli.connections import service, without_password
from cli.console import say, table
from cli.estate import Health
from cli.place import Addresses
from deploy.local import health as server_health
from deploy.local import stack
from deploy.local.stack import ServerStatus

_TECHNICAL = (
    "viceversa_http_", "viceversa_event", "viceversa_outbox_", "viceversa_consumer_lag", "viceversa_overdue",
)  # fmt: skip
"""Every other figure of ours is one of the business: how many people have come how far."""

Figures = Mapping[str, float]


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
    """Figures of one service by name; those that differ only in labels of place are summed up. None: no answer."""
    try:
        text = httpx.get(f"{url}/metrics", timeout=3, trust_env=False).raise_for_status().text
    except httpx.HTTPError:
        return None
    found = {"lag": 0.0, "outbox": 0.0, "oldest_s": 0.0, "overdue": 0.0, "dead_lettered": 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            _add(found, sample.name, sample.labels, sample.value)
    return found


def show(servers: Sequence[ServerStatus], services: Sequence[Health], measured: Mapping[str, Figures | None]) -> None:
    rows = [(one.name, without_password(one.address or "-"), one.pid, one.trouble or "answers") for one in servers]
    rows += [(one.name, one.url or "-", one.pid, one.detail) for one in services]
    table("what", "=where", ">pid", "how it is", rows=rows)
    running = {name: figures for name, figures in measured.items() if figures}
    if running:
        say("")
        names = ("lag", "outbox", "oldest_s", "overdue", "dead_lettered")
        table(
            "service", ">lag", ">unpublished", ">oldest, s", ">overdue", ">dead letters",
            rows=[(name, *(f"{figures[key]:g}" for key in names)) for name, figures in running.items()],
        )  # fmt: skip
        business = [(name, key, f"{value:g}") for name, found in running.items() for key, value in _business(found)]
        if business:
            say("")
            table("service", "figure", ">value", rows=business)


def funnel(data: Path) -> dict[str, dict[str, int]]:
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


def show_funnel(reached: Mapping[str, Mapping[str, int]]) -> None:
    say("")
    rows = [
        (name or "everybody", state, number) for name, counts in reached.items() for state, number in counts.items()
    ]
    table("programme", "how far", ">number", rows=rows)


def _asked(name: str, address: str, ask: Callable[[], None]) -> ServerStatus:
    try:
        ask()
    except server_health.UnhealthyError as error:
        return ServerStatus(name, address, None, str(error))
    return ServerStatus(name, address, None, None)


def _add(found: dict[str, float], name: str, labels: Mapping[str, str], value: float) -> None:
    match name:
        case "viceversa_consumer_lag":
            found["lag"] += value
        case "viceversa_outbox_waiting":
            found["outbox"] += value
        case "viceversa_outbox_oldest_seconds":
            found["oldest_s"] = max(found["oldest_s"], round(value, 1))
        case "viceversa_overdue":
            found["overdue"] += value
        case "viceversa_events_dead_lettered_total":
            found["dead_lettered"] += value
        case _ if name.startswith("viceversa_") and not name.startswith(_TECHNICAL):
            found[" ".join([name.removeprefix("viceversa_"), *labels.values()])] = value


def _business(found: Figures) -> list[tuple[str, float]]:
    return [
        (key, value)
        for key, value in found.items()
        if key not in ("lag", "outbox", "oldest_s", "overdue", "dead_lettered")
    ]
