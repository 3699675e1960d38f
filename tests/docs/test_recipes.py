"""The recipes of CONTRIBUTING.md name every file that the commonest changes touch, as the tree itself shows them."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from cli.installation import DEFAULT_PORTS
from contracts.catalogue import SERVICES
from services.notifier.domain.notification_schedule import SCHEDULE

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = ("contracts", "chassis", "services", "cli", "deploy", "docs", "scripts", "stubs", "tests", ".github")
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".ini", ""}
WRITTEN_BY_COMMANDS = ("contracts/schemas/", "contracts/released/", "contracts/asyncapi.json")
NO_DECLARATIONS = ("CHANGELOG.md", "CONTRIBUTING.md", "docs/decisions/", "tests/docs/")  # history, and this test
NEARBY_LINES = 4  # a list of services stands within so many lines
MOST_PURPOSES = 0.8  # a file that names so many of the notifications names all that concern it


def section(title: str) -> str:
    """One recipe: from its bold title to the next one."""
    match = re.search(rf"^\*\*{re.escape(title)}\*\*(.*?)(?=^\*\*|^## )", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert match is not None, f"CONTRIBUTING.md has no recipe {title!r}"
    return match[1]


def named_paths(recipe: str) -> set[str]:
    """The files and folders that a recipe names; `NAME` stands for the name of the new service."""
    return {path for path in re.findall(r"`([\w./-]+)`", recipe) if "/" in path or "." in path.strip(".")}


@cache
def source_files() -> list[tuple[str, str]]:
    """Path and text of every file that a person edits."""
    return list(_read_source_files())


def _read_source_files() -> Iterator[tuple[str, str]]:
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    for file in files:
        path = file.relative_to(ROOT).as_posix()
        if file.suffix in SUFFIXES and "__pycache__" not in path and not path.startswith(WRITTEN_BY_COMMANDS):
            yield path, file.read_text(encoding="utf-8", errors="replace")


def words(text: str) -> list[tuple[int, str]]:
    return [
        (number, word) for number, line in enumerate(text.splitlines()) for word in re.findall(r"[a-z][a-z_]*", line)
    ]


def lists_all(names: Iterable[str], text: str) -> bool:
    """Whether all names stand within ``NEARBY_LINES`` lines."""
    if any(name not in text for name in names):
        return False
    last = dict.fromkeys(names, -NEARBY_LINES - 1)
    for number, word in words(text):
        if word in last:
            last[word] = number
            if number - min(last.values()) < NEARBY_LINES:
                return True
    return False


def missing_paths(paths: Iterable[str], recipe: str) -> list[str]:
    """The paths that the recipe names neither themselves nor by a folder above them."""
    named = named_paths(recipe)
    folders = tuple(path for path in named if path.endswith("/"))
    return [path for path in paths if path not in named and not path.startswith(folders)]


class TestRecipeOfAService:
    def test_names_every_file_that_lists_the_services(self) -> None:
        lists = [path for path, text in source_files() if lists_all(SERVICES, text)]
        declarations = [path for path in lists if not path.startswith(NO_DECLARATIONS)]
        assert {"contracts/services.py", "compose.yaml", "pyproject.toml"} <= set(declarations)
        assert missing_paths(declarations, section("A service.")) == []

    def test_names_the_folders_that_every_service_has(self) -> None:
        """A folder or file is every service's own if it has the same path with each of the names."""
        own = {
            path.relative_to(ROOT).as_posix().replace(SERVICES[0], "NAME")
            for folder in FOLDERS
            for path in (ROOT / folder).rglob(SERVICES[0])
            if "__pycache__" not in path.parts and all((path.parent / service).exists() for service in SERVICES)
        }
        assert {"services/NAME", "tests/NAME"} <= own
        assert missing_paths([f"{path}/" for path in own], section("A service.")) == []

    def test_names_no_file_that_is_gone(self) -> None:
        for title in ("A service.", "A notification."):
            for path in named_paths(section(title)):
                concrete = path.replace("NAME", SERVICES[0]).replace("LANGUAGE", "en")
                assert (ROOT / concrete).exists(), f"{title} {path}"


class TestListOfServices:
    """The places that are not made from ``contracts.catalogue.SERVICES`` agree with it."""

    def test_prometheus_reads_every_service(self) -> None:
        text = (ROOT / "deploy" / "prometheus.yaml").read_text(encoding="utf-8")
        assert set(re.findall(r"(\w+):9080", text)) == set(SERVICES)

    def test_import_rules_keep_all_services_apart(self) -> None:
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        rule = re.search(r'name = "Services never import each other".*?modules = \[(.*?)\]', text, re.DOTALL)
        assert rule is not None
        assert re.findall(r'"services\.(\w+)"', rule[1]) == list(SERVICES)

    def test_ci_starts_every_service(self) -> None:
        workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
        steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
        [start] = [run for run in steps if run.startswith("docker compose up") and "--wait" in run]
        assert [word for word in start.split() if word in SERVICES] == list(SERVICES)

    @pytest.mark.parametrize("service", SERVICES)
    def test_a_service_listens_where_the_commands_look_for_it(self, service: str) -> None:
        assert DEFAULT_PORTS[service] == import_module(f"services.{service}.__main__").PORT

    def test_every_folder_of_services_is_a_service(self) -> None:
        folders = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
        assert folders == set(SERVICES)


class TestRecipeOfANotification:
    def test_names_every_file_that_lists_the_notifications(self) -> None:
        purposes = {row.purpose for row in SCHEDULE}
        lists = [
            path
            for path, text in source_files()
            if len(purposes & {word for _, word in words(text)}) >= MOST_PURPOSES * len(purposes)
        ]
        assert "services/notifier/domain/notification_schedule.py" in lists
        assert missing_paths(lists, section("A notification.")) == []
