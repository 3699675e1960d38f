"""The documents compared with the code: links, commands, routes, files, and the tests that they name."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts
from typer.main import get_command

from chassis.core.settings import Settings
from chassis.service import Chassis
from chassis.web.http import PUBLIC_PATHS, RoleCheck, create_app, dependency_calls
from contracts.catalogue import SERVICES

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
ROLES = ("member", "coordinator", "admin", "service")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> dict[str, set[str]]:
    """Each command, with groups as `group command`, and its options."""
    from cli.main import app

    options: dict[str, set[str]] = {}
    root = get_command(app)
    for name, command in getattr(root, "commands", {}).items():
        for inner, each in {"": command, **getattr(command, "commands", {})}.items():
            options[f"{name} {inner}".strip()] = {option for parameter in each.params for option in parameter.opts}
    return options


class TestLinksAndNames:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=named)
    def test_every_link_leads_to_a_file_and_anchor(self, document: Path) -> None:
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            destination = (document.parent / path).resolve() if path else document
            assert destination.exists(), f"{named(document)}: {target}"
            assert not anchor or anchor in anchors(destination), f"{named(document)}: {target}"

    @pytest.mark.parametrize("document", DOCUMENTS, ids=named)
    def test_every_named_test_and_script_exists(self, document: Path) -> None:
        tests = "\n".join(text_of(path) for path in sorted((ROOT / "tests").rglob("*.py")))
        for name in re.findall(r"`(?:Test\w+::)?(test_\w+)`", text_of(document)):
            assert f"def {name}(" in tests, f"{named(document)}: {name}"
        for script in re.findall(r"\./(scripts/[\w-]+)", text_of(document)):
            assert (ROOT / script).is_file(), f"{named(document)}: {script}"

    @pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=named)
    def test_every_named_command_and_option_exists(self, document: Path) -> None:
        options_of = commands()
        for line in re.findall(r"viceversa ((?:[a-z][a-z-]*)(?: [^\n`#)]*)?)", text_of(document)):
            words = line.split()
            command = " ".join(words[:2]) if " ".join(words[:2]) in options_of else words[0]
            assert command in options_of, line
            for option in re.findall(r"(?<!\S)--[a-z-]+", line):
                assert option in {*options_of[command], "--help"}, f"{command} {option}"


def routes() -> Iterator[tuple[str, frozenset[str]]]:
    """Every route that needs a token, with the roles that its code lets in."""
    settings = Settings(hmac_key="only for tests, only for tests, only")  # type: ignore[arg-type]
    for service in SERVICES:
        chassis = Chassis(service, settings)
        parts = importlib.import_module(f"services.{service}.__main__").build(chassis)
        app = create_app(
            service, settings, routers=parts.routers
        )  # fmt: skip
        for route in iter_route_contexts(app.routes):
            if route.path in PUBLIC_PATHS:
                continue
            allowed = [call.roles for call in dependency_calls(route.dependant) if isinstance(call, RoleCheck)]
            for method in route.methods or ():
                yield f"{method} {route.path}", frozenset(frozenset(ROLES).intersection(*allowed))


class TestPages:
    @pytest.mark.parametrize("page", sorted(DECISIONS.glob("[a-z]*.md")), ids=named)
    def test_a_decision_names_alternatives_and_a_revisit_trigger(self, page: Path) -> None:
        text = text_of(page)
        assert len(text.splitlines()) < 50
        for part in ("**Decided.**", "**Passed over, and why**", "**Look at it again when**"):
            assert part in text, part
        assert f"({page.name})" in text_of(DECISIONS / "README.md")

    def test_chassis_page_names_every_file_and_no_other(self) -> None:
        chassis = ROOT / "chassis"
        page = text_of(ROOT / "docs" / "architecture" / "chassis.md")
        listed = re.findall(r"^\| `([\w/]+\.py)` \|", page, re.MULTILINE)
        files = [str(path.relative_to(chassis)) for path in chassis.rglob("*.py") if path.name != "__init__.py"]
        assert sorted(listed) == sorted(files)

    async def test_access_table_equals_the_routes_of_the_code(self) -> None:
        page = text_of(ROOT / "docs" / "architecture" / "access.md")
        table: dict[str, frozenset[str]] = {}
        for route, *cells in re.findall(r"^\| `(\w+ /\S+)` \|(.+?)\|(.+?)\|(.+?)\|(.+?)\|$", page, re.MULTILINE):
            assert route not in table, f"{route} stands there twice"
            table[route] = frozenset(role for role, cell in zip(ROLES, cells, strict=True) if cell.strip() != "-")
        assert table == dict(routes())
