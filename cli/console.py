"""What the commands say: results on standard output, everything else on standard error.

A script that reads standard output gets only what it asked for. Colours and moving bars appear on a terminal alone, and
never with `NO_COLOR` set.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from typer.core import TyperGroup

FAILED, NOT_RUNNING, REFUSED, INTERRUPTED = 1, 3, 4, 130
"""Exit codes. 2 is typer's own, for a command that was not understood."""

_WIDTH_WITHOUT_TERMINAL = 250
"""Columns where no terminal says how many there are: a file or a pipe has room."""

out = Console(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL,
)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Failure(Exception):
    """A command cannot do what it was asked to; ``advice`` says what the person can do about it."""

    def __init__(self, message: str, advice: str = "", *, code: int = FAILED) -> None:
        super().__init__(message)
        self.message, self.advice, self.code = message, advice, code


class CommandGroup(TyperGroup):
    """A group of commands that turns every expected failure into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        from deploy.local.errors import ServerError

        try:
            return super().invoke(ctx)
        except Failure as failure:
            print_failure(failure.message, failure.advice)
            raise typer.Exit(failure.code) from failure
        except ServerError as error:
            print_failure(str(error))
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            print_failure("Interrupted.")
            raise typer.Exit(INTERRUPTED) from error


def print_failure(message: str, advice: str = "") -> None:
    err.print(f"[bold red]{escape(message)}[/]")
    if advice:
        err.print(escape(advice))


def print_note(message: str) -> None:
    """A remark on the way: standard error."""
    err.print(f"[dim]{escape(message)}[/]")


def print_line(message: str) -> None:
    """A line of the result, in rich's markup."""
    out.print(message)


def print_json(value: Any) -> None:
    """The result as one JSON document, for a script."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


def print_table(*columns: str, rows: Iterable[Iterable[object]], title: str | None = None) -> None:
    """A plain table. A column whose name begins with ``>`` is set to the right, one with ``=`` is never broken."""
    made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(
            column.lstrip(">="),
            justify="right" if column.startswith(">") else "left",
            no_wrap=column.startswith("="),
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(escape("-" if cell is None else str(cell)) for cell in row))
    out.print(made)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """A spinner on a terminal, one line elsewhere."""
    if not err.is_terminal:
        print_note(f"{what} ...")
        yield
        return
    with err.status(escape(what)):
        yield


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Progress on standard error, of counted work unless ``columns`` say otherwise; nothing where no terminal is."""
    counted = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*(columns or counted), console=err, disable=not err.is_terminal, transient=True)
