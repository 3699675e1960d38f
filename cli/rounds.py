"""`round`: a cohort is matched, reviewed by a person, and published."""

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

RoundArgument = Annotated[str, typer.Argument(metavar="ROUND", help="Its id, as `round list` shows it.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done.")]

_POLL_S = 0.2
_MAX_DEPARTMENTS = 12  # departments that are shown


@app.callback()
def explain() -> None:
    """Compute, review, change and publish rounds of matching. Nobody hears of a round before it is published.

    [bold]From people to proposals:[/]

      viceversa round compute PROGRAMME          # the best pairs for everybody who is ready
      viceversa round show ROUND                 # who is paired, who is not, and why
      viceversa round forbid ROUND SENIOR JUNIOR # or lock, or swap
      viceversa round resolve ROUND              # with these changes, and what they cost
      viceversa round publish ROUND              # everybody in it is asked
    """


@app.command()
def compute(
    programme: Annotated[str, typer.Argument(metavar="PROGRAMME", help="Its id, as `programme list` shows it.")],
    seed: Annotated[int, typer.Option(help="Decides between matches that are equally good.", min=0)] = 0,
    weights: Annotated[
        str | None, typer.Option(help="A trial with other weights, such as perspective=0,lower_benefit=6.")
    ] = None,
    trial: Annotated[
        Path | None,
        typer.Option(
            help="A trial with other settings: a JSON file with `rules` and `matching`, as far as they differ."
        ),
    ] = None,
    no_wait: NoWaitOption = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Find the best pairs for everybody who is ready, all at once. Nothing is told to anyone yet.

    With --weights or --trial it is a what-if: to be looked at and compared, never published.

    [bold]Examples[/]

      viceversa round compute fresh-eyes

      viceversa round compute fresh-eyes --json | jq -r .round_id

      viceversa round compute fresh-eyes --weights perspective=0
    """
    changes = _build_trial(weights, trial)
    with connections.open_service(data, "matcher") as matcher:
        body = {"seed": seed, **({"trial": changes} if changes else {})}
        found = matcher.post(f"/programmes/{programme}/rounds", body)
        found = found if no_wait else await_round(matcher, found, ("computing",), "Matching")
    _print_result(found, json)
    if not json and found["state"] == "computed":
        print_line(f"\nLook at it: viceversa round show {found['round_id']}")
        if found["trial"]:
            print_line(f"Compare it: viceversa round compare ROUND {found['round_id']}")
        else:
            print_line(f"Release it: viceversa round publish {found['round_id']}")


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
        found = list(matcher.list_items(f"/programmes/{programme}/rounds"))
    if json:
        print_json(found)
    elif not found:
        print_line(f"No rounds yet: viceversa round compute {programme}")
    else:
        rows = [(one["round_id"], one["state"], one["pairs"], one["proposed"], one["started_at"]) for one in found]
        print_table("=id", "state", ">pairs", ">proposed", "started", rows=rows)


@app.command()
def show(
    round_: RoundArgument,
    proposals: Annotated[int, typer.Option(help="How many of the proposed pairs, the best first.", min=0)] = 10,
    unmatched: Annotated[int, typer.Option(help="How many of those who are left over, and why.", min=0)] = 10,
    worst: Annotated[int, typer.Option(help="How many of the pairs with the lowest fit, 20 at most.", min=0)] = 5,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show a round for review: totals, departments, pairs with their reasons, and who is left over and why.

    What one rule relaxed by how much would change is told beside it. Pairs in which the coordinator's own line takes
    part are left out.

    [bold]Examples[/]

      viceversa round show 0192...

      viceversa round show 0192... --proposals 500 --json
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.get(f"/rounds/{round_}/summary")
        changes = matcher.get(f"/rounds/{round_}/adjustments")
        pairs = _first_items(matcher, f"/rounds/{round_}/proposals", proposals)
        left = _first_items(matcher, f"/rounds/{round_}/unmatched", unmatched)
    if json:
        print_json({**found, "adjustments": changes, "proposals": pairs, "unmatched": left})
        return
    _print_totals(found)
    _print_departments(found["coverage"])
    _print_pairs(pairs, "Pairs, the best first")
    _print_pairs(found["worst"][:worst], "Pairs with the lowest fit")
    _print_unmatched(found, left)
    _print_adjustments(changes)


@app.command()
def publish(
    round_: RoundArgument, no_wait: NoWaitOption = False, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Release a round: everybody in it is asked. The hard rules are checked once more for each pair.

    [bold]Example[/]

      viceversa round publish 0192...
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/rounds/{round_}/publish")
        found = found if no_wait else await_round(matcher, found, ("publishing",), "Publishing")
    _print_result(found, json)


@app.command()
def discard(round_: RoundArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Throw a round away, computed or not. Nobody has heard of it, and nobody will.

    [bold]Example[/]

      viceversa round discard 0192...
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/rounds/{round_}/discard")
    _print_result(found, json)


@app.command()
def cancel(round_: RoundArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Stop computing a round. If it was computed before, that result stands again; otherwise it is discarded.

    [bold]Example[/]

      viceversa round cancel 0192...
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/rounds/{round_}/cancel")
    _print_result(found, json)


@app.command()
def resolve(
    round_: RoundArgument,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="Begin anew, from what everybody has entered by now, then apply the changes."),
    ] = False,
    no_wait: NoWaitOption = False,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Solve a round again with what was changed by hand, and show what each change costs.

    Only the people around a change move, so this takes a moment; --whole takes as long as the first time.

    [bold]Example[/]

      viceversa round resolve 0192...
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/rounds/{round_}/resolve", {"whole": whole})
        found = found if no_wait else await_round(matcher, found, ("computing",), "Matching again")
        changes = matcher.get(f"/rounds/{round_}/adjustments")
    if json:
        print_json({**found, "adjustments": changes})
    else:
        _print_totals(found)
        _print_adjustments(changes)
    if found["state"] == "failed":
        raise typer.Exit(FAILED)


@app.command()
def compare(
    round_: RoundArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another round of the same programme, often a trial.")],
    people: Annotated[int, typer.Option(help="How many of those who have other partners, who loses most first.")] = 10,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Tell who gains and who loses in another round, both judged by the settings of the first.

    [bold]Example[/]

      viceversa round compare 0192... 0193... --people 50
    """
    with connections.open_service(data, "matcher") as matcher:
        path = f"/rounds/{round_}/compare/{other}"
        found = matcher.get(path, limit=1)
        items = _first_items(matcher, path, people)
    if json:
        print_json({**found, "items": items, "next": None})
        return
    rows = [
        ("pairs", *found["pairs"]),
        ("total fit by the first's settings", *(f"{one:.2f}" for one in found["total_fit"])),
        ("total fit by its own", *(f"{one:.2f}" for one in found["total_fit_as_computed"])),
        ("lowest fit by the first's settings", *(_format_fit(one) for one in found["lowest_fit"])),
    ]
    print_table("", ">first", ">other", rows=rows)
    print_line(
        f"{_count(found['pairs_in_common'], 'pair')} in both; {found['people_with_other_partners']} people with others"
        f": {found['gain']} gain, {found['lose']} lose."
    )
    if items:
        print_line("")
        changed = [
            (
                one["member_id"],
                one["side"],
                f"{one['gain']:+.3f}",
                _format_ids(one["partners_before"]),
                _format_ids(one["partners_after"]),
            )
            for one in items
        ]
        print_table("=member", "side", ">gain", "before", "after", rows=changed, title="Who loses most first")


def _build_trial(weights: str | None, trial: Path | None) -> dict[str, Any]:
    """What a trial changes. Raises ``Failure`` for what is no list of weights, or no file of settings."""
    changes: dict[str, Any] = {}
    if trial is not None:
        try:
            changes = loads(trial.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Failure(f"{trial} cannot be read as JSON.", "See `viceversa round compute --help`.") from error
    if weights is not None:
        try:
            found = {name.strip(): float(value) for name, value in (one.split("=") for one in weights.split(","))}
        except ValueError as error:
            raise Failure(
                f"{weights} is no list of weights.", "Write them as perspective=0,lower_benefit=6."
            ) from error
        changes.setdefault("matching", {})["weights"] = found
    return changes


def await_round(matcher: ServiceClient, begun: Any, while_in: tuple[str, ...], what: str) -> Any:
    """The round once it has left these states, with its progress shown."""
    with progress_bar() as progress:
        task = progress.add_task(what, total=None)
        current = begun
        while current["state"] in while_in:
            stage = current["progress"]
            progress.update(
                task, description=f"{what}: {stage['stage']}", total=stage["total"] or None, completed=stage["done"]
            )
            time.sleep(_POLL_S)
            current = matcher.get(f"/rounds/{begun['round_id']}")
        return current


def _print_result(found: Any, json: bool) -> None:
    if json:
        print_json(found)
    else:
        _print_totals(found)
    if found["state"] == "failed":
        raise typer.Exit(FAILED)


def _print_totals(found: Any) -> None:
    trial = " It is a trial, never to be published." if found.get("trial") else ""
    print_line(f"Round [bold]{found['round_id']}[/] is {found['state']}.{trial}")
    if found.get("why"):
        print_line(found["why"])
    print_line(
        f"{_count(found['seniors'], 'senior')} and {_count(found['juniors'], 'junior')}; "
        f"{_count(found['pairs'], 'pair')}, {found['proposed']} proposed, {found['withdrawn']} withdrawn; "
        f"left over: {_count(found['unmatched_seniors'], 'senior')}, {_count(found['unmatched_juniors'], 'junior')}."
    )
    if found["pairs"]:
        most = f", {found['total_fit'] / found['optimum']:.1%} of the greatest possible" if found["optimum"] else ""
        print_line(
            f"Total fit {found['total_fit']:.2f}{most}; the lowest of a pair {_format_fit(found['lowest_fit'])}."
        )
    if found["unresolved"]:
        print_line(f"{found['unresolved']} changes by hand wait for: viceversa round resolve {found['round_id']}")


def _print_departments(coverage: list[Any]) -> None:
    """Those that are covered least first."""
    if coverage:
        print_line("")
        ordered = sorted(coverage, key=lambda one: (one["matched"] / max(1, one["people"]), one["department_id"]))
        rows = [
            (one["department_id"], one["side"], one["people"], one["matched"], f"{one['matched'] / one['people']:.0%}")
            for one in ordered[:_MAX_DEPARTMENTS]
        ]
        title = "Departments, the least covered first" + (
            f" ({_MAX_DEPARTMENTS} of {len(ordered)})" if len(ordered) > _MAX_DEPARTMENTS else ""
        )
        print_table("department", "side", ">people", ">paired", ">share", rows=rows, title=title)


def _print_pairs(pairs: list[Any], title: str) -> None:
    if pairs:
        print_line("")
        rows = [[f"{one['fit']['score']:.2f}", *_pair_cells(one), one["state"]] for one in pairs]
        print_table(">fit", "senior", "junior", "about", "state", rows=rows, title=title)


def _print_unmatched(found: Any, left: list[Any]) -> None:
    if found["reasons"]:
        print_line("")
        rows = [(one["people"], one["side"], one["code"]) for one in found["reasons"]]
        print_table(">people", "side", "reason", rows=rows, title="Left over, by reason")
    if found["relaxations"]:
        print_line("")
        eased = [(one["people"], one["text"]) for one in found["relaxations"]]
        print_table(">people", "each by themselves, with", rows=eased, title="What would give them a partner")
    if left:
        print_line("")
        people = [
            (one["member_id"], one["side"], one["department_id"], one["text"], (one["relaxation"] or {}).get("text"))
            for one in left
        ]
        print_table(
            "=member",
            "side",
            "department",
            "why there is nobody yet",
            "what would help",
            rows=people,
            title="Left over",
        )


def _print_adjustments(changes: list[Any]) -> None:
    if changes:
        print_line("")
        rows = [
            (one["adjustment_id"], one["kind"], " ".join(" + ".join(pair) for pair in one["pairs"]), one["text"])
            for one in changes
        ]
        print_table("=change", "kind", "pairs", "what became of it", rows=rows, title="Changed by hand")


def _format_fit(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _format_ids(members: list[str]) -> str:
    return ", ".join(member[-8:] for member in members) or "-"


def _first_items(matcher: ServiceClient, path: str, number: int) -> list[Any]:
    found: list[Any] = []
    if number:
        for one in matcher.list_items(path):
            found.append(one)
            if len(found) == number:
                break
    return found


def _pair_cells(one: Any) -> list[str]:
    return [
        _person_cell(one["senior"]),
        _person_cell(one["junior"]),
        ", ".join(focus["name"] for focus in one["focus"]),
    ]


def _person_cell(one: Any) -> str:
    return f"{one['member_id'][-8:]} {one['department_id']}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
