"""Settings that are fine on one machine and dangerous beyond it. They are refused unless a setting allows each by name.

``VICEVERSA_ALLOW_INSECURE=kafka,mongo`` says that the network between the services and these servers is trusted.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qs, unquote, urlsplit

Insecure: TypeAlias = Literal["kafka", "mongo", "hmac_key", "issuer"]

INSECURE: Final[tuple[Insecure, ...]] = get_args(Insecure)
PUBLIC_KEY_PREFIX: Final = "development-only"
"""Every key in our own files begins with this text, so that it is known as public."""
REMEDIES: Final = {
    "kafka": "the brokers are not on this machine and KAFKA_PROTOCOL does not encrypt; use SSL or SASL_SSL",
    "mongo": "the database is not on this machine and its connection is not encrypted; add tls=true to MONGO",
    "hmac_key": "HMAC_KEY is a published key, and this is more than one machine; set a key of your own",
    "issuer": "ISSUER is the development issuer of one machine, and this is more than one; set your identity provider",
}


def parse_allowed(text: str) -> frozenset[str]:
    """The names in the setting. Raises ``ValueError`` for an unknown one."""
    names = frozenset(name for part in text.split(",") if (name := part.strip()))
    if unknown := names - set(INSECURE):
        raise ValueError(f"must be names out of {', '.join(INSECURE)}; {len(unknown)} are not")
    return names


def is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_remote(hosts: Iterable[str | None]) -> bool:
    return not all(is_loopback(host) for host in hosts)


def is_kafka_insecure(servers: Sequence[str], protocol: str) -> bool:
    return not protocol.endswith("SSL") and is_remote(urlsplit(f"//{server}").hostname for server in servers)


def is_mongo_insecure(url: str) -> bool:
    """Whether a connection string names a server elsewhere without TLS. A path of a socket is on this machine."""
    parts = urlsplit(url)
    options = {name.lower(): values[-1].lower() for name, values in parse_qs(parts.query).items()}
    tls = options.get("tls", options.get("ssl", "true" if parts.scheme == "mongodb+srv" else "false"))
    return tls != "true" and is_remote(mongo_hosts(url))


def mongo_hosts(url: str) -> list[str | None]:
    """The hosts of a connection string, without those that are sockets of this machine."""
    _, _, addresses = urlsplit(url).netloc.rpartition("@")
    return [urlsplit(f"//{part}").hostname for part in addresses.split(",") if not unquote(part).startswith("/")]


def is_public_key(key: str) -> bool:
    return key.startswith(PUBLIC_KEY_PREFIX)


def is_development_issuer(url: str) -> bool:
    """Whether tokens come from the issuer of one machine. Whoever reads its key file may sign."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_remote([parts.hostname])
