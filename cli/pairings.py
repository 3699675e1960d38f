"""`pairing`: one pairing and its history; `pairings`: a list of pairings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cli import connections, receipts
from cli.api import ServiceClient
from cli.connections import run_with_kafka
from cli.console import Failure, print_failure, print_json, print_line, print_note, print_table, spinner
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses
from cli.member_names import MemberNames

if TYPE_CHECKING:
    from cli.pairing_story import StoryStep

_TIME_FIELDS = ("proposed_at", "answer_by", "formed_at", "charter_at", "planned_end", "ended_at")
_STATE_TEXTS = {
    "proposed": "is proposed to both",
    "lapsed": "was not formed",
    "formed": "is running",
    "chartered": "is running, with goals agreed by both",
    "paused": "is on hold",
    "ended": "has ended",
}


def register(app: typer.Typer) -> None:
    app.command()(pairing)
    app.command()(pairings)


def pairing(
    pairing_id: Annotated[
        str, typer.Argument(metavar="ID", help="The id of the pairing, as events and `pairings` show it.")
    ],
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show the history of one pairing in words, from its events.

    Each step is one line, by the programme's own time: proposal, acceptance, meetings, check-ins, help, the end. It
    also names who was informed, and the id of the trace in which it happened, for Jaeger or the logs. The history shows
    that a check-in was answered, but not the answer. It never shows who declined, or who ended the pairing.

    Before that, it explains how the match was made: a member of the pair sees their own reasons, a coordinator also the
    figures (all details: viceversa receipt show ID).

    The matcher decides whether you may see the pairing, and profiles provides the names. The events come from Kafka.
    When Kafka cannot be reached, only the matcher's data is shown (and in --json the story is null).

    [bold]Examples[/]

      viceversa pairing 0192...

      viceversa pairing 0192... --json | jq -r '.story[] | .time + " " + .words'
    """
    with connections.open_service(data, "matcher") as matcher:
        pairing_ = matcher.get(f"/pairings/{pairing_id}")
        settings = _load_programme_settings(matcher, pairing_)
        receipt = receipts.load_receipt(matcher, pairing_)
    readers = [
        *(participant["member_id"] for participant in pairing_["participants"]),
        *settings.get("coordinators", ()),
    ]
    names = _load_names(data, pairing_)
    steps = _load_story(data, pairing_, readers, names)
    if json:
        story = None if steps is None else [step.to_json() for step in steps]
        print_json({**pairing_, "receipt": receipt, "story": story})
        return
    _print_pairing(pairing_, names, settings.get("labels") or {})
    if receipt is not None:
        with connections.open_service(data, "profiles") as profiles:
            receipts.print_explanation(receipt, MemberNames(profiles))
    if steps is None:
        print_table(
            "when", "", rows=[(name.removesuffix("_at"), pairing_[name]) for name in _TIME_FIELDS if pairing_.get(name)]
        )
    else:
        print_story(steps)


def print_story(steps: "Sequence[StoryStep]") -> None:
    """Print one line for each step, with the informed people and the trace id."""
    print_line("")
    for step in steps:
        messages = (
            f" [dim]{escape(step.messages_text[:1].upper() + step.messages_text[1:])}.[/]" if step.messages_text else ""
        )
        trace = f"  [dim]trace {step.trace_id}[/]" if step.trace_id else ""
        print_line(f"  [dim]{step.at:%a %d %b %Y}[/]  {escape(step.words)}{messages}{trace}")


def pairings(
    programme: Annotated[str | None, typer.Option(help="Only pairings of this programme.")] = None,
    state: Annotated[str | None, typer.Option(help="Only pairings in this state, such as formed.")] = None,
    limit: Annotated[int, typer.Option(help="List at most this many.", min=1)] = 50,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """List pairings.

    [bold]Examples[/]

      viceversa pairings --state formed

      viceversa pairings --programme fresh-eyes --limit 1000 --json
    """
    query = {name: value for name, value in (("programme_id", programme), ("state", state)) if value}
    items: list[Any] = []
    with connections.open_service(data, "matcher") as matcher:
        for item in matcher.list_items("/pairings", **query):
            items.append(item)
            if len(items) == limit:
                break
    if json:
        print_json(items)
    elif not items:
        print_line("No pairings yet. Run: viceversa round compute PROGRAMME, then viceversa round publish ROUND")
    else:
        rows = [
            (item["pairing_id"], item["state"], item["origin"], item["proposed_at"], item["formed_at"])
            for item in items
        ]
        print_table("=id", "state", "origin", "proposed", "formed", rows=rows)


def _load_story(
    data: Path, pairing_: Mapping[str, Any], readers: Sequence[str], names: Mapping[str, str]
) -> "list[StoryStep] | None":
    """The steps of the story; None, after a message, when the events cannot be read."""
    from cli.pairing_events import read_pairing_events  # with Kafka and all contracts, which no other command needs
    from cli.pairing_story import build_story

    reading_events = read_pairing_events(
        connections.kafka_connection(data),
        load_addresses(data).prefix,
        pairing_["pairing_id"],
        list(dict.fromkeys(readers)),
        print_note,
    )
    try:
        with spinner("Reading the events of the pairing"):
            events = run_with_kafka(reading_events)
    except (Failure, LookupError) as error:
        print_failure(str(error), "The following comes from the matcher alone.")
        return None
    return build_story(events, names)


def _print_pairing(pairing_: Mapping[str, Any], names: Mapping[str, str], labels: Mapping[str, Any]) -> None:
    """``labels``: the names of the programme and its sides, by language."""
    own_labels: Mapping[str, str] = labels.get("en") or next(iter(labels.values()), {})
    programme = own_labels.get("name") or pairing_["programme_id"]
    print_line(f"Pairing [bold]{pairing_['pairing_id']}[/] of {escape(programme)} {_STATE_TEXTS[pairing_['state']]}.")
    rows = [
        (
            own_labels.get(item["side"]) or item["side"],
            names.get(item["member_id"], item["member_id"]),
            item["department_id"],
        )
        for item in pairing_["participants"]
    ]
    print_table("side", "name", "department", rows=rows)
    for side in ("senior", "junior"):
        if topics := [item["topic_id"] for item in pairing_["focus"] if item["from_side"] == side]:
            print_line(f"  from the {escape(own_labels.get(side) or side)}: {escape(', '.join(topics))}")


def _load_names(data: Path, pairing_: Mapping[str, Any]) -> dict[str, str]:
    """The names of both members, as far as the caller may see them and they still exist."""
    with connections.open_service(data, "profiles") as profiles:
        names = MemberNames(profiles)
        members = [participant["member_id"] for participant in pairing_["participants"]]
        return {member: name for member in members if (name := names.find(member)) is not None}


def _load_programme_settings(matcher: ServiceClient, pairing_: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the pairing's programme; empty when the caller may not see it."""
    try:
        return dict(matcher.get(f"/programmes/{pairing_['programme_id']}")["settings"])
    except Failure:
        return {}
