"""`pairing`: one pairing and its story; `pairings`: all of them."""

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
    "lapsed": "did not come about",
    "formed": "runs",
    "chartered": "runs, with goals that both agreed to",
    "paused": "is on hold",
    "ended": "is over",
}


def register(app: typer.Typer) -> None:
    app.command()(pairing)
    app.command()(pairings)


def pairing(
    pairing_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, as events and `pairings` show it.")],
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Tell the story of one pairing in words, from its events.

    One line for each step by the programme's own time: proposed, both said yes, meetings, check-ins, help, the end; who
    was told of it; and behind it the id of the trace in which it happened, for Jaeger or the logs. That somebody
    answered a check-in is told, never what; who said no, or who ended it, is told to nobody.

    Before that, how the match was made: for one of the two their reasons, for whoever coordinates the figures too
    (viceversa receipt show ID has all of it).

    Whether you may see it is asked of the matcher, and names of profiles; the events come from Kafka. Where Kafka is
    out of reach, what the matcher says stands alone (and in --json the story is null).

    [bold]Examples[/]

      viceversa pairing 0192...

      viceversa pairing 0192... --json | jq -r '.story[] | .time + " " + .words'
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.get(f"/pairings/{pairing_id}")
        settings = _load_programme_settings(matcher, found)
        receipt = receipts.load_receipt(matcher, found)
    readers = [*(one["member_id"] for one in found["participants"]), *settings.get("coordinators", ())]
    names = _load_names(data, found)
    steps = _load_story(data, found, readers, names)
    if json:
        told = None if steps is None else [step.to_json() for step in steps]
        print_json({**found, "receipt": receipt, "story": told})
        return
    _print_pairing(found, names, settings.get("labels") or {})
    if receipt is not None:
        with connections.open_service(data, "profiles") as profiles:
            receipts.print_explanation(receipt, MemberNames(profiles))
    if steps is None:
        print_table(
            "when", "", rows=[(name.removesuffix("_at"), found[name]) for name in _TIME_FIELDS if found.get(name)]
        )
    else:
        print_story(steps)


def print_story(steps: "Sequence[StoryStep]") -> None:
    """One line for each step, with who was told and its trace behind it."""
    print_line("")
    for step in steps:
        told = (
            f" [dim]{escape(step.messages_text[:1].upper() + step.messages_text[1:])}.[/]" if step.messages_text else ""
        )
        trace = f"  [dim]trace {step.trace_id}[/]" if step.trace_id else ""
        print_line(f"  [dim]{step.at:%a %d %b %Y}[/]  {escape(step.words)}{told}{trace}")


def pairings(
    programme: Annotated[str | None, typer.Option(help="Only of this programme.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state, such as formed.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """List pairings.

    [bold]Examples[/]

      viceversa pairings --state formed

      viceversa pairings --programme fresh-eyes --limit 1000 --json
    """
    query = {name: value for name, value in (("programme_id", programme), ("state", state)) if value}
    found: list[Any] = []
    with connections.open_service(data, "matcher") as matcher:
        for one in matcher.list_items("/pairings", **query):
            found.append(one)
            if len(found) == limit:
                break
    if json:
        print_json(found)
    elif not found:
        print_line("No pairings yet: viceversa round compute PROGRAMME, then viceversa round publish ROUND")
    else:
        rows = [(one["pairing_id"], one["state"], one["origin"], one["proposed_at"], one["formed_at"]) for one in found]
        print_table("=id", "state", "origin", "proposed", "formed", rows=rows)


def _load_story(
    data: Path, found: Mapping[str, Any], readers: Sequence[str], names: Mapping[str, str]
) -> "list[StoryStep] | None":
    """None where the events cannot be read, which is said."""
    from cli.pairing_events import read_pairing_events  # with Kafka and all contracts, which no other command needs
    from cli.pairing_story import build_story

    reading = read_pairing_events(
        connections.kafka_connection(data),
        load_addresses(data).prefix,
        found["pairing_id"],
        list(dict.fromkeys(readers)),
        print_note,
    )
    try:
        with spinner("Reading its events"):
            events = run_with_kafka(reading)
    except (Failure, LookupError) as error:
        print_failure(str(error), "What follows is what the matcher says of it.")
        return None
    return build_story(events, names)


def _print_pairing(found: Mapping[str, Any], names: Mapping[str, str], labels: Mapping[str, Any]) -> None:
    """``labels``: how the programme calls itself and its sides, by language."""
    called: Mapping[str, str] = labels.get("en") or next(iter(labels.values()), {})
    programme = called.get("name") or found["programme_id"]
    print_line(f"Pairing [bold]{found['pairing_id']}[/] of {escape(programme)} {_STATE_TEXTS[found['state']]}.")
    rows = [
        (called.get(one["side"]) or one["side"], names.get(one["member_id"], one["member_id"]), one["department_id"])
        for one in found["participants"]
    ]
    print_table("part", "who", "department", rows=rows)
    for side in ("senior", "junior"):
        if topics := [one["topic_id"] for one in found["focus"] if one["from_side"] == side]:
            print_line(f"  from the {escape(called.get(side) or side)}: {', '.join(topics)}")


def _load_names(data: Path, found: Mapping[str, Any]) -> dict[str, str]:
    """Of the two, as far as whoever asks may see them and they still exist."""
    with connections.open_service(data, "profiles") as profiles:
        names = MemberNames(profiles)
        members = [one["member_id"] for one in found["participants"]]
        return {member: name for member in members if (name := names.find(member)) is not None}


def _load_programme_settings(matcher: ServiceClient, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of its programme; empty where whoever asks may not see it."""
    try:
        return dict(matcher.get(f"/programmes/{found['programme_id']}")["settings"])
    except Failure:
        return {}
