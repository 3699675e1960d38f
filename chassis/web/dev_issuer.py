"""A token issuer for one machine: for development, tests and the demo. Start: ``python -m chassis.web.dev_issuer``.

It only publishes its key. It issues no token over HTTP: ``chassis.web.dev_tokens`` issues tokens with the key file. It
listens on a loopback address only.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request

from chassis.core.insecure_settings import is_loopback
from chassis.core.settings import SettingsError, load_settings
from chassis.observability import logs
from chassis.web.dev_tokens import ALGORITHM, ISSUER, load_signing_key, public_jwks
from chassis.web.server import KEEP_ALIVE_TIMEOUT_S

DEFAULT_PORT = 8100


class NotLoopback(ValueError):
    """The local issuer must not listen on an address that other machines can reach."""


router = APIRouter()


def _data_folder(request: Request) -> Path:
    folder: Path = request.app.state.data_folder
    return folder


@router.get("/.well-known/openid-configuration")
def get_configuration(request: Request) -> dict[str, object]:
    issuer: str = request.app.state.issuer
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer.rstrip('/')}/jwks",
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "subject_types_supported": ["public"],
        "response_types_supported": ["none"],
    }


@router.get("/jwks")
def get_keys(data_folder: Annotated[Path, Depends(_data_folder)]) -> dict[str, object]:
    return public_jwks(data_folder)


@router.get("/health/live")
@router.get("/health/ready")
def get_health() -> dict[str, str]:
    return {"status": "ok"}


def create_issuer(data_folder: Path, issuer: str = ISSUER) -> FastAPI:
    """The issuer's application. Creates the signing key if the data folder has none."""
    app = FastAPI(title="Local issuer", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.data_folder, app.state.issuer = data_folder, issuer
    load_signing_key(data_folder)
    app.include_router(router)
    return app


def serve_issuer(data_folder: Path, host: str, port: int, issuer: str) -> None:
    """Serve until the process is stopped. Raises ``NotLoopback``."""
    if not is_loopback(host):
        raise NotLoopback("the local issuer listens on this machine's loopback only; use a real one for anything else")
    uvicorn.run(
        create_issuer(data_folder, issuer),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT_S,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m chassis.web.dev_issuer", description="The token issuer of one machine."
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("VICEVERSA_DATA", ".viceversa")))
    parser.add_argument(
        "--write-keys",
        type=Path,
        metavar="FILE",
        help="write the public keys to FILE for VICEVERSA_JWKS_URL=file:..., and exit",
    )
    options = parser.parse_args(arguments)
    if options.write_keys:
        options.write_keys.write_text(json.dumps(public_jwks(options.data)), encoding="utf-8")
        return
    try:
        settings = load_settings()
        logs.configure("issuer", settings.instance_name("issuer"), settings.log_level)
        port = settings.http_port or urlsplit(settings.issuer).port or DEFAULT_PORT
        serve_issuer(options.data, settings.http_host, port, settings.issuer)
    except (SettingsError, NotLoopback) as error:
        sys.stderr.write(f"issuer cannot start:\n{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
