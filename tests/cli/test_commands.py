"""`viceversa`: help texts, error messages with advice, exit codes, and output for scripts."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.connections import redact_password
from cli.installation import Addresses, write_addresses
from cli.main import app
from tests.cli.conftest import Run, parse_json

PROMISED = (
    "up",
    "down",
    "status",
    "import",
    "round",
    "pairing",
    "token",
    "dead-letters",
    "contracts",
    "provision",
    "programme",
    "restored",
    "care",
    "receipt",
    "conflicts",
)


def all_commands() -> list[tuple[str, ...]]:
    """Every command, as the list of its words."""

    def walk(command: Any, arguments: tuple[str, ...]) -> list[tuple[str, ...]]:
        subcommands = getattr(command, "commands", {})
        return [path for name, command in subcommands.items() for path in walk(command, (*arguments, name))] or [
            arguments
        ]

    return walk(get_command(app), ())


class TestCommandHelp:
    @pytest.mark.parametrize("name", PROMISED)
    def test_every_promised_command_exists(self, run: Run, name: str) -> None:
        assert name in run("--help").stdout

    @pytest.mark.parametrize("arguments", all_commands(), ids=" ".join)
    def test_every_command_explains_itself(self, run: Run, arguments: tuple[str, ...]) -> None:
        result = run(*arguments, "--help")
        assert result.exit_code == 0
        assert "viceversa " + " ".join(arguments) in result.stdout or arguments in {
            ("programme", "open"),
            ("programme", "close"),
        }


@pytest.mark.usefixtures("no_external_servers")
class TestWithoutServers:
    @pytest.fixture(autouse=True)
    def use_unreachable_addresses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PROFILES", "MATCHER", "NOTIFIER", "FEEDBACK"):
            monkeypatch.setenv(f"VICEVERSA_{name}_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("VICEVERSA_ISSUER", "http://127.0.0.1:9")

    def test_status_reports_it_and_ends_with_3(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_KAFKA", "127.0.0.1:9")
        monkeypatch.setenv("VICEVERSA_MONGO", "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=200")
        result = run("status", "--json")
        assert result.exit_code == 3
        assert not any(service["ready"] for service in json.loads(result.stdout)["services"])

    @pytest.mark.parametrize("arguments", [("dead-letters", "list"), ("provision",)], ids=" ".join)
    def test_commands_that_need_kafka_report_it_unreachable(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("VICEVERSA_KAFKA", "127.0.0.1:9")
        result = run(*arguments)
        assert result.exit_code == 3
        assert "Kafka cannot be reached" in result.stderr

    def test_down_finds_nothing_to_stop(self, run: Run) -> None:
        result = run("down")
        assert result.exit_code == 0
        assert "Nothing was running" in result.stdout

    @pytest.mark.parametrize(
        "arguments", [("round", "list", "p"), ("pairing", "x"), ("programme", "list")], ids=" ".join
    )
    def test_queries_say_how_to_start_everything(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("VICEVERSA_TOKEN", "anything")
        result = run(*arguments)
        assert result.exit_code == 3
        assert "viceversa up" in result.stderr

    def test_without_an_issuer_no_token_is_issued(self, run: Run) -> None:
        result = run("token", "--as", "admin")
        assert result.exit_code == 1
        assert "viceversa up" in result.stderr

    def test_a_file_to_import_must_exist(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_TOKEN", "anything")
        result = run("import", "there-is-no-such-file.csv")
        assert result.exit_code == 1
        assert "no file" in result.stderr

    def test_an_unreadable_addresses_file_is_named(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "addresses.json").write_text("not JSON")
        result = run("status")
        assert result.exit_code == 1
        assert "addresses.json" in result.stderr


class TestInvalidInput:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("nonsense",),
            ("import",),
            ("import", "a.csv", "--release", "r1"),
            ("round", "compute"),
            ("round", "show", "r1", "--proposals", "-1"),
            ("pairing",),
            ("receipt", "verify"),
            ("conflict", "p1", "perhaps"),
            ("token",),
            ("dead-letters", "list", "nobody"),
            ("dead-letters", "replay", "matcher"),
            ("dead-letters", "replay", "matcher", "3-17", "--all"),
            ("restored", "nobody", "--yes"),
            ("programme", "create", "there-is-no-such-file.json"),
        ],
        ids=" ".join,
    )
    def test_invalid_arguments_end_with_2_and_a_message(self, run: Run, arguments: tuple[str, ...]) -> None:
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr

    def test_a_wrong_setting_is_named_without_its_value(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_MIN_IN_SYNC", "secret")
        result = run("provision")
        assert result.exit_code == 1
        assert "VICEVERSA_MIN_IN_SYNC" in result.stderr
        assert "secret" not in result.stderr


class TestContractCommands:
    def test_the_committed_documents_agree_with_the_models(self, run: Run) -> None:
        assert parse_json(run("contracts", "check", "--json")) == {"outdated": [], "broken": []}

    def test_check_notices_a_change_of_exported_documents(self, run: Run, tmp_path: Path) -> None:
        folder = str(tmp_path / "documents")
        written = parse_json(run("contracts", "export", "--folder", folder, "--json"))
        assert any(name.endswith("asyncapi.json") for name in written)
        assert run("contracts", "check", "--folder", folder).exit_code == 0
        Path(written[0]).write_text("{}")
        changed = run("contracts", "check", "--folder", folder)
        assert changed.exit_code == 1
        assert "viceversa contracts export" in changed.stderr


class TestCommandSecrets:
    @pytest.mark.parametrize(
        ("address", "shown"),
        [
            ("mongodb://127.0.0.1:27017", "mongodb://127.0.0.1:27017"),
            ("mongodb://ann:se%2Fcret@one:1,two:2/db?w=1", "mongodb://one:1,two:2/db?w=1"),
            ("kafka:9092", "kafka:9092"),
        ],
    )
    def test_no_password_is_shown(self, address: str, shown: str) -> None:
        assert redact_password(address) == shown

    def test_only_the_owner_can_read_the_addresses(self, tmp_path: Path) -> None:
        write_addresses(tmp_path, Addresses())
        assert (tmp_path / "addresses.json").stat().st_mode & 0o077 == 0
