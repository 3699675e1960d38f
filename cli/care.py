"""`care`: what waits for a coordinator this week, on one screen."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from cli import conflicts, connections
from cli.console import print_json, print_line, print_table, spinner
from cli.formatting import FACT_TEXTS, format_day, join_words
from cli.installation import DEFAULT_DATA, DataOption, JsonOption
from cli.member_names import MemberNames
from cli.programmes import ProgrammeArgument

_MAX_FREE = 200
"""The matcher tells of no more at once."""


def register(app: typer.Typer) -> None:
    app.command()(care)


def care(
    programme: ProgrammeArgument,
    limit: Annotated[int, typer.Option(help="Of each kind, show at most so many.", min=1)] = 10,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show a coordinator's Monday: who would like some help, what is to be decided, which answers are due, who waits.

    Pairs that would like some help are found by facts alone: no meeting planned or held in time, nothing planned for
    two weeks, two in a row called off or missed. What anybody answered in a check-in plays no part, and who of a pair
    has not answered a proposal yet is not shown. Pairs of your own line are left out; somebody else looks after those.

    [bold]Examples[/]

      viceversa care fresh-eyes

      viceversa care fresh-eyes --json | jq -r '.would_like_help[].pairing_id'

      viceversa pairing ID                 # what happened so far
    """
    with (
        spinner("Looking"),
        connections.open_service(data, "feedback") as feedback,
        connections.open_service(data, "matcher") as matcher,
    ):
        pairs = list(feedback.list_items(f"/programmes/{programme}/care", help_wanted="true"))
        asked = matcher.list_items("/pairings", programme_id=programme, state="proposed")
        due = sorted(asked, key=lambda one: str(one["answer_by"]))
        clashes = list(matcher.list_items(f"/programmes/{programme}/conflicts"))
        free = matcher.get(f"/programmes/{programme}/free", limit=_MAX_FREE)["items"]
    if json:
        told = {"would_like_help": pairs, "conflicts": clashes, "answers_due": due, "waiting": free}
        print_json({"programme_id": programme, **told})
        return
    with connections.open_service(data, "profiles") as profiles:
        print_care(pairs, clashes, due, free, limit, MemberNames(profiles))


def print_care(
    pairs: Sequence[Mapping[str, Any]],
    clashes: Sequence[Mapping[str, Any]],
    due: Sequence[Mapping[str, Any]],
    free: Sequence[Mapping[str, Any]],
    limit: int,
    names: MemberNames,
) -> None:
    _print_heading("Pairs that would like some help", pairs, limit)
    if pairs:
        rows = [
            (
                names.join(one["members"][side] for side in ("senior", "junior")),
                join_words([FACT_TEXTS[fact] for fact in one["facts"]]),
                one["sessions_held"],
                one["pairing_id"],
            )
            for one in islice(pairs, limit)
        ]
        print_table("  who", "why", ">met", "=pairing", rows=rows)
    _print_heading("Pairs that break a rule since the organisation has changed", clashes, limit)
    if clashes:
        conflicts.print_conflicts(clashes[:limit], names)
        print_line("\n  Decide about one: viceversa conflict ID keep, or end")
    _print_heading("Pairs that were asked and may still answer", due, limit)
    if due:
        rows_due = [
            (
                names.join(person["member_id"] for person in one["participants"]),
                format_day(datetime.fromisoformat(one["answer_by"])),
                one["pairing_id"],
            )
            for one in islice(due, limit)
        ]
        print_table("  who", "until", "=pairing", rows=rows_due)
    _print_heading("People who wait for a partner, the longest first", free, limit)
    if free:
        rows_free = [
            (names.name_or_id(one["member_id"]), one["side"], one["department_id"], one["days_waiting"], one["places"])
            for one in islice(free, limit)
        ]
        print_table("  who", "side", "department", ">days", ">places", rows=rows_free)
        print_line(
            "\n  Who could go together: viceversa round compute PROGRAMME, or the matcher's suggestions (see its API)."
        )


def _print_heading(title: str, found: Sequence[Any], limit: int) -> None:
    more = " or more" if len(found) == _MAX_FREE else ""
    shown = f" [dim](the first {limit} are shown; --limit shows more)[/]" if len(found) > limit else ""
    print_line(f"\n[bold]{title}: {len(found)}{more}[/]{shown}")
