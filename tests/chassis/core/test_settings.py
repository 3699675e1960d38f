"""A wrong setting stops the process. The message names the setting and the remedy, and never repeats a secret."""

import importlib
import importlib.util
import os
import socket
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from chassis.core.settings import PREFIX, Settings, SettingsError, load_settings, render_env_example

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def _models() -> list[type[BaseSettings]]:
    """The settings of the chassis, and those of single services."""
    models: list[type[BaseSettings]] = [Settings]
    for folder in sorted((ROOT / "services").iterdir()):
        if (folder / "settings.py").exists():
            module = importlib.import_module(f"services.{folder.name}.settings")
            models += [
                member
                for member in vars(module).values()
                if isinstance(member, type)
                and issubclass(member, BaseSettings)
                and member.__module__ == module.__name__
            ]
    return models


def _after_head(text: str) -> str:
    return text.split("\n\n", 1)[1]


class TestSettingsDefaults:
    def test_one_machine_needs_no_settings(self) -> None:
        settings = load_settings(default_port=8107)
        assert settings.connection().servers == "127.0.0.1:9092"
        assert settings.mongo_url() == "mongodb://127.0.0.1:27017"
        assert settings.port() == 8107
        assert settings.instance is None
        assert settings.instance_name("alpha") == f"{socket.gethostname()}-alpha-{os.getpid()}"

    def test_prefix_starts_names_of_groups_and_databases(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_TOPIC_PREFIX", "t0123abcd.")
        settings = load_settings()
        assert (settings.consumer_group("alpha"), settings.database_name("alpha")) == (
            "t0123abcd.alpha",
            "t0123abcd_alpha",
        )

    def test_configured_port_overrides_the_default_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_HTTP_PORT", "9000")
        assert load_settings(default_port=8107).port() == 9000


class TestBootstrapServers:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("kafka-1:9092,kafka-2:9093", ["kafka-1:9092", "kafka-2:9093"]),
            (" kafka-1:9092 ,\tkafka-2:9092,", ["kafka-1:9092", "kafka-2:9092"]),
            ("[::1]:9092,[2001:db8::7]:9093", ["[::1]:9092", "[2001:db8::7]:9093"]),
            ("kafka", ["kafka"]),
        ],
    )
    def test_list_is_split(self, monkeypatch: pytest.MonkeyPatch, value: str, expected: list[str]) -> None:
        monkeypatch.setenv("VICEVERSA_KAFKA", value)
        monkeypatch.setenv("VICEVERSA_ALLOW_INSECURE", "kafka,issuer")
        assert load_settings().connection().client_arguments()["bootstrap_servers"] == expected


