"""The files for checks, releases and reports, compared with each other and with their schemas."""

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


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def version() -> str:
    project: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["version"]


def file_parameters(files: list[Path]) -> list[Any]:
    return [pytest.param(file, id=file.name) for file in files]


def run_checker(tool: str, advice: str, *arguments: str) -> None:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed ({advice})")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class TestWorkflows:
    @pytest.mark.parametrize("workflow", file_parameters(WORKFLOWS))
    def test_every_action_is_pinned_by_commit_with_its_version(self, workflow: Path) -> None:
        used = re.findall(r"^\s*(?:- )?uses: *(.+)$", workflow.read_text(encoding="utf-8"), re.MULTILINE)
        assert used
        for action in used:
            if action.startswith("./"):
                assert (ROOT / action).is_file(), action
            else:
                assert PINNED.fullmatch(action), f"{workflow.name} uses {action}"

    def test_an_action_has_one_commit_in_all_workflows(self) -> None:
        text = "".join(file.read_text(encoding="utf-8") for file in WORKFLOWS)
        pins = set(re.findall(r"uses: *(\S+)@(\S+ # \S+)", text))
        assert len(pins) == len({action for action, _ in pins}), sorted(pins)

    @pytest.mark.parametrize("workflow", file_parameters(WORKFLOWS))
    def test_a_workflow_writes_only_where_a_job_allows_it(self, workflow: Path) -> None:
        allowed = read_yaml(workflow)["permissions"]
        assert allowed in ({}, {"contents": "read"})

    def test_the_job_with_write_access_runs_no_repository_code(self) -> None:
        jobs = read_yaml(GITHUB / "workflows" / "release.yml")["jobs"]
        writers = {name for name, job in jobs.items() if job["permissions"].get("contents") == "write"}
        assert writers == {"release"}
        assert "actions/checkout" not in str(jobs["release"])
        assert set(jobs["release"]["needs"]) == {"check", "packages", "image"}
        assert "tests" in jobs["packages"]["needs"]
        assert "tests" in jobs["image"]["needs"]

    @pytest.mark.parametrize("workflow", file_parameters(WORKFLOWS))
    def test_a_workflow_runs_scripts_that_exist(self, workflow: Path) -> None:
        for script in re.findall(r"\./(scripts/[\w-]+)", workflow.read_text(encoding="utf-8")):
            assert (ROOT / script).stat().st_mode & 0o111, script

    @pytest.mark.parametrize("workflow", file_parameters(WORKFLOWS))
    def test_actionlint_accepts_the_workflow(self, workflow: Path) -> None:
        run_checker("actionlint", "go install github.com/rhysd/actionlint/cmd/actionlint", str(workflow))

    @pytest.mark.parametrize(
        ("schema", "file"),
        [
            *(pytest.param("vendor.github-workflows", file, id=file.name) for file in WORKFLOWS),
            pytest.param("vendor.dependabot", GITHUB / "dependabot.yml", id="dependabot"),
        ],
    )
    def test_files_are_valid_for_their_schemas(self, schema: str, file: Path) -> None:
        run_checker("check-jsonschema", "pip install check-jsonschema", "--builtin-schema", schema, str(file))


class TestRepositorySettings:
    def test_dependabot_covers_every_pinned_file(self) -> None:
        manifests = {"github-actions": ".github/workflows", "docker": "Dockerfile", "npm": "package.json"}
        updates = read_yaml(GITHUB / "dependabot.yml")["updates"]
        assert {update["package-ecosystem"] for update in updates} == {*manifests, "pip"}
        for update in updates:
            manifest = manifests.get(update["package-ecosystem"], "pyproject.toml")
            assert (ROOT / update["directory"].lstrip("/") / manifest).exists(), update

    def test_hooks_run_the_programs_of_the_check_script(self) -> None:
        repositories = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
        assert [repository["repo"] for repository in repositories] == ["local"]
        programs = {hook["entry"].split()[0] for hook in repositories[0]["hooks"]}
        in_check = set(
            re.findall(r"^(\.venv/bin/\S+)", (ROOT / "scripts" / "check").read_text(encoding="utf-8"), re.MULTILINE)
        )
        assert programs == in_check
        lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
        for tool in ("ruff", "mypy", "import-linter", "codespell"):
            assert re.search(rf"^{tool}==", lock, re.MULTILINE), tool

    @pytest.mark.parametrize("form", file_parameters(sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))))
    def test_issue_forms_have_fields_and_a_security_link(self, form: Path) -> None:
        content = read_yaml(form)
        if form.name == "config.yml":
            assert "privately-reporting" in content["contact_links"][0]["url"]
        else:
            assert {"name", "description", "body"} <= content.keys()
            ids = [field["id"] for field in content["body"] if field["type"] != "markdown"]
            assert len(ids) == len(set(ids))

    def test_contributors_are_told_to_report_privately(self) -> None:
        assert "SECURITY.md" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


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


