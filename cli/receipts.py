"""`receipt`: how a match was made, and whether it can be computed again from the stored inputs."""

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

ReceiptArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The id of the receipt, as `viceversa pairing` shows it.")
]

_FIT_TEXTS = (
    ("senior_benefit", "benefit of the senior"),
    ("junior_benefit", "benefit of the junior"),
    ("compatibility", "how easily they get on"),
    ("perspective", "how different their views are"),
)
_WEIGHT_TEXTS = (
    ("lower_benefit", "benefit of the side that gains less"),
    ("higher_benefit", "benefit of the side that gains more"),
    ("compatibility", "how easily they get on"),
    ("perspective", "how different their views are"),
)


@app.callback()
def explain() -> None:
    """Show how a match was made. Each member sees their own part; a coordinator also sees the figures."""


@app.command("show")
def show_(id: ReceiptArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Show how a match was made: the reasons, the weights, and the second choice of each side.

    [bold]Examples[/]

      viceversa receipt show 7c0e...

      viceversa receipt show 7c0e... --json | jq .fit
    """
    with connections.open_service(data, "matcher") as matcher:
        receipt = matcher.get(f"/receipts/{id}")
    if json:
        print_json(receipt)
        return
    with connections.open_service(data, "profiles") as profiles:
        print_explanation(receipt, MemberNames(profiles))
    print_details(receipt)


@app.command()
def verify(id: ReceiptArgument, data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Compute the match again from the stored inputs, and show what agrees and what differs.

    Exit code 1 when the receipt does not verify. A profile that has changed since then is reported, and does not count
    as a difference.

    [bold]Examples[/]

      viceversa receipt verify 7c0e...

      viceversa receipt verify 7c0e... --json | jq .differs
    """
    with connections.open_service(data, "matcher") as matcher:
        verification = matcher.get(f"/receipts/{id}/verification")
    if json:
        print_json(verification)
    else:
        print_verification(verification)
    if not verification["verified"]:
        raise typer.Exit(FAILED)


def print_verification(verification: Mapping[str, Any]) -> None:
    """Print the result of the verification, and the profiles that have changed since."""
    print_line("[bold green]It verifies.[/]" if verification["verified"] else "[bold red]It does not verify.[/]")
    for text in verification["words"]:
        print_line(f"  {escape(text)}")
    changed = [side for side, is_so in (verification["changed_since"] or {}).items() if is_so]
    for side in changed:
        print_line(f"  The {side}'s profile has changed since.")


def load_receipt(matcher: ServiceClient, pairing: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The receipt of a pairing; None for a pairing from before receipts existed."""
    if pairing.get("receipt_id") is None:
        return None
    receipt: Mapping[str, Any] = matcher.get(f"/pairings/{pairing['pairing_id']}/receipt")
    return receipt


def print_explanation(receipt: Mapping[str, Any], names: MemberNames) -> None:
    """Print in a few lines how the match was made: for a member of the pair in words, for others with figures."""
    print_line(f"\n[bold]How this match was made:[/] {escape(receipt['how'])}")
    if "fit" not in receipt:
        for text in (*receipt["reasons"], *receipt["parts"]):
            print_line(f"  {escape(text)}")
    else:
        for text in describe_figures(receipt, names):
            print_line(f"  {escape(text)}")
    print_line(f"  [dim]receipt {receipt['receipt_id']}: viceversa receipt verify ID computes it again[/]")


def describe_figures(receipt: Mapping[str, Any], names: MemberNames) -> list[str]:
    """The lines with figures for a coordinator."""
    fit = receipt["fit"]
    lines = [f"Fit {fit['score']:.2f}: {', '.join(f'{text} {fit[name]:.2f}' for name, text in _FIT_TEXTS)}."]
    if (before := receipt["chosen_with"]) is not None:
        lines.append(f"The round chose it with a fit of {before['score']:.2f}; a profile changed before it was sent.")
    if receipt["seed"] is not None:
        lines.append(f"The seed {receipt['seed']} decided between pairs of about equal fit.")
    for side, other in receipt["runner_up"].items():
        name = names.name_or_id(other["member_id"]) if other["member_id"] else "a person of your own reporting line"
        lines.append(f"Second choice of the {side}: {name}, with {other['score']:.2f}.")
    if receipt["override_cost"] is not None:
        lines.append(f"Cost of choosing this pair by hand: {receipt['override_cost']:.2f}.")
    return lines


def print_details(receipt: Mapping[str, Any]) -> None:
    """Print the reasons of both sides, the weights and the hashes; nothing for a member of the pair."""
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
        print_table("weight of", ">", rows=[(text, receipt["weights"][name]) for name, text in _WEIGHT_TEXTS])
    print_line("")
    print_table("sha-256 of", "", rows=list(receipt["hashes"].items()))
