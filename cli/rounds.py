"""`round`: a cohort is matched, reviewed by a person, and published."""

import time
from typing import Annotated, Any

import typer

from cli import connections
from cli.api import Api
from cli.console import FAILED, Commands, as_json, bar, say, table
from cli.place import USUAL_DATA, DataOption, JsonOption

app = typer.Typer(name="round", cls=Commands, no_args_is_help=True)

RoundArgument = Annotated[str, typer.Argument(metavar="ROUND", help="Its id, as `round list` shows it.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done.")]

_POLL_S = 0.2


@app.callback()
def explain() -> None:
    """Compute, review and publish rounds of matching. Nobody hears of a round before it is published."""


@app.command()
def compute(
    programme: Annotated[str, typer.Argument(metavar="PROGRAMME", help="Its id, as `programme list` shows it.")],
    seed: Annotated[int, typer.Option(help="Decides between matches that are equally good.", min=0)] = 0,
    no_wait: NoWaitOption = False,
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """Find the best pairs for everybody who is ready, all at once. Nothing is told to anyone yet.

    [bold]Examples[/]

      viceversa round compute fresh-eyes

      viceversa round compute fresh-eyes --json | jq -r .round_id
    """
    with connections.service(data, "matcher") as matcher:
        found = matcher.post(f"/programmes/{programme}/rounds", {"seed": seed})
        found = found if no_wait else followed(matcher, found, ("computing",), "Matching")
    _conclude(found, json)
    if not json and found["state"] == "computed":
        say(f"\nLook at it: viceversa round show {found['round_id']}")
        say(f"Release it: viceversa round publish {found['round_id']}")


@app.command("list")
def list_(
    programme: Annotated[str, typer.Argument(metavar="PROGRAMME")],
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """List the rounds of a programme.

    [bold]Example[/]

      viceversa round list fresh-eyes
    """
    with connections.service(data, "matcher") as matcher:
        found = list(matcher.pages(f"/programmes/{programme}/rounds"))
    if json:
        as_json(found)
    elif not found:
        say(f"No rounds yet: viceversa round compute {programme}")
    else:
        rows = [(one["round_id"], one["state"], one["pairs"], one["proposed"], one["started_at"]) for one in found]
        table("=id", "state", ">pairs", ">proposed", "started", rows=rows)


@app.command()
def show(
    round_: RoundArgument,
    proposals: Annotated[int, typer.Option(help="How many of the proposed pairs, the best first.", min=0)] = 10,
    unmatched: Annotated[int, typer.Option(help="How many of those who are left over, and why.", min=0)] = 10,
    data: DataOption = USUAL_DATA,
    json: JsonOption = False,
) -> None:
    """Show a round for review: totals, pairs with their reasons, and who is left over and why.

    Pairs in which the coordinator's own line takes part are left out.

    [bold]Examples[/]

      viceversa round show 0192...

      viceversa round show 0192... --proposals 500 --json
    """
    with connections.service(data, "matcher") as matcher:
        found = matcher.get(f"/rounds/{round_}")
        pairs = _some(matcher, f"/rounds/{round_}/proposals", proposals)
        left = _some(matcher, f"/rounds/{round_}/unmatched", unmatched)
    if json:
        as_json({**found, "proposals": pairs, "unmatched": left})
        return
    _totals(found)
    if pairs:
        say("")
        rows = [[f"{one['fit']['score']:.2f}", *_pair(one), one["state"]] for one in pairs]
        table(">fit", "senior", "junior", "about", "state", rows=rows, title="Pairs, the best first")
    if left:
        say("")
        people = [(one["member_id"], one["side"], one["department_id"], one["text"]) for one in left]
        table("=member", "side", "department", "why there is nobody yet", rows=people, title="Left over")


@app.command()
def publish(
    round_: RoundArgument, no_wait: NoWaitOption = False, data: DataOption = USUAL_DATA, json: JsonOption = False
) -> None:
    """Release a round: everybody in it is asked. The hard rules are checked once more for each pair.

    [bold]Example[/]

      viceversa round publish 0192...
    """
    with connections.service(data, "matcher") as matcher:
        found = matcher.post(f"/rounds/{round_}/publish")
        found = found if no_wait else followed(matcher, found, ("publishing",), "Publishing")
    _conclude(found, json)


@app.command()
def discard(round_: RoundArgument, data: DataOption = USUAL_DATA, json: JsonOption = False) -> None:
    """Throw a computed round away. Nobody has heard of it, and nobody will.

    [bold]Example[/]

      viceversa round discard 0192...
    """
    with connections.service(data, "matcher") as matcher:
        found = matcher.post(f"/rounds/{round_}/discard")
    _conclude(found, json)


def followed(matcher: Api, begun: Any, while_in: tuple[str, ...], what: str) -> Any:
    """The round once it has left these states, with its progress shown."""
    with bar() as progress:
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


def _conclude(found: Any, json: bool) -> None:
    if json:
        as_json(found)
    else:
        _totals(found)
    if found["state"] == "failed":
        raise typer.Exit(FAILED)


def _totals(found: Any) -> None:
    say(f"Round [bold]{found['round_id']}[/] is {found['state']}.")
    if found.get("why"):
        say(found["why"])
    say(
        f"{found['seniors']} seniors and {found['juniors']} juniors; {found['pairs']} pairs, "
        f"{found['proposed']} proposed, {found['withdrawn']} withdrawn; "
        f"left over: {found['unmatched_seniors']} seniors, {found['unmatched_juniors']} juniors."
    )


def _some(matcher: Api, path: str, number: int) -> list[Any]:
    found: list[Any] = []
    if number:
        for one in matcher.pages(path):
            found.append(one)
            if len(found) == number:
                break
    return found


def _pair(one: Any) -> list[str]:
    return [_person(one["senior"]), _person(one["junior"]), ", ".join(focus["name"] for focus in one["focus"])]


def _person(one: Any) -> str:
    return f"{one['member_id'][-8:]} {one['department_id']}"
