"""The services over HTTP, with the token of one caller."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from cli.console import NOT_RUNNING, REFUSED, Failure

_PAGE_ITEMS = 200
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class ServiceResponse:
    status: int
    body: Any
    version: str | None
    """The entity tag, for `If-Match`."""


class ServiceClient:
    """A client of one service. Every problem response becomes a ``Failure`` with the service's explanation."""

    def __init__(self, name: str, url: str, token: str | None = None) -> None:
        self._name = name
        self._url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **query: str | int) -> Any:
        return self.call("GET", path, query=query).body

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """``key`` makes the command safe to repeat: the service runs it once for each key."""
        return self.call("POST", path, body=body, headers={"Idempotency-Key": key} if key else {}).body

    def list_items(self, path: str, **query: str | int) -> Iterator[Any]:
        """All items of a list, read page by page."""
        after: str | None = None
        while True:
            parameters = {**query, "limit": _PAGE_ITEMS, **({"after": after} if after else {})}
            page = self.get(path, **parameters)
            yield from page["items"]
            after = page.get("next")
            if not after:
                return

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        content: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ServiceResponse:
        try:
            response = self._client.request(
                method, path, params=dict(query or {}), json=body, content=content, headers=dict(headers or {})
            )
        except httpx.ConnectError as error:
            raise Failure(
                f"Nothing answers at {self._url} ({self._name}).",
                "Start everything with `viceversa up`, or name its address with --data or "
                f"VICEVERSA_{self._name.upper()}_URL.",
                code=NOT_RUNNING,
            ) from error
        except httpx.HTTPError as error:
            raise Failure(f"{self._name} did not answer: {type(error).__name__}.", code=NOT_RUNNING) from error
        if response.is_error:
            raise build_failure(self._name, response)
        is_json = "json" in response.headers.get("content-type", "")
        return ServiceResponse(
            response.status_code, response.json() if is_json else response.text, response.headers.get("etag")
        )


def build_failure(name: str, response: httpx.Response) -> Failure:
    """Turn a problem response (RFC 9457) into a failure."""
    try:
        problem = response.json()
        reason = ": ".join(str(problem[part]) for part in ("title", "detail") if problem.get(part))
        reason += "".join(f"\n  {error['location']}: {error['message']}" for error in problem.get("errors", ()))
    except (ValueError, AttributeError, TypeError, KeyError):
        reason = response.text[:300]
    advice = {
        401: "The token is missing, invalid or expired. `viceversa token` prints a new one.",
        403: "This command needs another role. See `viceversa token --help`.",
        404: "Check the id. Lists show ids, such as `viceversa pairings` and `viceversa round list PROGRAMME`.",
        503: "The service is busy. Try again in a moment.",
    }.get(response.status_code, "")
    return Failure(f"{name} refused ({response.status_code}): {reason or response.reason_phrase}", advice, code=REFUSED)
