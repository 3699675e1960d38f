"""The page that describes the API for people: Swagger UI, served by ourselves.

The files come from a package, so the page asks nobody else and works without the internet. It runs under a policy that
allows our own files alone. FastAPI's own page loads them from a CDN, and has an inline script.
"""

from functools import cache
from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter, Response

from chassis.web.problems import not_found

PREFIX = "/docs"
PATHS = frozenset({PREFIX, f"{PREFIX}/start.js", f"{PREFIX}/{{name}}"})
"""The routes of this page; they need no token, as the description of the API needs none."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The API of Viceversa</title>
<link rel="icon" type="image/png" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_PACKAGED = files("fastapi_offline") / "static"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".png": "image/png"}
PACKAGED_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")

router = APIRouter(prefix=PREFIX, include_in_schema=False)


@router.get("")
async def get_page() -> Response:
    return Response(PAGE, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})


@router.get("/start.js")
async def get_start() -> Response:
    return Response(START, media_type=_TYPES[".js"])


@router.get("/{name}")
async def get_packaged_file(name: str) -> Response:
    """One of the package's files; no other file can be named."""
    if name not in PACKAGED_FILES:
        raise not_found("file")
    return Response(_read(name), media_type=_TYPES[PurePath(name).suffix])


@cache
def _read(name: str) -> bytes:
    return (_PACKAGED / name).read_bytes()
