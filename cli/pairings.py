"""`pairing`: one pairing and its story; `pairings`: all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cli import connections, receipts
from cli.api import Api
from cli.connections import from_kafka
from cli.console import Failure, as_json, complain, note, say, table, waiting
from cli.installation import USUAL_DATA, DataOption, JsonOption, addresses
from cli.member_names import Names

if TYPE_CHECKING:
    from cli.pairing_story import Step

_TIMES = ("proposed_at", "answer_by", "formed_at", "charter_at", "planned_end", "ended_at")
_STATES = {
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
    data: DataOption = USUAL_DATA,
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
    with connections.service(data, "matcher") as matcher:
        found = matcher.get(f"/pairings/{pairing_id}")
        settings = _settings(matcher, found)
        receipt = receipts.of_pairing(matcher, found)
    readers = [*(one["member_id"] for one in found["participants"]), *settings.get("coordinators", ())]
    names = _names(data, found)
    steps = _steps(data, found, readers, names)
    if json:
        told = None if steps is None else [step.as_data() for step in steps]
        as_json({**found, "receipt": receipt, "story": told})
        return
    _show(found, names, settings.get("labels") or {})
    if receipt is not None:
        with connections.service(data, "profiles") as profiles:
            receipts.tell(receipt, Names(profiles))
    if steps is None:
        table("when", "", rows=[(name.removesuffix("_at"), found[name]) for name in _TIMES if found.get(name)])
    else:
        tell(steps)


def tell(steps: "Sequence[Step]") -> None:
    """One line for each step, with who was told and its trace behind it."""
    say("")
    for step in steps:
        told = f" [dim]{escape(step.told_words[:1].upper() + step.told_words[1:])}.[/]" if step.told_words else ""
        trace = f"  [dim]trace {step.trace_id}[/]" if step.trace_id else ""
        say(f"  [dim]{step.at:%a %d %b %Y}[/]  {escape(step.words)}{told}{trace}")


def pairings(
    programme: Annotated[str | None, typer.Option(help="Only of this programme.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state, such as formed.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """List pairings.

    [bold]Examples[/]

      viceversa pairings --state formed

      viceversa pairings --programme fresh-eyes --limit 1000 --json
    """
    query = {name: value for name, value in (("programme_id", programme), ("state", state)) if value}
    found: list[Any] = []
    with connections.service(data, "matcher") as matcher:
        for one in matcher.pages("/pairings", **query):
            found.append(one)
            if len(found) == limit:
                break
    if json:
        as_json(found)
    elif not found:
        say("No pairings yet: viceversa round compute PROGRAMME, then viceversa round publish ROUND")
    else:
        rows = [(one["pairing_id"], one["state"], one["origin"], one["proposed_at"], one["formed_at"]) for one in found]
        table("=id", "state", "origin", "proposed", "formed", rows=rows)


def _steps(
    data: Path, found: Mapping[str, Any], readers: Sequence[str], names: Mapping[str, str]
) -> "list[Step] | None":
    """None where the events cannot be read, which is said."""
    from cli.pairing_events import events_of  # with Kafka and all contracts, which no other command needs
    from cli.pairing_story import story

    reading = events_of(
        connections.connection(data), addresses(data).prefix, found["pairing_id"], list(dict.fromkeys(readers)), note
    )
    try:
        with waiting("Reading its events"):
            events = from_kafka(reading)
    except (Failure, LookupError) as error:
        complain(str(error), "What follows is what the matcher says of it.")
        return None
    return story(events, names)


def _show(found: Mapping[str, Any], names: Mapping[str, str], labels: Mapping[str, Any]) -> None:
    """``labels``: how the programme calls itself and its sides, by language."""
    called: Mapping[str, str] = labels.get("en") or next(iter(labels.values()), {})
    programme = called.get("name") or found["programme_id"]
    say(f"Pairing [bold]{found['pairing_id']}[/] of {escape(programme)} {_STATES[found['state']]}.")
    rows = [
        (called.get(one["side"]) or one["side"], names.get(one["member_id"], one["member_id"]), one["department_id"])
        for one in found["participants"]
    ]
    table("part", "who", "department", rows=rows)
    for side in ("senior", "junior"):
        if topics := [one["topic_id"] for one in found["focus"] if one["from_side"] == side]:
            say(f"  from the {escape(called.get(side) or side)}: {', '.join(topics)}")


def _names(data: Path, found: Mapping[str, Any]) -> dict[str, str]:
    """Of the two, as far as whoever asks may see them and they still exist."""
    with connections.service(data, "profiles") as profiles:
        names = Names(profiles)
        members = [one["member_id"] for one in found["participants"]]
        return {member: name for member in members if (name := names.known(member)) is not None}


def _settings(matcher: Api, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of its programme; empty where whoever asks may not see it."""
    try:
        return dict(matcher.get(f"/programmes/{found['programme_id']}")["settings"])
    except Failure:
        return {}
