"""The headers of every response of ours, also of refusals and errors."""

from collections.abc import Mapping

from chassis.core.settings import Settings

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def security_headers(settings: Settings) -> Mapping[str, str]:
    """What a browser may do with a response of ours: nothing. Strict-Transport-Security follows a setting."""
    if not settings.hsts_max_age_s:
        return _HEADERS
    return {**_HEADERS, "Strict-Transport-Security": f"max-age={settings.hsts_max_age_s}"}
