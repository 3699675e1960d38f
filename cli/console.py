"""The output of the commands: results on standard output, everything else on standard error.

So a script that reads standard output gets only the result. Colours and progress bars appear only on a terminal, and
never when `NO_COLOR` is set.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
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
from rich.segment import Segment
from rich.table import Table
from typer.core import TyperGroup

from contracts.text import escape_unsafe, safe_json

FAILED, NOT_RUNNING, REFUSED, INTERRUPTED = 1, 3, 4, 130
"""Exit codes. Typer itself uses 2 for a command that it does not understand."""

_WIDTH_WITHOUT_TERMINAL = 250
"""Columns when the output is a file or a pipe, which have no width of their own."""


class SafeConsole(Console):
    """A console on which no text of another system can steer the terminal.

    Everything that is printed passes ``render``: lines, tables, progress, also what rich has made of markup. What rich
    itself sends to the terminal are control segments and styles, which stay.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape_unsafe(segment.text), segment.style)


out = SafeConsole(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL,
)
err = SafeConsole(stderr=True, highlight=False, soft_wrap=True)


class Failure(Exception):
    """A command cannot do its work. ``advice`` tells the person what they can do about it."""

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
    """Print a remark to standard error."""
    err.print(f"[dim]{escape(message)}[/]")


def print_line(message: str) -> None:
    """Print a line of the result, in rich's markup."""
    out.print(message)


def print_json(value: Any) -> None:
    """Print the result as one JSON document, for a script."""
    print_text(safe_json(value, indent=2))


def print_text(text: str) -> None:
    """Print a result as it is, for a script: no markup, no wrapping. Unsafe characters are escaped here too."""
    sys.stdout.write(escape_unsafe(text) + "\n")
    sys.stdout.flush()


def print_table(*columns: str, rows: Iterable[Iterable[object]], title: str | None = None) -> None:
    """Print a plain table. A column name with ``>`` first is aligned right; one with ``=`` first is never wrapped."""
    rich_table = Table(
        title=title, title_justify="left", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in columns:
        rich_table.add_column(
            column.lstrip(">="),
            justify="right" if column.startswith(">") else "left",
            no_wrap=column.startswith("="),
            overflow="fold",
        )
    for row in rows:
        rich_table.add_row(*(escape("-" if cell is None else str(cell)) for cell in row))
    out.print(rich_table)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show a spinner on a terminal, or one line elsewhere."""
    if not err.is_terminal:
        print_note(f"{what} ...")
        yield
        return
    with err.status(escape(what)):
        yield


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A progress bar on standard error, by default for counted work. It is shown only on a terminal."""
    counted = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*(columns or counted), console=err, disable=not err.is_terminal, transient=True)
