"""Settings: environment variables with the prefix ``VICEVERSA_``. A wrong one stops the process at its start.

An error names the variable and the remedy. It never repeats the value, which may be a secret.
"""

import os
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from chassis.core.connection import Connection, split_servers
from chassis.core.insecure_settings import (
    REMEDIES,
    is_development_issuer,
    is_kafka_insecure,
    is_loopback,
    is_mongo_insecure,
    is_public_key,
    is_remote,
    mongo_hosts,
    parse_allowed,
)
from chassis.core.token_settings import (
    ACCESS_TOKEN_TYPE,
    ASYMMETRIC_ALGORITHMS,
    parse_claim_path,
    parse_claim_values,
    parse_names,
    parse_role_map,
    parse_token_type,
)

PREFIX = "VICEVERSA_"
MAX_PORT = 65535
MANAGEMENT_PORT_DISTANCE = 1000  # between the ports of HTTP and of metrics and health
MIN_TYPO_SIMILARITY = 0.8  # an unknown variable that is this similar to a setting counts as a typing error

M = TypeVar("M", bound=BaseSettings)
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_names)]


class SettingsError(Exception):
    """Some settings are wrong or missing. The message has a line for each of them."""


class SettingsSection(BaseSettings):
    """Base of a group of settings. A service may have a group of its own, whose prefix begins with ``VICEVERSA_``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True
    )


class Settings(SettingsSection):
    """The settings of every service. The description of a field is its text in ``.env.example``."""

    kafka: str = Field(
        "127.0.0.1:9092",
        min_length=1,
        description="Kafka's bootstrap servers: host:port, or several with commas between.",
    )
    kafka_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka's security protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="The SASL mechanism, for a SASL protocol: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    kafka_username: str | None = Field(None, description="The SASL user name.")
    kafka_password: SecretStr | None = Field(None, description="The SASL password.")
    kafka_ca_file: Path | None = Field(
        None,
        description="A PEM file with the authority of the brokers' certificates; without it, the system's authorities.",
    )
    mongo: SecretStr = Field(
        SecretStr("mongodb://127.0.0.1:27017"),
        description="MongoDB's connection string, with user and password if it needs them.",
    )
    mongo_profile: Literal["mongodb", "embedded"] = Field(
        "mongodb", description="The kind of store: mongodb, or embedded for the store that `viceversa up` starts."
    )
    topic_prefix: str = Field(
        "mentoring.",
        pattern=r"^[a-z][a-z0-9_-]{0,30}\.$",
        description="The prefix of the names of topics, consumer groups and databases; ends with a dot.",
    )
    create_topics: Literal["auto", "no"] = Field(
        "auto",
        description="Whether a service creates missing topics: auto, or no where only `viceversa provision` may.",
    )
    replication: int = Field(
        1, ge=1, le=9, description="Replicas of each topic that provisioning creates: 1 on one broker, 3 in production."
    )
    min_in_sync: int = Field(
        1,
        ge=1,
        le=9,
        description="Replicas that must hold a record before it is acknowledged: 1 on one broker, 2 in production.",
    )
    drain_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="Seconds between SIGTERM and the end of HTTP. Meanwhile the service is not ready and still answers,"
        " so that load balancers send their requests elsewhere.",
    )
    http_host: str = Field("127.0.0.1", min_length=1, description="The address to listen on; 0.0.0.0 in a container.")
    http_port: int | None = Field(
        None, ge=1, le=65535, description="The port to listen on; without it, the service's default port."
    )
    management_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="The address of metrics and health, which no user should reach; 0.0.0.0 in a container whose "
        "management port is reachable for probes and Prometheus alone.",
    )
    management_port: int | None = Field(
        None, ge=1, le=65535, description="The port of metrics and health; without it, the port of HTTP plus 1000."
    )
    issuer: str = Field(
        "http://127.0.0.1:8100", description="The OIDC issuer of the tokens, exactly as in their `iss`."
    )
    audience: str = Field("viceversa", min_length=1, description="What the `aud` of a token must contain.")
    jwks_url: str | None = Field(
        None,
        description="Where the issuer's keys are: https:, file:, or http: on this machine. Without it, as the issuer's "
        "discovery document says.",
    )
    token_algorithms: Names = Field(
        ASYMMETRIC_ALGORITHMS,
        description="The signature algorithms that count, separated by commas. The key must allow them too; HMAC and "
        "`none` never count.",
    )
    token_types: Names = Field(
        (ACCESS_TOKEN_TYPE,),
        description="The `typ` in the header of an access token, separated by commas: at+jwt is RFC 9068. `JWT`, and "
        f"`none` for no `typ`, do not tell it from an ID token: then {PREFIX}ACCESS_TOKEN_CLAIMS must.",
    )
    access_token_claims: str = Field(
        "",
        description="What the claims of every token must be, separated by commas: typ=Bearer, azp=portal|app, or scp "
        "alone for any value. Choose claims that an ID token of your provider does not have.",
    )
    id_token_claims: Names = Field(
        ("nonce", "at_hash", "c_hash", "s_hash"),
        description="Claims that only an ID token has, separated by commas: a token with one of them is refused.",
    )
    member_claim: str = Field(
        "member_id",
        min_length=1,
        description="The claim with the member's id; a dotted path reaches into objects. A dot within a name is "
        "written \\., as in resource_access.my\\.client.id; /resource_access/my.client/id says the same.",
    )
    roles_claim: str = Field(
        "roles", min_length=1, description="The claim with the roles, e.g. realm_access.roles; a list or a text."
    )
    role_map: str = Field(
        "",
        description="The provider's names of roles or groups, each with our role: "
        "viceversa-admins=admin,/groups/hr=coordinator; or a JSON object, for names with commas. Then no other name "
        "gives a role.",
    )
    role_prefix: str = Field(
        "", description="What our roles begin with at the provider, e.g. ROLE_. Then names without it give no role."
    )
    programmes_claim: str = Field(
        "programmes",
        min_length=1,
        description="The claim with the ids of the programmes that a coordinator looks after.",
    )
    no_member_claim: str = Field(
        "no_member",
        min_length=1,
        description="The claim that says, with true, that no member is behind an account. Without member id, only "
        "such accounts see single pairings.",
    )
    no_member_subjects: Names = Field(
        (), description="The `sub` of accounts behind which no member is, separated by commas; as the claim says it."
    )
    hmac_key: SecretStr | None = Field(
        None,
        description="The key under which identifiers of erased people are kept as an HMAC, so that an import does not "
        "bring them back: 32 characters or more, the same for ever. Needed by services that import people.",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="The OTLP/HTTP endpoint for traces, e.g. http://collector:4318; without it, no traces are sent.",
    )
    clock: Path | None = Field(
        None, description="The file of business time, shared by all processes; without it, business time is real time."
    )
    instance: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="This replica's stable name, unique in its service: it keeps its partitions over a restart. "
        "Without it, host, service and process name the replica, and it leaves its consumer group when it stops.",
    )
    allow_insecure: str = Field(
        "",
        description="What may be insecure beyond this machine, with commas between: kafka and mongo (connections "
        "without TLS), hmac_key (a published key), issuer (the development issuer). For networks that you trust.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The lowest level that is logged: DEBUG, INFO, WARNING or ERROR."
    )
    max_body_bytes: int = Field(256 * 1024, ge=1024, description="The largest body of a request.")
    max_upload_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="The largest file in a request that uploads one."
    )
    max_requests: int = Field(
        200, ge=1, le=10_000, description="Requests answered at the same time; requests beyond that get a 503."
    )
    max_requests_per_client: int = Field(
        50,
        ge=1,
        le=10_000,
        description="Requests of one caller answered at the same time; requests beyond that get a 429.",
    )
    max_connections: int = Field(
        1000,
        ge=10,
        le=100_000,
        description="Open connections, more than VICEVERSA_MAX_REQUESTS. Beyond that, the one that has waited longest "
        "is closed, first of those without an accepted token.",
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=4096, le=1024 * 1024, description="All headers of a request together; larger ones get a 431."
    )
    max_url_bytes: int = Field(
        8 * 1024, ge=1024, le=64 * 1024, description="The longest path with its query; a longer one gets a 414."
    )
    header_timeout_s: float = Field(
        10.0, ge=0.1, le=600, description="Seconds in which the headers of a request must arrive; then it gets a 408."
    )
    body_timeout_s: float = Field(
        20.0,
        ge=0.1,
        le=600,
        description="Seconds to wait for a body, besides those that its size takes at VICEVERSA_MIN_BYTES_PER_S; a "
        "slower client gets a 408.",
    )
    min_bytes_per_s: int = Field(
        8 * 1024, ge=1, le=1024 * 1024, description="The slowest client whose large bodies and answers are waited for."
    )
    send_timeout_s: float = Field(
        20.0,
        ge=0.1,
        le=600,
        description="Seconds in which a client must read an answer, besides those that its size takes at "
        "VICEVERSA_MIN_BYTES_PER_S; then its connection is closed.",
    )
    hsts_max_age_s: int = Field(
        0,
        ge=0,
        le=63_072_000,
        description="The max-age of Strict-Transport-Security, e.g. 31536000. Set it where TLS ends in front of the "
        "service; 0 sends no such header.",
    )

    @field_validator("kafka")
    @classmethod
    def _check_servers(cls, value: str) -> str:
        return ",".join(split_servers(value))

    @field_validator("issuer", "otlp_endpoint")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("must be a URL that begins with http:// or https://")
        return value

    @field_validator("token_algorithms")
    @classmethod
    def _check_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(ASYMMETRIC_ALGORITHMS):
            raise ValueError(f"must be one or more of {', '.join(ASYMMETRIC_ALGORITHMS)}")
        return value

    @field_validator("token_types")
    @classmethod
    def _to_short_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name at least one type")
        return tuple(parse_token_type(name) for name in value)

    @field_validator("member_claim", "roles_claim", "programmes_claim", "no_member_claim")
    @classmethod
    def _check_claim_path(cls, value: str) -> str:
        parse_claim_path(value)
        return value

    @field_validator("access_token_claims")
    @classmethod
    def _check_claim_values(cls, value: str) -> str:
        parse_claim_values(value)
        return value

    @field_validator("role_map")
    @classmethod
    def _check_role_map(cls, value: str) -> str:
        parse_role_map(value)
        return value

    @field_validator("allow_insecure")
    @classmethod
    def _check_allowed(cls, value: str) -> str:
        parse_allowed(value)
        return value

    @field_validator("mongo")
    @classmethod
    def _check_mongo_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("must begin with mongodb:// or mongodb+srv://")
        return value

    @field_validator("hmac_key")
    @classmethod
    def _check_key_length(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("must have 32 characters or more")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _check_jwks_url(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https:")
        if parts.scheme in ("https", "file") or (parts.scheme == "http" and is_loopback(parts.hostname)):
            return value
        raise ValueError(
            "must begin with https: or file:, since an attacker who replaces the keys in transit can sign tokens"
        )

    @field_validator("log_level", mode="before")
    @classmethod
    def _to_upper_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_combinations(self) -> "Settings":
        if self.kafka_protocol.startswith("SASL") and not (
            self.kafka_mechanism and self.kafka_username and self.kafka_password
        ):
            raise ValueError(
                f"with {PREFIX}KAFKA_PROTOCOL={self.kafka_protocol}, set {PREFIX}KAFKA_MECHANISM, "
                f"{PREFIX}KAFKA_USERNAME and {PREFIX}KAFKA_PASSWORD"
            )
        if self.min_in_sync > self.replication:
            raise ValueError(f"{PREFIX}MIN_IN_SYNC cannot be more than {PREFIX}REPLICATION")
        if set(self.token_types) != {ACCESS_TOKEN_TYPE} and not parse_claim_values(self.access_token_claims):
            raise ValueError(
                f"{PREFIX}TOKEN_TYPES has more than {ACCESS_TOKEN_TYPE}, so ID tokens would pass; set "
                f"{PREFIX}ACCESS_TOKEN_CLAIMS to claims that only access tokens have, such as typ=Bearer or azp=CLIENT"
            )
        if self.max_connections <= self.max_requests:
            raise ValueError(f"{PREFIX}MAX_CONNECTIONS must be more than {PREFIX}MAX_REQUESTS")
        self._refuse_insecure(
            kafka=is_kafka_insecure(split_servers(self.kafka), self.kafka_protocol),
            mongo=is_mongo_insecure(self.mongo_url()),
        )
        parts = urlsplit(self.issuer)
        if self.jwks_url is None and parts.scheme != "https" and not is_loopback(parts.hostname):
            raise ValueError(
                f"{PREFIX}ISSUER is not https, so its keys cannot be trusted in transit; set {PREFIX}JWKS_URL to an "
                "https: or file: URL of the keys"
            )
        return self

    def _refuse_insecure(self, **observed: bool) -> None:
        """Raises ``ValueError`` for what was observed and is not allowed."""
        allowed = parse_allowed(self.allow_insecure)
        refused = [name for name, is_observed in observed.items() if is_observed and name not in allowed]
        if refused:
            raise ValueError(
                "; ".join(REMEDIES[name] for name in refused)
                + f". On a network that you trust, set {PREFIX}ALLOW_INSECURE={','.join(sorted({*allowed, *refused}))}"
            )

    def require_secure_service(self) -> None:
        """Refuse what a service must not rely on beyond one machine. Raises ``SettingsError``."""
        hosts = [urlsplit(f"//{server}").hostname for server in split_servers(self.kafka)]
        if not is_remote([*hosts, *mongo_hosts(self.mongo_url()), self.http_host]):
            return
        key = self.hmac_key.get_secret_value() if self.hmac_key else ""
        try:
            self._refuse_insecure(hmac_key=is_public_key(key), issuer=is_development_issuer(self.issuer))
        except ValueError as error:
            raise SettingsError(f"  {error}") from None

    def connection(self) -> Connection:
        """How to reach the Kafka brokers."""
        return Connection(
            servers=self.kafka,
            protocol=self.kafka_protocol,
            mechanism=self.kafka_mechanism,
            username=self.kafka_username,
            password=self.kafka_password.get_secret_value() if self.kafka_password else None,
            ca_file=str(self.kafka_ca_file) if self.kafka_ca_file else None,
        )

    def mongo_url(self) -> str:
        return self.mongo.get_secret_value()

    def database_name(self, service: str) -> str:
        return self.topic_prefix.replace(".", "_") + service

    def consumer_group(self, service: str) -> str:
        """The name of a service's consumer group."""
        return self.topic_prefix + service

    def instance_name(self, service: str) -> str:
        """The name of this replica in logs and traces. ``instance`` alone makes it a static member of its group."""
        return self.instance or f"{socket.gethostname()}-{service}-{os.getpid()}"

    def port(self) -> int:
        if self.http_port is None:
            raise LookupError("no port is set, and the process has no default port")
        return self.http_port

    def find_management_port(self) -> int:
        """The management port. Raises ``SettingsError`` when it follows from no other setting."""
        port = self.management_port or self.port() + MANAGEMENT_PORT_DISTANCE
        if port > MAX_PORT:
            raise SettingsError(
                f"  {PREFIX}MANAGEMENT_PORT: must be set, since {PREFIX}HTTP_PORT plus 1000 is no port."
            )
        return port

    def required_hmac_key(self) -> bytes:
        """The HMAC key. Raises ``SettingsError`` when it is missing."""
        if self.hmac_key is None:
            raise SettingsError(f"  {PREFIX}HMAC_KEY: is needed here. {_describe(Settings.model_fields['hmac_key'])}")
        return self.hmac_key.get_secret_value().encode()


