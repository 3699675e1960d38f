"""What another system wrote cannot steer the terminal of the person who reads it."""

import ast
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import cli
from cli.console import SafeConsole, print_failure, print_json, print_line, print_table, print_text
from contracts.text import escape_unsafe

ATTACKS = ("\x1b[2J", "\x9b2J", "\u202egnp.exe", "\x1b]8;;http://evil.example\x07", "over\rwritten", "\x7f\x85")
STEERING = ("\x1b", "\x9b", "\u202e", "\x07", "\r", "\x7f", "\x85")


class TestTerminal:
    @pytest.mark.parametrize("attack", ATTACKS)
    def test_no_print_lets_a_control_character_through(self, capsys: pytest.CaptureFixture[str], attack: str) -> None:
        print_line(f"Name: {escape(attack)}")
        print_table("name", "value", rows=[[attack, attack]], title=attack)
        print_json({attack: [attack]})
        print_text(attack)
        print_failure(attack, attack)
        shown = "".join(capsys.readouterr())
        assert not any(character in shown for character in STEERING)

    @given(st.text(st.characters(exclude_categories=()), max_size=40))
    def test_no_text_reaches_the_terminal_unescaped(self, text: str) -> None:
        stream = io.StringIO()
        console = SafeConsole(file=stream, width=200, soft_wrap=True)
        table = Table(text)
        table.add_row(escape(text))
        console.print(escape(text), Text(text), table)
        shown = stream.getvalue()
        assert escape_unsafe(shown) == shown

    def test_colours_of_our_own_stay(self) -> None:
        stream = io.StringIO()
        SafeConsole(file=stream, force_terminal=True, color_system="standard").print("[bold]ours[/]")
        assert stream.getvalue() == "\x1b[1mours\x1b[0m\n"


class TestOneBorder:
    def test_no_command_writes_past_the_console(self) -> None:
        """Every other way to a terminal is found by its name."""
        past_console = []
        for file in Path(cli.__file__).parent.rglob("*.py"):
            if file.name == "console.py":
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                if name in ("print", "typer.echo", "typer.secho", "click.echo", "Console", "sys.stdout.write"):
                    past_console.append(f"{file}:{getattr(node, 'lineno', 0)} {name}")
        assert past_console == []
