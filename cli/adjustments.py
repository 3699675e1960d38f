"""`round lock`, `forbid`, `swap` and `undo`: what a coordinator changes in a round by hand before it is published."""

from pathlib import Path
from typing import Annotated

import typer

from cli import connections
from cli.api import ServiceClient
from cli.console import Failure, print_json, print_line
from cli.installation import DEFAULT_DATA, DataOption, JsonOption
from cli.rounds import RoundArgument

SeniorArgument = Annotated[str, typer.Argument(help="A senior of the round: the member id, or what it ends in.")]
JuniorArgument = Annotated[str, typer.Argument(help="A junior of the round: the member id, or what it ends in.")]

_MEMBER_ID_CHARS = 36  # characters of a member id


def register(rounds: typer.Typer) -> None:
    for command in (lock, forbid, swap, undo):
        rounds.command()(command)


def lock(
    round_: RoundArgument,
    senior: SeniorArgument,
    junior: JuniorArgument,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Hold two together in a computed round. It takes effect with `round resolve`, which tells what it costs.

    [bold]Example[/]

      viceversa round lock 0192... SENIOR JUNIOR && viceversa round resolve 0192...
    """
    _post_adjustment(data, round_, "lock", (senior, junior), json=json)


def forbid(
    round_: RoundArgument,
    senior: SeniorArgument,
    junior: JuniorArgument,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Keep two apart in a computed round. It takes effect with `round resolve`, which tells what it costs.

    [bold]Example[/]

      viceversa round forbid 0192... SENIOR JUNIOR && viceversa round resolve 0192...
    """
    _post_adjustment(data, round_, "forbid", (senior, junior), json=json)


def swap(
    round_: RoundArgument,
    senior: SeniorArgument,
    junior: JuniorArgument,
    other_senior: SeniorArgument,
    other_junior: JuniorArgument,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Let two pairs of a computed round change partners: each senior gets the other's junior.

    [bold]Example[/]

      viceversa round swap 0192... SENIOR JUNIOR OTHER-SENIOR OTHER-JUNIOR && viceversa round resolve 0192...
    """
    _post_adjustment(data, round_, "swap", (senior, junior), (other_senior, other_junior), json=json)


def undo(
    round_: RoundArgument,
    change: Annotated[str, typer.Argument(metavar="CHANGE", help="The id of a lock, forbid or swap: `round show`.")],
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Take back a lock, forbid or swap. What it changed comes back with `round resolve`.

    [bold]Example[/]

      viceversa round undo 0192... 5b1c...
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.post(f"/rounds/{round_}/adjustments/{change}/undo")
    if json:
        print_json(found)
    else:
        print_line(f"Undone. {found['unresolved']} changes wait for: viceversa round resolve {round_}")


def _post_adjustment(data: Path, round_: str, kind: str, *pairs: tuple[str, str], json: bool) -> None:
    with connections.open_service(data, "matcher") as matcher:
        meant = _resolve_member_ids(matcher, round_, {member for pair in pairs for member in pair})
        two = [{"senior": meant[senior], "junior": meant[junior]} for senior, junior in pairs]
        body = {"kind": kind, **({"swap": two} if kind == "swap" else {"pair": two[0]})}
        found = matcher.post(f"/rounds/{round_}/adjustments", body)
    if json:
        print_json(found)
    else:
        print_line(f"Noted as {found['adjustment_id']}. {found['text']}\nDo that: viceversa round resolve {round_}")


def _resolve_member_ids(matcher: ServiceClient, round_: str, written: set[str]) -> dict[str, str]:
    """The whole id of everybody who is named by its end, as `round show` prints it.

    Raises ``Failure`` for an end that nobody in the round has, or more than one.
    """
    ends = {end for end in written if len(end) < _MEMBER_ID_CHARS}
    there = _load_members(matcher, round_) if ends else set()
    meant = {whole: whole for whole in written - ends}
    for end in sorted(ends):
        found = [member for member in there if member.endswith(end)]
        if not found:
            raise Failure(
                f"Nobody whom you see in this round has a member id that ends in {end}.",
                f"Who is in it: viceversa round show {round_} --proposals 500 --unmatched 500",
            )
        if len(found) > 1:
            raise Failure(
                f"{len(found)} people of this round have a member id that ends in {end}.", "Write more of it."
            )
        meant[end] = found[0]
    return meant


def _load_members(matcher: ServiceClient, round_: str) -> set[str]:
    paired = {
        pair[side]["member_id"]
        for pair in matcher.list_items(f"/rounds/{round_}/proposals")
        for side in ("senior", "junior")
    }
    return paired | {one["member_id"] for one in matcher.list_items(f"/rounds/{round_}/unmatched")}
