"""`receipt`: how a match was made, and whether that can still be computed from what it was made from."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli import connections
from cli.api import ServiceClient
from cli.console import FAILED, CommandGroup, print_json, print_line, print_table
from cli.installation import DEFAULT_DATA, DataOption, JsonOption
from cli.member_names import MemberNames

app = typer.Typer(name="receipt", cls=CommandGroup, no_args_is_help=True)

ReceiptArgument = Annotated[str, typer.Argument(metavar="ID", help="Its id, as `viceversa pairing` shows it.")]

_FIT_TEXTS = (
    ("senior_benefit", "what the senior gains"),
    ("junior_benefit", "what the junior gains"),
    ("compatibility", "how easily they get on"),
    ("perspective", "how different their views are"),
)
_WEIGHT_TEXTS = (
    ("lower_benefit", "the side that gains less"),
    ("higher_benefit", "the side that gains more"),
    ("compatibility", "how easily they get on"),
    ("perspective", "how different their views are"),
)


@app.callback()
def explain() -> None:
    """How a match was made. Each of the two sees what concerns them, whoever coordinates also the figures."""


@app.command("show")
def show_(id: ReceiptArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Show how a match was made: the reasons, what counted and how much, and whom each could have had instead.

    [bold]Examples[/]

      viceversa receipt show 7c0e...

      viceversa receipt show 7c0e... --json | jq .fit
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.get(f"/receipts/{id}")
    if json:
        print_json(found)
        return
    with connections.open_service(data, "profiles") as profiles:
        print_explanation(found, MemberNames(profiles))
    print_details(found)


@app.command()
def verify(id: ReceiptArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Compute the match again from what was kept, and say what agrees and what differs.

    Ends with 1 where the receipt does not verify. That a profile has changed since then is told, and is no fault of the
    receipt's.

    [bold]Examples[/]

      viceversa receipt verify 7c0e...

      viceversa receipt verify 7c0e... --json | jq .differs
    """
    with connections.open_service(data, "matcher") as matcher:
        found = matcher.get(f"/receipts/{id}/verification")
    if json:
        print_json(found)
    else:
        print_verification(found)
    if not found["verified"]:
        raise typer.Exit(FAILED)


def print_verification(found: Mapping[str, Any]) -> None:
    """What came of the verification, and which profiles are no longer what they were."""
    print_line("[bold green]It verifies.[/]" if found["verified"] else "[bold red]It does not verify.[/]")
    for words in found["words"]:
        print_line(f"  {escape(words)}")
    changed = [side for side, is_so in (found["changed_since"] or {}).items() if is_so]
    for side in changed:
        print_line(f"  The {side}'s profile is another today.")


def load_receipt(matcher: ServiceClient, pairing: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """None for a pairing that was made before there were receipts."""
    if pairing.get("receipt_id") is None:
        return None
    found: Mapping[str, Any] = matcher.get(f"/pairings/{pairing['pairing_id']}/receipt")
    return found


def print_explanation(receipt: Mapping[str, Any], names: MemberNames) -> None:
    """How the match was made, in a few lines: for one of the two in words alone, for others with figures."""
    print_line(f"\n[bold]How this match was made:[/] {escape(receipt['how'])}")
    if "fit" not in receipt:
        for words in (*receipt["reasons"], *receipt["parts"]):
            print_line(f"  {escape(words)}")
    else:
        for words in describe_figures(receipt, names):
            print_line(f"  {escape(words)}")
    print_line(f"  [dim]receipt {receipt['receipt_id']}: viceversa receipt verify ID computes it again[/]")


def describe_figures(receipt: Mapping[str, Any], names: MemberNames) -> list[str]:
    """What whoever coordinates reads of it."""
    fit = receipt["fit"]
    told = [f"Fit {fit['score']:.2f}: {', '.join(f'{words} {fit[name]:.2f}' for name, words in _FIT_TEXTS)}."]
    if (before := receipt["chosen_with"]) is not None:
        told.append(
            f"The round chose it with a fit of {before['score']:.2f}; a profile has changed before it went out."
        )
    if receipt["seed"] is not None:
        told.append(f"Between pairs that fit about equally well the seed {receipt['seed']} decided.")
    for side, other in receipt["runner_up"].items():
        who = names.name_or_id(other["member_id"]) if other["member_id"] else "somebody of your own line"
        told.append(f"Second choice of the {side}: {who}, with {other['score']:.2f}.")
    if receipt["override_cost"] is not None:
        told.append(f"What was given up by choosing this pair by hand: {receipt['override_cost']:.2f}.")
    return told


def print_details(receipt: Mapping[str, Any]) -> None:
    """The reasons of both, the weights and the hashes; nothing more for one of the two."""
    if "fit" not in receipt:
        return
    for side, texts in receipt["reasons"].items():
        print_line(f"\nReasons for the {side}:")
        for text in texts:
            print_line(f"  {escape(text)}")
    print_line(
        f"\nBy version {receipt['programme_version']} of the settings of {escape(receipt['programme_id'])}, "
        f"version {receipt['algorithm']} of the algorithm."
    )
    if receipt["weights"]:
        print_table("weight of", ">", rows=[(words, receipt["weights"][name]) for name, words in _WEIGHT_TEXTS])
    print_line("")
    print_table("sha-256 of", "", rows=list(receipt["hashes"].items()))