def write_project(folder: Path, version: str, changelog: str = CHANGELOG) -> Path:
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n', encoding="utf-8")
    (folder / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
    return folder


class TestVersionReleases:
    @pytest.mark.parametrize(
        ("version", "expected"), [("1.10.0", "### Services\n\n- One thing."), ("1.1.0", "- Another thing.")]
    )
    def test_release_notes_are_the_section_of_the_version(
        self, release_notes: ModuleType, tmp_path: Path, version: str, expected: str
    ) -> None:
        assert release_notes.notes(version, write_project(tmp_path, version)) == expected

    @pytest.mark.parametrize(
        ("requested", "project", "changelog", "reason"),
        [
            ("1.1.0", "1.2.0", CHANGELOG, "has version 1.2.0, not 1.1.0"),
            ("1.2.0", "1.2.0", CHANGELOG, "no section"),
            ("1.1", "1.1", CHANGELOG, "no section"),
            ("1.2.0", "1.2.0", "## 1.2.0\n\n### Contracts\n\n## 1.1.0\n\n- Old.\n", "is empty"),
        ],
    )
    def test_a_mismatched_version_is_not_released(
        self, release_notes: ModuleType, tmp_path: Path, requested: str, project: str, changelog: str, reason: str
    ) -> None:
        with pytest.raises(SystemExit, match=reason):
            release_notes.notes(requested, write_project(tmp_path, project, changelog))

    def test_the_changelog_has_this_version_and_an_open_section(self, release_notes: ModuleType) -> None:
        assert release_notes.notes(version(), ROOT)
        headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert headings[:2] == ["Unreleased", version()]

    def test_a_built_wheel_is_typed_and_complete(self, tmp_path: Path) -> None:
        process = subprocess.run([ROOT / "scripts" / "build", tmp_path], capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr
        assert (tmp_path / f"viceversa-{version()}.tar.gz").exists()
        with zipfile.ZipFile(tmp_path / f"viceversa-{version()}-py3-none-any.whl") as wheel:
            files = set(wheel.namelist())
        for package in PACKAGES:
            assert f"{package}/py.typed" in files
            modules = {str(file.relative_to(ROOT)) for file in (ROOT / package).rglob("*.py")}
            assert modules <= files, modules - files
        assert not [name for name in files if name.partition("/")[0] in {"tests", "benchmarks", "stubs"}]


class TestTiers:
    def test_files_named_in_conftest_exist(self) -> None:
        files = {*conftest.SLOW, *conftest.UNTRACED, *conftest.STACKS, *conftest.LONGEST} - {*conftest.STACKS.values()}
        for path in files:
            assert (ROOT / path).exists(), path

    def test_the_fast_tier_has_no_test_that_needs_servers(self, pytestconfig: pytest.Config) -> None:
        needs_servers = {"running_servers", "no_external_servers"}
        assert needs_servers == conftest.STARTS_SERVERS
        for fixture in needs_servers:
            assert hasattr(conftest, fixture)

    def test_the_fast_tier_tries_fewer_examples(self, request: pytest.FixtureRequest) -> None:
        examples = []

        @hypothesis.settings(max_examples=200, database=None)
        @hypothesis.given(strategies.integers())
        def property_of_numbers(number: int) -> None:
            examples.append(number)

        class Item:
            obj = staticmethod(property_of_numbers)

        conftest.fewer_examples(Item())  # type: ignore[arg-type]  # it has what is looked at
        property_of_numbers()
        assert 0 < len(examples) <= conftest.FAST_EXAMPLES

    def test_the_script_explains_its_options(self) -> None:
        process = subprocess.run([ROOT / "scripts" / "test", "--help"], capture_output=True, text=True, check=True)
        assert "--fast" in process.stdout
