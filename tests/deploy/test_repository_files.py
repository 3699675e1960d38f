"""The files by which the project is checked, released and reported to: held against each other and their schemas."""

import importlib.machinery
import importlib.util
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import strategies

from tests import conftest

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
PACKAGES = ("contracts", "chassis", "services", "cli", "deploy")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def version() -> str:
    project: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["version"]


def named(files: list[Path]) -> list[Any]:
    return [pytest.param(file, id=file.name) for file in files]


# -- workflows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", named(WORKFLOWS))
def test_every_action_is_pinned_by_its_commit_and_tells_its_version(workflow: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: *(.+)$", workflow.read_text(encoding="utf-8"), re.MULTILINE)
    assert used
    for action in used:
        if action.startswith("./"):
            assert (ROOT / action).is_file(), action
        else:
            assert PINNED.fullmatch(action), f"{workflow.name} uses {action}"


def test_an_action_has_one_commit_in_all_workflows() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in WORKFLOWS)
    pins = set(re.findall(r"uses: *(\S+)@(\S+ # \S+)", text))
    assert len(pins) == len({action for action, _ in pins}), sorted(pins)


@pytest.mark.parametrize("workflow", named(WORKFLOWS))
def test_a_workflow_may_write_only_where_a_job_says_so(workflow: Path) -> None:
    allowed = read(workflow)["permissions"]
    assert allowed in ({}, {"contents": "read"})


def test_the_job_that_may_write_to_the_repository_runs_no_code_of_it() -> None:
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    writers = {name for name, job in jobs.items() if job["permissions"].get("contents") == "write"}
    assert writers == {"release"}
    assert "actions/checkout" not in str(jobs["release"])
    assert set(jobs["release"]["needs"]) == {"check", "packages", "image"}
    assert "tests" in jobs["packages"]["needs"]
    assert "tests" in jobs["image"]["needs"]


@pytest.mark.parametrize("workflow", named(WORKFLOWS))
def test_a_workflow_runs_scripts_that_exist(workflow: Path) -> None:
    for script in re.findall(r"\./(scripts/[\w-]+)", workflow.read_text(encoding="utf-8")):
        assert (ROOT / script).stat().st_mode & 0o111, script


def checked(tool: str, advice: str, *arguments: str) -> None:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed ({advice})")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", named(WORKFLOWS))
def test_actionlint_accepts_the_workflow(workflow: Path) -> None:
    checked("actionlint", "go install github.com/rhysd/actionlint/cmd/actionlint", str(workflow))


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        *(pytest.param("vendor.github-workflows", file, id=file.name) for file in WORKFLOWS),
        pytest.param("vendor.dependabot", GITHUB / "dependabot.yml", id="dependabot"),
    ],
)
def test_it_fits_the_schema_of_its_format(schema: str, file: Path) -> None:
    checked("check-jsonschema", "pip install check-jsonschema", "--builtin-schema", schema, str(file))


# -- updates, hooks and forms ----------------------------------------------------------------------------------------


