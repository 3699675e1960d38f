"""The reason why no broker can be used: down, an untrusted certificate, or a refused login."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis.core.connection import Connection
from chassis.messaging.kafka import Producer
from chassis.messaging.reachability import BrokersUnreachable, explain_failure, start_producer
from chassis.observability.telemetry import safe_message
from deploy.local import ports


def make_certificate(folder: Path) -> Path:
    """A certificate for this machine with its key in one PEM file, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return path


@asynccontextmanager
async def listening(certificate: Path | None = None) -> AsyncIterator[str]:
    """A server that closes each connection, as a broker does after a refused login. Yields its address."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "localhost", ports.any_free(), ssl=context)
    async with server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"


class TestExplainFailure:
    async def test_server_that_is_down_is_told_from_an_unknown_name(self) -> None:
        port = ports.any_free()
        reason = await explain_failure(Connection(f"127.0.0.1:{port},kafka.invalid:9092"))
        down, unknown = reason.split("; ")
        assert down == f"127.0.0.1:{port}: connection refused"
        assert unknown.startswith("kafka.invalid:9092: ")
        assert "refused" not in unknown

    async def test_untrusted_certificate_names_the_setting(self, tmp_path: Path) -> None:
        async with listening(make_certificate(tmp_path)) as server:
            reason = await explain_failure(Connection(server, protocol="SSL"))
        assert "certificate is not trusted" in reason
        assert "VICEVERSA_KAFKA_CA_FILE" in reason

    async def test_server_without_tls_names_the_protocol(self) -> None:
        async with listening() as server:
            reason = await explain_failure(Connection(server, protocol="SSL"))
        assert "certificate" not in reason
        assert "refused" not in reason

    async def test_refused_login_names_settings_and_not_their_values(self, tmp_path: Path) -> None:
        certificate = make_certificate(tmp_path)
        async with listening(certificate) as server:
            connection = Connection(server, "SASL_SSL", "SCRAM-SHA-256", "matcher", "s3cret", str(certificate))
            reason = await explain_failure(connection)
        assert "refuses the login" in reason
        assert "VICEVERSA_KAFKA_USERNAME" in reason
        assert "s3cret" not in reason

    async def test_start_raises_the_reason_in_a_form_for_health(self) -> None:
        connection = Connection(f"127.0.0.1:{ports.any_free()}")
        with pytest.raises(BrokersUnreachable) as raised:
            await start_producer(Producer(connection), connection)
        assert safe_message(raised.value).endswith(": connection refused")
