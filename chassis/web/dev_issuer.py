"""A token issuer for one machine: development, tests and the demo. Started as ``python -m chassis.web.dev_issuer``.

It publishes its key and issues no token over HTTP: ``chassis.web.dev_tokens`` makes tokens with the key file. It
refuses to listen on any address but loopback.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from chassis.core.settings import SettingsError, is_loopback, load_settings
from chassis.observability import logs
from chassis.web.dev_tokens import ALGORITHM, ISSUER, load_signing_key, public_jwks

PORT = 8100


class NotLoopback(ValueError):
    """The local issuer was asked to listen where others could reach it."""


def create_issuer(data: Path, issuer: str = ISSUER) -> FastAPI:
    app = FastAPI(title="Local issuer", docs_url=None, redoc_url=None, openapi_url=None)
    load_signing_key(data)

    @app.get("/.well-known/openid-configuration")
    def configuration() -> dict[str, object]:
        return {
            "issuer": issuer,
            "jwks_uri": f"{issuer.rstrip('/')}/jwks",
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "subject_types_supported": ["public"],
            "response_types_supported": ["none"],
        }

    @app.get("/jwks")
    def keys() -> dict[str, object]:
        return public_jwks(data)

    @app.get("/health/live")
    @app.get("/health/ready")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def serve_issuer(data: Path, host: str, port: int, issuer: str) -> None:
    """Answer until the process is told to stop. Raises ``NotLoopback``."""
    if not is_loopback(host):
        raise NotLoopback("the local issuer listens on this machine's loopback only; use a real one for anything else")
    uvicorn.run(create_issuer(data, issuer), host=host, port=port, log_config=None, access_log=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m chassis.web.dev_issuer", description="The token issuer of one machine."
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("VICEVERSA_DATA", ".viceversa")))
    parser.add_argument(
        "--write-keys", type=Path, metavar="FILE", help="write the public keys for VICEVERSA_JWKS_URL=file:..., and end"
    )
    chosen = parser.parse_args(arguments)
    if chosen.write_keys:
        chosen.write_keys.write_text(json.dumps(public_jwks(chosen.data)), encoding="utf-8")
        return
    try:
        settings = load_settings("issuer")
        logs.configure("issuer", settings.instance_name("issuer"), settings.log_level)
        port = settings.http_port or urlsplit(settings.issuer).port or PORT
        serve_issuer(chosen.data, settings.http_host, port, settings.issuer)
    except (SettingsError, NotLoopback) as error:
        sys.stderr.write(f"issuer cannot start:\n{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
