"""The language of the code: unique class names, no banned names, short functions, short test names.

The tests read the syntax tree of every Python file of the project. docs/glossary.md has the terms to use instead.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmarks", "chassis", "cli", "contracts", "deploy", "examples", "services", "tests")
MAX_FUNCTION_LINES = 60
MAX_TEST_NAME = 60
MAX_MEAN_TEST_NAME = 50
BANNED = frozenset(
    {"asked", "found", "heard", "kept", "known", "looked", "lot", "lots", "one", "place", "places", "told", "whoever"}
)
"""Names that never say what they hold. Use the noun: ``pairing``, ``command``, ``seat``, ``position``."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of each file, by its path in the project."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def nodes(*types: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for path, tree in trees().items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, types))


def fields_of(tree: ast.Module) -> set[int]:
    """The annotated names in class bodies: fields of stored and sent data keep their names."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    targets = [statement.target for node in classes for statement in node.body if isinstance(statement, ast.AnnAssign)]
    return {id(target) for target in targets}


def names() -> Iterator[tuple[str, int, str]]:
    """Every name that the code gives: modules, classes, functions, parameters, variables and attributes."""
    for path, tree in trees().items():
        yield path, 1, Path(path).stem
        fields = fields_of(tree)
        for node in ast.walk(tree):
            if isinstance(node, Function) or (isinstance(node, ast.ClassDef) and not path.startswith("contracts/")):
                yield path, node.lineno, node.name  # class names of contracts are published in the schemas
            elif isinstance(node, ast.arg):
                yield path, node.lineno, node.arg
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
                yield path, node.lineno, node.id
            elif isinstance(node, ast.alias) and node.asname:
                yield path, node.lineno, node.asname


def names_of_tests() -> list[str]:
    return [
        node.name
        for path, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, Function) and path.startswith("tests/") and node.name.startswith("test_")
    ]


class TestNames:
    def test_no_banned_name_is_given(self) -> None:
        banned = [f"{path}:{line}: {name}" for path, line, name in names() if name.strip("_").lower() in BANNED]
        assert not banned, "\n".join(banned)

    def test_class_names_are_unique(self) -> None:
        counts = Counter(node.name for _, node in nodes(ast.ClassDef) if isinstance(node, ast.ClassDef))
        repeated = {name: count for name, count in counts.items() if count > 1 and not name.startswith("Test")}
        assert not repeated

    def test_test_names_are_short(self) -> None:
        lengths = {name: len(name) for name in names_of_tests()}
        assert not {name: length for name, length in lengths.items() if length > MAX_TEST_NAME}
        assert sum(lengths.values()) / len(lengths) < MAX_MEAN_TEST_NAME


class TestFunctions:
    def test_every_function_fits_on_a_screen(self) -> None:
        spans = [
            (f"{path}:{node.lineno}: {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
            for path, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
            if isinstance(node, Function)
        ]
        assert not [(name, lines) for name, lines in spans if lines > MAX_FUNCTION_LINES]

    @pytest.mark.parametrize("room", ROOMS)
    def test_complexity_is_never_waived(self, room: str) -> None:
        waived = re.compile(r"#\s*noqa:.*\bC901\b")
        files = sorted((ROOT / room).rglob("*.py"))
        assert not [str(path) for path in files if waived.search(path.read_text(encoding="utf-8"))]
