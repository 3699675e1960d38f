"""`care`: the tasks of a coordinator for this week, on one screen."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from cli import conflicts, connections
from cli.console import print_json, print_line, print_table, spinner
from cli.formatting import FACT_TEXTS, format_day, format_last_day, join_words
from cli.installation import DEFAULT_DATA, DataOption, JsonOption
from cli.member_names import MemberNames
from cli.programmes import ProgrammeArgument

_MAX_FREE = 200
"""The matcher lists at most this many people at once."""


def register(app: typer.Typer) -> None:
    app.command()(care)


def care(
    programme: ProgrammeArgument,
    limit: Annotated[int, typer.Option(help="Show at most this many items of each kind.", min=1)] = 10,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show a coordinator's Monday list: pairs that may need help, open decisions, pending answers, waiting people,
    and people whom no mail reaches.

    Pairs that may need help are found by facts alone: no meeting planned or held in time, nothing planned for two
    weeks, or two meetings in a row cancelled or missed. Answers in check-ins are never used. The list does not show
    which of the two has not answered a proposal yet. Pairs of your own reporting line are left out; another coordinator
    sees them.

    [bold]Examples[/]

      viceversa care fresh-eyes

      viceversa care fresh-eyes --json | jq -r '.would_like_help[].pairing_id'

      viceversa pairing ID                 # the history of a pairing
    """
    with (
        spinner("Reading the lists"),
        connections.open_service(data, "feedback") as feedback,
        connections.open_service(data, "matcher") as matcher,
        connections.open_service(data, "notifier") as notifier,
    ):
        pairs = list(feedback.list_items(f"/programmes/{programme}/care", help_wanted="true"))
        proposed = matcher.list_items("/pairings", programme_id=programme, state="proposed")
        due = sorted(proposed, key=lambda pairing: str(pairing["answer_by"]))
        conflicts_ = list(matcher.list_items(f"/programmes/{programme}/conflicts"))
        free = matcher.get(f"/programmes/{programme}/free", limit=_MAX_FREE)["items"]
        unreachable = notifier.get(f"/programmes/{programme}/unreachable")["items"]
    if json:
        sections = {
            "would_like_help": pairs,
            "conflicts": conflicts_,
            "answers_due": due,
            "waiting": free,
            "unreachable": unreachable,
        }
        print_json({"programme_id": programme, **sections})
        return
    with connections.open_service(data, "profiles") as profiles:
        names = MemberNames(profiles)
        print_care(pairs, conflicts_, due, free, limit, names)
        print_unreachable(unreachable, limit, names)


def print_care(
    pairs: Sequence[Mapping[str, Any]],
    conflicts_: Sequence[Mapping[str, Any]],
    due: Sequence[Mapping[str, Any]],
    free: Sequence[Mapping[str, Any]],
    limit: int,
    names: MemberNames,
) -> None:
    _print_heading("Pairs that may need help", pairs, limit)
    if pairs:
        rows = [
            (
                names.join(item["members"][side] for side in ("senior", "junior")),
                join_words([FACT_TEXTS[fact] for fact in item["facts"]]),
                item["sessions_held"],
                item["pairing_id"],
            )
            for item in islice(pairs, limit)
        ]
        print_table("  who", "why", ">met", "=pairing", rows=rows)
    _print_heading("Pairs that break a rule after a change in the organisation", conflicts_, limit)
    if conflicts_:
        conflicts.print_conflicts(conflicts_[:limit], names)
        print_line("\n  Decide about a pair: viceversa conflict ID keep, or end")
    _print_heading("Pairs whose answers are pending", due, limit)
    if due:
        rows_due = [
            (
                names.join(person["member_id"] for person in item["participants"]),
                format_last_day(datetime.fromisoformat(item["answer_by"])),
                item["pairing_id"],
            )
            for item in islice(due, limit)
        ]
        print_table("  who", "until", "=pairing", rows=rows_due)
    _print_heading("People who wait for a partner, longest wait first", free, limit)
    if free:
        rows_free = [
            (
                names.name_or_id(item["member_id"]),
                item["side"],
                item["department_id"],
                item["days_waiting"],
                item["places"],
            )
            for item in islice(free, limit)
        ]
        print_table("  who", "side", "department", ">days", ">places", rows=rows_free)
        print_line("\n  Find partners: viceversa round compute PROGRAMME, or the matcher's suggestions (see its API).")


def print_unreachable(unreachable: Sequence[Mapping[str, Any]], limit: int, names: MemberNames) -> None:
    """People whose mail came back: no more mail goes to them until HR changes the address."""
    _print_heading("People whom no mail reaches", unreachable, limit)
    if unreachable:
        rows = [
            (names.name_or_id(item["member_id"]), format_day(datetime.fromisoformat(item["since"])), item["status"])
            for item in islice(unreachable, limit)
        ]
        print_table("  who", "since", "code", rows=rows)
        print_line("\n  Messages wait in their inbox. Mail goes out again when HR's file has another address.")


def _print_heading(title: str, items: Sequence[Any], limit: int) -> None:
    more = " or more" if len(items) == _MAX_FREE else ""
    hint = f" [dim](first {limit} shown; --limit shows more)[/]" if len(items) > limit else ""
    print_line(f"\n[bold]{title}: {len(items)}{more}[/]{hint}")
