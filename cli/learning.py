"""`learning`: the weights of a programme that its outcomes suggest. Only a person can release new weights."""

import time
from typing import Annotated, Any

import typer

from cli import connections
from cli.api import ServiceClient
from cli.console import FAILED, CommandGroup, print_json, print_line, print_table, progress_bar
from cli.installation import DEFAULT_DATA, DataOption, JsonOption

app = typer.Typer(name="learning", cls=CommandGroup, no_args_is_help=True)

ProgrammeArgument = Annotated[
    str, typer.Argument(metavar="PROGRAMME", help="The id of the programme, as `programme list` shows it.")
]
VersionArgument = Annotated[
    int, typer.Argument(metavar="VERSION", help="The number of the version, as `learning show` shows it.")
]
UndoArgument = Annotated[
    int, typer.Argument(metavar="VERSION", help="The number of the version, or 0 for the weights before any learning.")
]

_POLL_S = 0.2
_WEIGHT_TEXTS = {
    "lower_benefit": "the benefit of the side that gains less",
    "higher_benefit": "the benefit of the side that gains more",
    "compatibility": "how easily they get on",
    "perspective": "how different their views are",
}


@app.callback()
def explain() -> None:
    """Learn the weights of the fit from the outcomes of pairings. The matcher proposes, a person releases.

    Learning is off by default. The programme's setting matching.learning switches it on; from then on, outcomes are
    stored as numbers, without the people. From 30 outcomes on, a version is proposed when the evidence is clear.

    [bold]From a proposal to its use, and back[/]

      viceversa learning show PROGRAMME

      viceversa learning preview PROGRAMME 1     # shows who would be matched differently

      viceversa learning release PROGRAMME 1

      viceversa learning release PROGRAMME 0     # undo: uses the weights before any learning
    """


@app.command()
def show(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Show the weights in use, the weights that the outcomes suggest, and every version.

    Outcomes arrive in batches of at least five, so that nothing here reveals a single pairing.

    [bold]Examples[/]

      viceversa learning show fresh-eyes

      viceversa learning show fresh-eyes --json | jq .latest
    """
    with connections.open_service(data, "matcher") as matcher:
        learning = matcher.get(f"/programmes/{programme}/learning")
    _print_learning(learning, json)


@app.command()
def propose(programme: ProgrammeArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Estimate the weights from all outcomes now, instead of at the next midnight. Refused without enough new ones.

    A version is proposed only when its gain is larger than chance would often produce.

    [bold]Example[/]

      viceversa learning propose fresh-eyes
    """
    with connections.open_service(data, "matcher") as matcher:
        learning = matcher.post(f"/programmes/{programme}/learning/proposals")
    _print_learning(learning, json)


@app.command()
def preview(
    programme: ProgrammeArgument, version: VersionArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Match all free people twice, with the weights in use and with this version, as two trials. Nobody is asked.

    A version can be released only after its preview. `round compare` with the two trials shows who would have another
    partner.

    [bold]Examples[/]

      viceversa learning preview fresh-eyes 1

      viceversa learning preview fresh-eyes 1 --json | jq .gain
    """
    path = f"/programmes/{programme}/learning/{version}/preview"
    with connections.open_service(data, "matcher") as matcher:
        matcher.post(path)
        current = _await_preview(matcher, path)
        comparison = matcher.get(current["compare"], limit=1) if current["state"] == "computed" else None
    if json:
        print_json(current)
    elif comparison is None:
        print_line("The preview could not be computed. See the matcher's log.")
    else:
        _print_preview(programme, current, comparison)
    if comparison is None:
        raise typer.Exit(FAILED)


@app.command()
def release(
    programme: ProgrammeArgument, version: UndoArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Use the weights of a version from now on, as a new version of the programme's settings.

    To undo, release an earlier version. Running pairings and computed rounds keep their weights.

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
    """Reject a proposed version. The evidence stays, and a later batch may propose another version.

    [bold]Example[/]

      viceversa learning dismiss fresh-eyes 2
    """
    _post_decision(data, programme, version, "dismiss", json)


def _post_decision(data: Any, programme: str, version: int, verb: str, json: bool) -> None:
    with connections.open_service(data, "matcher") as matcher:
        learning = matcher.post(f"/programmes/{programme}/learning/{version}/{verb}")
    _print_learning(learning, json)


def _print_learning(learning: Any, json: bool) -> None:
    if json:
        print_json(learning)
        return
    state = "on" if learning["learning"] else "off"
    print_line(f"Learning of [bold]{learning['programme_id']}[/] is {state}. {_describe_weights_in_use(learning)}")
    print_line(f"{learning['outcomes']} outcomes are available; {learning['enough']} are needed.")
    if learning["latest"] is not None:
        print_line("")
        _print_estimate(learning["weights"], learning["latest"])
    if learning["versions"]:
        print_line("")
        _print_versions(learning["programme_id"], learning["versions"])


def _print_estimate(weights: Any, latest: Any) -> None:
    total = sum(weights.values())
    rows = [
        (
            _WEIGHT_TEXTS[weight],
            f"{weights[weight] / total:.2f}",
            f"{estimate['share']:.2f}",
            f"{estimate['low']:.2f} to {estimate['high']:.2f}",
        )
        for weight, estimate in latest["points_to"].items()
    ]
    print_table("weight", ">in use", ">suggested", ">90 % range", rows=rows, title="Shares of the total weight")
    if not latest["clear"]:
        print_line("There is no clear gain over the weights in use, so nothing is proposed.")


def _print_versions(programme: str, versions: list[Any]) -> None:
    rows = [
        (
            version["version"],
            version["state"],
            version["estimate"]["outcomes"],
            _format_gain(version["estimate"]["gain"]),
            version["made_at"],
        )
        for version in versions
    ]
    print_table("=version", "state", ">outcomes", ">gain", "created", rows=rows, title="Versions")
    if versions[0]["state"] == "proposed":
        print_line(
            f"\nWho would be matched differently: viceversa learning preview {programme} {versions[0]['version']}"
        )


def _print_preview(programme: str, preview_: Any, comparison: Any) -> None:
    print_line(
        f"Of the people who are free now: {preview_['pairs_now']} pairs with the weights in use, "
        f"{preview_['pairs_then']} with these, {comparison['pairs_in_common']} the same; "
        f"{comparison['people_with_other_partners']} people would have another partner."
    )
    if preview_["gain"] is not None:
        print_line(f"The expected change of their mean outcome (0 to 1) is {_format_gain(preview_['gain'])}.")
    else:
        print_line("No free person would be matched now, so a difference shows only in a later round.")
    print_line(f"\nSee who: viceversa round compare {preview_['now']} {preview_['then']}")
    print_line(f"Use these weights: viceversa learning release {programme} {preview_['version']}")


def _await_preview(matcher: ServiceClient, path: str) -> Any:
    with progress_bar() as progress:
        progress.add_task("Matching with both", total=None)
        while True:
            current = matcher.get(path)
            if current["state"] != "computing":
                return current
            time.sleep(_POLL_S)


def _describe_weights_in_use(learning: Any) -> str:
    if learning["in_use"] is None:
        return "A person has changed the weights since."
    return f"Version {learning['in_use']} is in use." if learning["in_use"] else "The weights in use were not learned."


def _format_gain(gain: Any) -> str:
    return f"{gain['by']:+.3f} ± {gain['noise']:.3f}"
