"""`round lock`, `forbid`, `swap` and `undo`: manual changes of a round before it is published."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli import connections
from cli.api import ServiceClient
from cli.console import Failure, print_json, print_line
from cli.installation import DEFAULT_DATA, DataOption, JsonOption
from cli.rounds import RoundArgument

SeniorArgument = Annotated[str, typer.Argument(help="A senior of the round: the member id, or its last characters.")]
JuniorArgument = Annotated[str, typer.Argument(help="A junior of the round: the member id, or its last characters.")]

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
    """Keep two people together in a computed round.

    `round resolve` applies the change and shows its cost.

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
    """Keep two people apart in a computed round.

    `round resolve` applies the change and shows its cost.

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
    """Swap the partners of two pairs in a computed round: each senior gets the other's junior.

    [bold]Example[/]

      viceversa round swap 0192... SENIOR JUNIOR OTHER-SENIOR OTHER-JUNIOR && viceversa round resolve 0192...
    """
    _post_adjustment(data, round_, "swap", (senior, junior), (other_senior, other_junior), json=json)


def undo(
    round_: RoundArgument,
    change: Annotated[
        str, typer.Argument(metavar="CHANGE", help="The id of a lock, forbid or swap, as `round show` prints it.")
    ],
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Undo a lock, forbid or swap. `round resolve` then restores the pairs.

    [bold]Example[/]

      viceversa round undo 0192... 5b1c...
    """
    with connections.open_service(data, "matcher") as matcher:
        result = matcher.post(f"/rounds/{round_}/adjustments/{change}/undo")
    if json:
        print_json(result)
    else:
        print_line(f"Undone. {result['unresolved']} changes are pending. Apply: viceversa round resolve {round_}")


def _post_adjustment(data: Path, round_: str, kind: str, *pairs: tuple[str, str], json: bool) -> None:
    with connections.open_service(data, "matcher") as matcher:
        ids = _resolve_member_ids(matcher, round_, {member for pair in pairs for member in pair})
        bodies = [{"senior": ids[senior], "junior": ids[junior]} for senior, junior in pairs]
        body = {"kind": kind, **({"swap": bodies} if kind == "swap" else {"pair": bodies[0]})}
        result = matcher.post(f"/rounds/{round_}/adjustments", body)
    if json:
        print_json(result)
    else:
        print_line(
            f"Saved as {result['adjustment_id']}. {escape(result['text'])}\nApply it: viceversa round resolve {round_}"
        )


def _resolve_member_ids(matcher: ServiceClient, round_: str, arguments: set[str]) -> dict[str, str]:
    """Argument -> full member id. An argument may be the last characters of an id, as `round show` prints them.

    Raises ``Failure`` for an ending that no member of the round has, or several have.
    """
    endings = {ending for ending in arguments if len(ending) < _MEMBER_ID_CHARS}
    members = _load_members(matcher, round_) if endings else set()
    ids = {full_id: full_id for full_id in arguments - endings}
    for ending in sorted(endings):
        matches = [member for member in members if member.endswith(ending)]
        if not matches:
            raise Failure(
                f"No member of this round whom you may see has an id that ends in {ending}.",
                f"List the members: viceversa round show {round_} --proposals 500 --unmatched 500",
            )
        if len(matches) > 1:
            raise Failure(
                f"{len(matches)} people of this round have a member id that ends in {ending}.", "Write more of it."
            )
        ids[ending] = matches[0]
    return ids


def _load_members(matcher: ServiceClient, round_: str) -> set[str]:
    paired = {
        pair[side]["member_id"]
        for pair in matcher.list_items(f"/rounds/{round_}/proposals")
        for side in ("senior", "junior")
    }
    return paired | {member["member_id"] for member in matcher.list_items(f"/rounds/{round_}/unmatched")}
