"""`learning`: what outcomes say about a programme's weights, and releasing it. Nothing changes but by a person."""

import time
from typing import Annotated, Any

import typer

from cli import connections
from cli.api import ServiceClient
from cli.console import FAILED, CommandGroup, print_json, print_line, print_table, progress_bar
from cli.installation import DEFAULT_DATA, DataOption, JsonOption

app = typer.Typer(name="learning", cls=CommandGroup, no_args_is_help=True)

ProgrammeArgument = Annotated[str, typer.Argument(metavar="PROGRAMME", help="Its id, as `programme list` shows it.")]
VersionArgument = Annotated[int, typer.Argument(metavar="VERSION", help="Its number, as `learning show` shows it.")]
UndoArgument = Annotated[
    int, typer.Argument(metavar="VERSION", help="Its number; an earlier one, or 0 for the weights before any learning.")
]

_POLL_S = 0.2
_WEIGHT_TEXTS = {
    "lower_benefit": "what the side that gains less gains",
    "higher_benefit": "what the other side gains",
    "compatibility": "how easily they get on",
    "perspective": "how different their views are",
}


@app.callback()
def explain() -> None:
    """Let the outcomes of pairings speak about the weights of the fit. It proposes; a person releases.

    Off by default: the setting matching.learning of the programme switches it on, and from then on outcomes are kept
    as numbers, without the people. From 30 outcomes on, a version is proposed when what they say is clear.

    [bold]From a proposal to its use, and back[/]

      viceversa learning show PROGRAMME

      viceversa learning preview PROGRAMME 1     # who would be matched differently

      viceversa learning release PROGRAMME 1

      viceversa learning release PROGRAMME 0     # undo: the weights before any learning
    """


@app.command()
def show(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Show the weights in use, where the outcomes point, and every version.

    Evidence comes in by batches of at least five outcomes, so that nothing here tells of one pairing.

    [bold]Examples[/]

      viceversa learning show fresh-eyes

      viceversa learning show fresh-eyes --json | jq .latest
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.get(f"/programmes/{programme}/learning")
    _print_learning(found, json)


@app.command()
def propose(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Compute now what all outcomes say, instead of at the next midnight. Refused until enough of them are new.

    A version is proposed only when its gain is beyond what chance would often show.

    [bold]Example[/]

      viceversa learning propose fresh-eyes
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/programmes/{programme}/learning/proposals")
    _print_learning(found, json)


@app.command()
def preview(
    programme: ProgrammeArgument, version: VersionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Match everybody who is free with the weights in use and with these, as two trials. Nobody is asked.

    A version can be released only after this. Who would have another partner: round compare, with the two trials.

    [bold]Examples[/]

      viceversa learning preview fresh-eyes 1

      viceversa learning preview fresh-eyes 1 --json | jq .gain
    """
    place = f"/programmes/{programme}/learning/{version}/preview"
    with connections.open_service(data, "matcher") as matcher:
        matcher.post(place)
        seen = _await_preview(matcher, place)
        compared = matcher.get(seen["compare"], limit=1) if seen["state"] == "computed" else None
    if json:
        print_json(seen)
    elif compared is None:
        print_line("It cannot be computed; the matcher's log says more.")
    else:
        _print_preview(programme, seen, compared)
    if compared is None:
        raise typer.Exit(FAILED)


@app.command()
def release(
    programme: ProgrammeArgument, version: UndoArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Use the weights of a version from now on, as a new version of the programme's settings. Undo by an earlier one.

    Running pairings and rounds that are computed already keep theirs.

    [bold]Examples[/]

      viceversa learning release fresh-eyes 2

      viceversa learning release fresh-eyes 1

      viceversa learning release fresh-eyes 0
    """
    _post_decision(data, programme, version, "release", json)


@app.command()
def dismiss(
    programme: ProgrammeArgument, version: VersionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Decide against a proposed version. The evidence stays, and a later batch may propose another.

    [bold]Example[/]

      viceversa learning dismiss fresh-eyes 2
    """
    _post_decision(data, programme, version, "dismiss", json)


def _post_decision(data: Any, programme: str, version: int, verb: str, json: bool) -> None:
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/programmes/{programme}/learning/{version}/{verb}")
    _print_learning(found, json)


def _print_learning(found: Any, json: bool) -> None:
    if json:
        print_json(found)
        return
    state = "on" if found["learning"] else "off"
    print_line(f"Learning of [bold]{found['programme_id']}[/] is {state}. {_describe_weights_in_use(found)}")
    print_line(f"{found['outcomes']} outcomes are in, of {found['enough']} that it needs.")
    if found["latest"] is not None:
        print_line("")
        _print_estimate(found["weights"], found["latest"])
    if found["versions"]:
        print_line("")
        _print_versions(found["programme_id"], found["versions"])


def _print_estimate(weights: Any, latest: Any) -> None:
    whole = sum(weights.values())
    rows = [
        (
            _WEIGHT_TEXTS[part],
            f"{weights[part] / whole:.2f}",
            f"{one['share']:.2f}",
            f"{one['low']:.2f} to {one['high']:.2f}",
        )
        for part, one in latest["points_to"].items()
    ]
    print_table("weight", ">in use", ">outcomes point to", ">nine in ten", rows=rows, title="Shares of the whole")
    if not latest["clear"]:
        print_line("That is no clear gain over the weights in use: nothing to change.")


def _print_versions(programme: str, versions: list[Any]) -> None:
    rows = [
        (
            one["version"],
            one["state"],
            one["estimate"]["outcomes"],
            _format_gain(one["estimate"]["gain"]),
            one["made_at"],
        )
        for one in versions
    ]
    print_table("=version", "state", ">outcomes", ">gain", "made", rows=rows, title="Versions")
    if versions[0]["state"] == "proposed":
        print_line(
            f"\nWho would be matched differently: viceversa learning preview {programme} {versions[0]['version']}"
        )


def _print_preview(programme: str, seen: Any, compared: Any) -> None:
    print_line(
        f"Of those who are free now: {seen['pairs_now']} pairs with the weights in use, {seen['pairs_then']} with "
        f"these, {compared['pairs_in_common']} the same; {compared['people_with_other_partners']} people would have "
        "somebody else."
    )
    if seen["gain"] is not None:
        print_line(f"Their mean outcome, from 0 to 1, is expected to change by {_format_gain(seen['gain'])}.")
    else:
        print_line("Nobody who is free would be matched, so what it changes shows in a later round.")
    print_line(f"\nWho: viceversa round compare {seen['now']} {seen['then']}")
    print_line(f"Use these weights: viceversa learning release {programme} {seen['version']}")


def _await_preview(matcher: ServiceClient, place: str) -> Any:
    with progress_bar() as progress:
        progress.add_task("Matching with both", total=None)
        while True:
            seen = matcher.get(place)
            if seen["state"] != "computing":
                return seen
            time.sleep(_POLL_S)


def _describe_weights_in_use(found: Any) -> str:
    if found["in_use"] is None:
        return "The weights in use were set by a person since."
    return f"Version {found['in_use']} is in use." if found["in_use"] else "The weights in use come from no learning."


def _format_gain(gain: Any) -> str:
    return f"{gain['by']:+.3f} ± {gain['noise']:.3f}"