def load_settings(default_port: int | None = None) -> Settings:
    """The settings of this process. Raises ``SettingsError``, also for a variable that looks like a typing error.

    Without another setting, the port is ``default_port``.
    """
    typos = _find_typos(os.environ)
    if typos:
        raise SettingsError("\n".join(typos))
    settings = load_section(Settings)
    settings.require_secure_service()
    return settings.model_copy(update={"http_port": settings.http_port or default_port})


def load_section(model: type[M]) -> M:
    """Read one group of settings from the environment. Raises ``SettingsError``."""
    try:
        return model()
    except ValidationError as error:
        lines = []
        for detail in error.errors(include_input=False, include_context=False, include_url=False):
            field = str(detail["loc"][0]) if detail["loc"] else None
            message = detail["msg"].removeprefix("Value error, ")
            info = model.model_fields.get(field or "")
            lines.append(
                f"  {_variable_name(model, field)}: {message}. {_describe(info)}" if info and field else f"  {message}"
            )
        raise SettingsError("\n".join(dict.fromkeys(lines))) from None  # the original error shows the value


def render_env_example(*models: type[BaseSettings]) -> str:
    """The text of ``.env.example``: every setting with its description, commented out with its default."""
    lines = [
        "# Every setting of Viceversa, with its default. All are environment variables; set those that are to differ.",
        "# This file is made by: python -m chassis.core.settings > .env.example",
    ]
    for model in models:
        for name, info in model.model_fields.items():
            lines += ["", f"# {_describe(info)}", f"# {_variable_name(model, name)}={_default_text(info)}"]
    return "\n".join(lines) + "\n"


def _find_typos(environment: Mapping[str, str]) -> list[str]:
    names = [name.upper() for name in Settings.model_fields]
    typos = []
    for variable in sorted(environment):
        rest = variable.removeprefix(PREFIX)
        if rest != variable and rest not in names and (close := get_close_matches(rest, names, 1, MIN_TYPO_SIMILARITY)):
            typos.append(f"  {variable}: is not a setting. Did you mean {PREFIX}{close[0]}?")
    return typos


def _variable_name(model: type[BaseSettings], field: str | None) -> str:
    return f"{model.model_config.get('env_prefix', '')}{field}".upper()


def _describe(info: FieldInfo | None) -> str:
    return (info.description if info else None) or ""


def _default_text(info: FieldInfo) -> str:
    value: Any = info.get_default()
    if isinstance(value, SecretStr):
        value = value.get_secret_value()  # a default is not a secret
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, tuple):
        value = ",".join(value)
    return "" if value is None or info.is_required() else str(value)


if __name__ == "__main__":
    import sys

    sys.stdout.write(render_env_example(Settings))