class TestWrongSettings:
    @pytest.mark.parametrize(
        ("variable", "value", "expected"),
        [
            ("VICEVERSA_TOPIC_PREFIX", "no-dot-at-its-end", "VICEVERSA_TOPIC_PREFIX"),
            ("VICEVERSA_KAFKA", " , ", "at least one server"),
            ("VICEVERSA_KAFKA", "PLAINTEXT://kafka:9092", "must be host:port"),
            ("VICEVERSA_KAFKA", "kafka-1:9092,maria:opensesame@kafka-2:9092", "must be host:port"),
            ("VICEVERSA_KAFKA", "kafka-1:9092 kafka-2:9092", "must be host:port"),
            ("VICEVERSA_KAFKA", "kafka:many", "must be host:port"),
            ("VICEVERSA_REPLICATION", "many", "VICEVERSA_REPLICATION"),
            ("VICEVERSA_MONGO", "postgres://maria:opensesame@host", "must begin with mongodb://"),
            ("VICEVERSA_HMAC_KEY", "opensesame", "32 characters"),
            ("VICEVERSA_ISSUER", "idp.example.com", "must be a URL"),
            ("VICEVERSA_ISSUER", "http://idp.example.com", "VICEVERSA_JWKS_URL"),
            ("VICEVERSA_JWKS_URL", "http://idp.example.com/keys", "must begin with https: or file:"),
            ("VICEVERSA_KAFKA_PROTOCOL", "SASL_SSL", "VICEVERSA_KAFKA_USERNAME"),
            ("VICEVERSA_MIN_IN_SYNC", "3", "cannot be more than VICEVERSA_REPLICATION"),
            ("VICEVERSA_LOG_LEVEL", "chatty", "VICEVERSA_LOG_LEVEL"),
        ],
    )
    def test_error_names_the_variable_but_not_its_value(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
    ) -> None:
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError) as raised:
            load_settings()
        text = str(raised.value)
        assert expected in text
        assert "opensesame" not in text
        assert raised.value.__cause__ is None, "pydantic's own error would show the value"

    def test_all_errors_are_reported_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_REPLICATION", "many")
        monkeypatch.setenv("VICEVERSA_HTTP_PORT", "-1")
        with pytest.raises(SettingsError, match=r"VICEVERSA_REPLICATION.*\n.*VICEVERSA_HTTP_PORT"):
            load_settings()

    def test_misspelt_variable_is_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_TOPIC_PREFFIX", "t0123abcd.")
        with pytest.raises(SettingsError, match="Did you mean VICEVERSA_TOPIC_PREFIX"):
            load_settings()

    @pytest.mark.parametrize("variable", ["DATA", "CACHE", "PYTHON", "MAVEN_REPOSITORY", "MATCHER_URL", "ISSUER_URL"])
    def test_variables_of_other_tools_are_ignored(self, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        monkeypatch.setenv(PREFIX + variable, "whatever")
        load_settings()

    def test_missing_hmac_key_is_reported(self) -> None:
        with pytest.raises(SettingsError, match="VICEVERSA_HMAC_KEY"):
            load_settings().required_hmac_key()


class TestSettingsSecrets:
    def test_secrets_are_not_in_the_repr(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_MONGO", "mongodb://maria:opensesame@host/?tls=true")
        monkeypatch.setenv("VICEVERSA_KAFKA_PASSWORD", "opensesame")
        monkeypatch.setenv("VICEVERSA_ISSUER", "https://login.example")
        settings = load_settings()
        assert "opensesame" not in repr(settings)
        assert "opensesame" not in repr(settings.connection())


ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - as in a container
REMOTE_KAFKA = {"KAFKA": "127.0.0.1:9092,kafka-2.example:9092"}
ENCRYPTED = {"KAFKA": "kafka.example:9093", "KAFKA_PROTOCOL": "SSL", "MONGO": "mongodb+srv://db.example/"}
OWN = {"ISSUER": "https://login.example", "HMAC_KEY": "k" * 32}


class TestInsecureSettings:
    @pytest.mark.parametrize(
        ("name", "variables"),
        [
            ("kafka", {**OWN, **REMOTE_KAFKA}),
            ("kafka", {**OWN, "KAFKA": "10.0.0.7:9092"}),
            ("mongo", {**OWN, "MONGO": "mongodb://db.example:27017"}),
            ("mongo", {**OWN, "MONGO": "mongodb://u:p@127.0.0.1,db.example/?replicaSet=a"}),
            ("mongo", {**OWN, "MONGO": "mongodb+srv://db.example/?tls=false"}),
            ("hmac_key", {**ENCRYPTED, **OWN, "HMAC_KEY": "development-only-0123456789abcdef"}),
            ("hmac_key", {**OWN, "HTTP_HOST": ALL_INTERFACES, "HMAC_KEY": "development-only-0123456789abcdef"}),
            ("issuer", {**ENCRYPTED, "HMAC_KEY": "k" * 32}),
            ("issuer", {"HTTP_HOST": ALL_INTERFACES, "JWKS_URL": "file:///keys/jwks.json"}),
        ],
    )
    def test_beyond_one_machine_it_must_be_allowed_by_name(
        self, monkeypatch: pytest.MonkeyPatch, name: str, variables: dict[str, str]
    ) -> None:
        for variable, value in variables.items():
            monkeypatch.setenv(PREFIX + variable, value)
        with pytest.raises(SettingsError, match=f"VICEVERSA_ALLOW_INSECURE={name}"):
            load_settings()
        monkeypatch.setenv("VICEVERSA_ALLOW_INSECURE", name)
        assert load_settings().allow_insecure == name

    @pytest.mark.parametrize(
        "variables",
        [
            {**OWN, **ENCRYPTED},
            {**OWN, **ENCRYPTED, "HTTP_HOST": ALL_INTERFACES},
            {**OWN, "MONGO": "mongodb://db.example/?tls=true"},
            {**OWN, "MONGO": "mongodb://%2Ftmp%2Fmongodb-27017.sock/"},
            {"HMAC_KEY": "development-only-0123456789abcdef", "KAFKA": "[::1]:9092"},
        ],
    )
    def test_what_is_secure_or_local_needs_no_allowance(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
    ) -> None:
        for variable, value in variables.items():
            monkeypatch.setenv(PREFIX + variable, value)
        assert load_settings().allow_insecure == ""

    def test_an_unknown_name_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VICEVERSA_ALLOW_INSECURE", "kafka,everything")
        with pytest.raises(SettingsError, match="kafka, mongo, hmac_key, issuer"):
            load_settings()


class TestEnvExample:
    def test_example_lists_every_setting_with_its_description(self) -> None:
        text = (ROOT / ".env.example").read_text(encoding="utf-8")
        for model in _models():
            assert all(info.description for info in model.model_fields.values()), (
                f"{model} has a setting without a description"
            )
            assert _after_head(render_env_example(model)) in text, "run: python -m chassis.core.settings > .env.example"
