"""`round`: match a cohort, review the result, and publish it."""

import time
from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import connections
from cli.api import ServiceClient
from cli.console import FAILED, CommandGroup, Failure, print_json, print_line, print_table, progress_bar
from cli.installation import DEFAULT_DATA, DataOption, JsonOption

app = typer.Typer(name="round", cls=CommandGroup, no_args_is_help=True)

RoundArgument = Annotated[str, typer.Argument(metavar="ROUND", help="The id of the round, as `round list` shows it.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the result.")]

_POLL_S = 0.2
_MAX_DEPARTMENTS = 12  # departments in the table


@app.callback()
def explain() -> None:
    """Compute, review, change and publish rounds of matching. Nobody is informed before a round is published.

    [bold]From people to proposals:[/]

      viceversa round compute PROGRAMME          # finds the best pairs for all ready people
      viceversa round show ROUND                 # shows pairs, unmatched people, and the reasons
      viceversa round forbid ROUND SENIOR JUNIOR # or lock, or swap
      viceversa round resolve ROUND              # applies the changes and shows their cost
      viceversa round publish ROUND              # asks everybody in the round
    """


@app.command()
def compute(
    programme: Annotated[
        str, typer.Argument(metavar="PROGRAMME", help="The id of the programme, as `programme list` shows it.")
    ],
    seed: Annotated[int, typer.Option(help="Decides between equally good matches.", min=0)] = 0,
    weights: Annotated[
        str | None, typer.Option(help="Run a trial with other weights, such as perspective=0,lower_benefit=6.")
    ] = None,
    trial: Annotated[
        Path | None,
        typer.Option(
            help="Run a trial with other settings: a JSON file with the changed parts of `rules` and `matching`."
        ),
    ] = None,
    no_wait: NoWaitOption = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Find the best pairs for all ready people at once. Nobody is informed yet.

    With --weights or --trial it is a trial: it can be reviewed and compared, but never published.

    [bold]Examples[/]

      viceversa round compute fresh-eyes

      viceversa round compute fresh-eyes --json | jq -r .round_id

      viceversa round compute fresh-eyes --weights perspective=0
    """
    changes = _build_trial(weights, trial)
    with connections.open_service(data, "matcher") as matcher:
        body = {"seed": seed, **({"trial": changes} if changes else {})}
        current = matcher.post(f"/programmes/{programme}/rounds", body)
        current = current if no_wait else await_round(matcher, current, ("computing",), "Matching")
    _print_result(current, json)
    if not json and current["state"] == "computed":
        print_line(f"\nReview it: viceversa round show {current['round_id']}")
        if current["trial"]:
            print_line(f"Compare it: viceversa round compare ROUND {current['round_id']}")
        else:
            print_line(f"Publish it: viceversa round publish {current['round_id']}")


@app.command("list")
def list_(
    programme: Annotated[str, typer.Argument(metavar="PROGRAMME")],
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """List the rounds of a programme.

    [bold]Example[/]

      viceversa round list fresh-eyes
    """
    with connections.open_service(data, "matcher") as matcher:
        rounds = list(matcher.list_items(f"/programmes/{programme}/rounds"))
    if json:
        print_json(rounds)
    elif not rounds:
        print_line(f"No rounds yet. Compute one: viceversa round compute {programme}")
    else:
        rows = [
            (item["round_id"], item["state"], item["pairs"], item["proposed"], item["started_at"]) for item in rounds
        ]
        print_table("=id", "state", ">pairs", ">proposed", "started", rows=rows)


@app.command()
def show(
    round_: RoundArgument,
    proposals: Annotated[int, typer.Option(help="Number of proposed pairs to show, best first.", min=0)] = 10,
    unmatched: Annotated[int, typer.Option(help="Number of unmatched people to show, with reasons.", min=0)] = 10,
    worst: Annotated[int, typer.Option(help="Number of pairs with the lowest fit to show, at most 20.", min=0)] = 5,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show a round for review: totals, departments, pairs with their reasons, and unmatched people with theirs.

    For each unmatched person it also shows which relaxed rule would help. Pairs with people of the coordinator's own
    reporting line are left out.

    [bold]Examples[/]

      viceversa round show 0192...

      viceversa round show 0192... --proposals 500 --json
    """
    with connections.open_service(data, "matcher") as matcher:
        summary = matcher.get(f"/rounds/{round_}/summary")
        changes = matcher.get(f"/rounds/{round_}/adjustments")
        pairs = _first_items(matcher, f"/rounds/{round_}/proposals", proposals)
        unmatched_people = _first_items(matcher, f"/rounds/{round_}/unmatched", unmatched)
    if json:
        print_json({**summary, "adjustments": changes, "proposals": pairs, "unmatched": unmatched_people})
        return
    _print_totals(summary)
    _print_departments(summary["coverage"])
    _print_pairs(pairs, "Pairs, best first")
    _print_pairs(summary["worst"][:worst], "Pairs with the lowest fit")
    _print_unmatched(summary, unmatched_people)
    _print_adjustments(changes)


@app.command()
def publish(
    round_: RoundArgument, no_wait: NoWaitOption = False, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Publish a round: everybody in it is asked. The hard rules are checked again for each pair.

    [bold]Example[/]

      viceversa round publish 0192...
    """
    with connections.open_service(data, "matcher") as matcher:
        current = matcher.post(f"/rounds/{round_}/publish")
        current = current if no_wait else await_round(matcher, current, ("publishing",), "Publishing")
    _print_result(current, json)


@app.command()
def discard(round_: RoundArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Discard a round, computed or not. Nobody is ever informed about it.

    [bold]Example[/]

      viceversa round discard 0192...
    """
    with connections.open_service(data, "matcher") as matcher:
        current = matcher.post(f"/rounds/{round_}/discard")
    _print_result(current, json)


@app.command()
def cancel(round_: RoundArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Stop computing a round. An earlier result becomes valid again; without one, the round is discarded.

    [bold]Example[/]

      viceversa round cancel 0192...
    """
    with connections.open_service(data, "matcher") as matcher:
        current = matcher.post(f"/rounds/{round_}/cancel")
    _print_result(current, json)


@app.command()
def resolve(
    round_: RoundArgument,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="Match again from the current data of everybody, then apply the changes."),
    ] = False,
    no_wait: NoWaitOption = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Solve a round again with the manual changes, and show the cost of each change.

    Only people around a change get other partners, so this is fast. --whole takes as long as the first computation.

    [bold]Example[/]

      viceversa round resolve 0192...
    """
    with connections.open_service(data, "matcher") as matcher:
        current = matcher.post(f"/rounds/{round_}/resolve", {"whole": whole})
        current = current if no_wait else await_round(matcher, current, ("computing",), "Matching again")
        changes = matcher.get(f"/rounds/{round_}/adjustments")
    if json:
        print_json({**current, "adjustments": changes})
    else:
        _print_totals(current)
        _print_adjustments(changes)
    if current["state"] == "failed":
        raise typer.Exit(FAILED)


@app.command()
def compare(
    round_: RoundArgument,
    other: Annotated[
        str, typer.Argument(metavar="OTHER", help="Another round of the same programme, usually a trial.")
    ],
    people: Annotated[int, typer.Option(help="Number of people with other partners to show, largest loss first.")] = 10,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show who gains and who loses in another round. The settings of the first round judge both.

    [bold]Example[/]

      viceversa round compare 0192... 0193... --people 50
    """
    with connections.open_service(data, "matcher") as matcher:
        path = f"/rounds/{round_}/compare/{other}"
        comparison = matcher.get(path, limit=1)
        items = _first_items(matcher, path, people)
    if json:
        print_json({**comparison, "items": items, "next": None})
        return
    rows = [
        ("pairs", *comparison["pairs"]),
        ("total fit by the first's settings", *(f"{item:.2f}" for item in comparison["total_fit"])),
        ("total fit by its own", *(f"{item:.2f}" for item in comparison["total_fit_as_computed"])),
        ("lowest fit by the first's settings", *(_format_fit(item) for item in comparison["lowest_fit"])),
    ]
    print_table("", ">first", ">other", rows=rows)
    print_line(
        f"{_count(comparison['pairs_in_common'], 'pair')} in both rounds. "
        f"{comparison['people_with_other_partners']} people have other partners: "
        f"{comparison['gain']} gain, {comparison['lose']} lose."
    )
    if items:
        print_line("")
        changed = [
            (
                item["member_id"],
                item["side"],
                f"{item['gain']:+.3f}",
                _format_ids(item["partners_before"]),
                _format_ids(item["partners_after"]),
            )
            for item in items
        ]
        print_table(
            "=member",
            "side",
            ">gain",
            "before",
            "after",
            rows=changed,
            title="People with other partners, largest loss first",
        )


def _build_trial(weights: str | None, trial: Path | None) -> dict[str, Any]:
    """The settings that a trial changes. Raises ``Failure`` for a bad list of weights or a bad settings file."""
    changes: dict[str, Any] = {}
    if trial is not None:
        try:
            changes = loads(trial.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Failure(f"{trial} cannot be read as JSON.", "See `viceversa round compute --help`.") from error
    if weights is not None:
        try:
            weights_by_name = {
                name.strip(): float(value) for name, value in (part.split("=") for part in weights.split(","))
            }
        except ValueError as error:
            raise Failure(
                f"{weights} is not a list of weights.", "Write it like perspective=0,lower_benefit=6."
            ) from error
        changes.setdefault("matching", {})["weights"] = weights_by_name
    return changes


def await_round(matcher: ServiceClient, started: Any, while_in: tuple[str, ...], what: str) -> Any:
    """Wait until the round has left these states, showing its progress, and return it."""
    with progress_bar() as progress:
        task = progress.add_task(what, total=None)
        current = started
        while current["state"] in while_in:
            stage = current["progress"]
            stalled = " (no progress for a minute; the machine may be busy)" if stage.get("stalled") else ""
            progress.update(
                task,
                description=f"{what}: {stage['stage']}{stalled}",
                total=stage["total"] or None,
                completed=stage["done"],
            )
            time.sleep(_POLL_S)
            current = matcher.get(f"/rounds/{started['round_id']}")
        return current


def _print_result(current: Any, json: bool) -> None:
    if json:
        print_json(current)
    else:
        _print_totals(current)
    if current["state"] == "failed":
        raise typer.Exit(FAILED)


def _print_totals(current: Any) -> None:
    trial = " It is a trial and cannot be published." if current.get("trial") else ""
    print_line(f"Round [bold]{current['round_id']}[/] is {current['state']}.{trial}")
    if current.get("why"):
        print_line(current["why"])
    print_line(
        f"{_count(current['seniors'], 'senior')} and {_count(current['juniors'], 'junior')}; "
        f"{_count(current['pairs'], 'pair')}, {current['proposed']} proposed, {current['withdrawn']} withdrawn; "
        f"without a partner: {_count(current['unmatched_seniors'], 'senior')}, "
        f"{_count(current['unmatched_juniors'], 'junior')}."
    )
    if current["pairs"]:
        share = f", {current['total_fit'] / current['optimum']:.1%} of the best possible" if current["optimum"] else ""
        print_line(
            f"Total fit {current['total_fit']:.2f}{share}; lowest fit of a pair {_format_fit(current['lowest_fit'])}."
        )
    if current["unresolved"]:
        print_line(f"{current['unresolved']} manual changes are pending: viceversa round resolve {current['round_id']}")


def _print_departments(coverage: list[Any]) -> None:
    """Print the departments with the smallest share of paired people first."""
    if coverage:
        print_line("")
        ordered = sorted(coverage, key=lambda row: (row["matched"] / max(1, row["people"]), row["department_id"]))
        rows = [
            (row["department_id"], row["side"], row["people"], row["matched"], f"{row['matched'] / row['people']:.0%}")
            for row in ordered[:_MAX_DEPARTMENTS]
        ]
        title = "Departments, smallest share first" + (
            f" ({_MAX_DEPARTMENTS} of {len(ordered)})" if len(ordered) > _MAX_DEPARTMENTS else ""
        )
        print_table("department", "side", ">people", ">paired", ">share", rows=rows, title=title)


def _print_pairs(pairs: list[Any], title: str) -> None:
    if pairs:
        print_line("")
        rows = [[f"{pair['fit']['score']:.2f}", *_pair_cells(pair), pair["state"]] for pair in pairs]
        print_table(">fit", "senior", "junior", "about", "state", rows=rows, title=title)


def _print_unmatched(summary: Any, unmatched_people: list[Any]) -> None:
    if summary["reasons"]:
        print_line("")
        rows = [(item["people"], item["side"], item["code"]) for item in summary["reasons"]]
        print_table(">people", "side", "reason", rows=rows, title="Unmatched people, by reason")
    if summary["relaxations"]:
        print_line("")
        relaxations = [(item["people"], item["text"]) for item in summary["relaxations"]]
        print_table(">people", "change of a rule", rows=relaxations, title="What would give them a partner")
    if unmatched_people:
        print_line("")
        people = [
            (
                item["member_id"],
                item["side"],
                item["department_id"],
                item["text"],
                (item["relaxation"] or {}).get("text"),
            )
            for item in unmatched_people
        ]
        print_table(
            "=member",
            "side",
            "department",
            "reason",
            "what would help",
            rows=people,
            title="Unmatched people",
        )


def _print_adjustments(changes: list[Any]) -> None:
    if changes:
        print_line("")
        rows = [
            (
                change["adjustment_id"],
                change["kind"],
                " ".join(" + ".join(pair) for pair in change["pairs"]),
                change["text"],
            )
            for change in changes
        ]
        print_table("=change", "kind", "pairs", "result", rows=rows, title="Manual changes")


def _format_fit(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _format_ids(members: list[str]) -> str:
    return ", ".join(member[-8:] for member in members) or "-"


def _first_items(matcher: ServiceClient, path: str, number: int) -> list[Any]:
    items: list[Any] = []
    if number:
        for item in matcher.list_items(path):
            items.append(item)
            if len(items) == number:
                break
    return items


def _pair_cells(pair: Any) -> list[str]:
    return [
        _person_cell(pair["senior"]),
        _person_cell(pair["junior"]),
        ", ".join(focus["name"] for focus in pair["focus"]),
    ]


def _person_cell(person: Any) -> str:
    return f"{person['member_id'][-8:]} {person['department_id']}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