def test_updates_are_looked_for_where_something_is_pinned() -> None:
    manifests = {"github-actions": ".github/workflows", "docker": "Dockerfile", "npm": "package.json"}
    updates = read(GITHUB / "dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {*manifests, "pip"}
    for update in updates:
        manifest = manifests.get(update["package-ecosystem"], "pyproject.toml")
        assert (ROOT / update["directory"].lstrip("/") / manifest).exists(), update


def test_hooks_run_what_check_runs_in_the_versions_of_the_lock() -> None:
    repositories = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    programs = {hook["entry"].split()[0] for hook in repositories[0]["hooks"]}
    in_check = set(
        re.findall(r"^(\.venv/bin/\S+)", (ROOT / "scripts" / "check").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert programs == in_check
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for tool in ("ruff", "mypy", "import-linter", "codespell"):
        assert re.search(rf"^{tool}==", lock, re.MULTILINE), tool


@pytest.mark.parametrize("form", named(sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))))
def test_a_form_asks_and_says_where_weaknesses_go(form: Path) -> None:
    content = read(form)
    if form.name == "config.yml":
        assert "privately-reporting" in content["contact_links"][0]["url"]
    else:
        assert {"name", "description", "body"} <= content.keys()
        ids = [field["id"] for field in content["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids))


def test_contributors_are_sent_to_the_private_way_of_reporting() -> None:
    assert "SECURITY.md" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


# -- releases --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def release_notes() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("release_notes", str(ROOT / "scripts" / "release-notes"))
    spec = importlib.util.spec_from_loader("release_notes", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


CHANGELOG = """# Changelog

## Unreleased

### Contracts

## 1.10.0 (2031-02-03)

### Contracts

### Services

- One thing.

### Running it

## 1.1.0 (2030-01-02)

- Another thing.
"""


def a_project(folder: Path, version: str, changelog: str = CHANGELOG) -> Path:
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n', encoding="utf-8")
    (folder / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("version", "expected"), [("1.10.0", "### Services\n\n- One thing."), ("1.1.0", "- Another thing.")]
)
def test_release_notes_are_the_section_of_the_version(
    release_notes: ModuleType, tmp_path: Path, version: str, expected: str
) -> None:
    assert release_notes.notes(version, a_project(tmp_path, version)) == expected


@pytest.mark.parametrize(
    ("asked", "project", "changelog", "reason"),
    [
        ("1.1.0", "1.2.0", CHANGELOG, "has version 1.2.0, not 1.1.0"),
        ("1.2.0", "1.2.0", CHANGELOG, "no section"),
        ("1.1", "1.1", CHANGELOG, "no section"),
        ("1.2.0", "1.2.0", "## 1.2.0\n\n### Contracts\n\n## 1.1.0\n\n- Old.\n", "is empty"),
    ],
)
def test_what_does_not_agree_is_not_released(
    release_notes: ModuleType, tmp_path: Path, asked: str, project: str, changelog: str, reason: str
) -> None:
    with pytest.raises(SystemExit, match=reason):
        release_notes.notes(asked, a_project(tmp_path, project, changelog))


def test_this_version_has_its_notes_and_the_changelog_a_place_for_what_comes_next(release_notes: ModuleType) -> None:
    assert release_notes.notes(version(), ROOT)
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version()]


def test_a_built_wheel_says_that_its_packages_are_typed_and_brings_their_files(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "scripts" / "build", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / f"viceversa-{version()}.tar.gz").exists()
    with zipfile.ZipFile(tmp_path / f"viceversa-{version()}-py3-none-any.whl") as wheel:
        there = set(wheel.namelist())
    for package in PACKAGES:
        assert f"{package}/py.typed" in there
        modules = {str(file.relative_to(ROOT)) for file in (ROOT / package).rglob("*.py")}
        assert modules <= there, modules - there
    assert not [name for name in there if name.partition("/")[0] in {"tests", "benchmarks", "stubs"}]


# -- the tiers of the tests ------------------------------------------------------------------------------------------


def test_files_that_are_named_in_conftest_exist() -> None:
    named = {*conftest.SLOW, *conftest.UNTRACED, *conftest.STACKS, *conftest.LONGEST} - {*conftest.STACKS.values()}
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_fast_tier_has_no_test_that_needs_servers(pytestconfig: pytest.Config) -> None:
    needs_servers = {"running_servers", "no_external_servers"}
    assert needs_servers == conftest.STARTS_SERVERS
    for fixture in needs_servers:
        assert hasattr(conftest, fixture)


def test_the_fast_tier_looks_at_fewer_examples(request: pytest.FixtureRequest) -> None:
    tried = []

    @hypothesis.settings(max_examples=200, database=None)
    @hypothesis.given(strategies.integers())
    def property_of_numbers(number: int) -> None:
        tried.append(number)

    class Item:
        obj = staticmethod(property_of_numbers)

    conftest.fewer_examples(Item())  # type: ignore[arg-type]  # it has what is looked at
    property_of_numbers()
    assert 0 < len(tried) <= conftest.FAST_EXAMPLES


def test_the_script_tells_its_uses() -> None:
    done = subprocess.run([ROOT / "scripts" / "test", "--help"], capture_output=True, text=True, check=True)
    assert "--fast" in done.stdout
