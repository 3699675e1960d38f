"""Problem documents (RFC 9457): the body of every response that is not a success. They never repeat the input."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse
from opentelemetry import trace
from starlette.exceptions import HTTPException

from chassis.core.error_redaction import error_code, redacted_location
from chassis.storage.aggregates import KeyReused, TooBusy, VersionConflict
from chassis.storage.mongo import PyMongoError, is_transient
from chassis.storage.outbox import EventTooLarge
from chassis.web.authentication import Unauthenticated
from chassis.web.field_messages import field_message
from chassis.web.signing_keys import KeysUnavailable
from contracts.errors import CommandRejected, InvalidCommand, NotFound

log = logging.getLogger(__name__)

MAX_FIELD_ERRORS = 100
MEDIA_TYPE = "application/problem+json"
COMMAND_ERROR_STATUS = {InvalidCommand: 422, NotFound: 404, CommandRejected: 409}
RETRY_AFTER_S = "1"  # overload is usually short
SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "description": "about:blank: the title explains the status."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The error, for people."},
        "code": {"type": "string", "description": "The error, for programs; stable."},
        "trace": {"type": "string", "description": "The trace id of this request, for the operators of the service."},
        "errors": {
            "type": "array",
            "description": "The fields that were rejected.",
            "items": {
                "type": "object",
                "properties": {"location": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
RESPONSE: dict[str, Any] = {"description": "A problem (RFC 9457).", "content": {MEDIA_TYPE: {"schema": SCHEMA}}}
STATUSES_OF_ANY_REQUEST = (
    400,
    401,
    403,
    404,
    408,
    409,
    422,
    429,
    431,
    500,
    503,
)  # 404: a path, a query or a body may name an object; 409: its state may not allow what is asked, also in a query
STATUSES_OF_COMMANDS = (412, 413)


def document_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Name in an OpenAPI document the statuses that the chassis may answer, so that no route must repeat them."""
    for operations in document["paths"].values():
        for method, operation in operations.items():
            for status in STATUSES_OF_ANY_REQUEST + (() if method == "get" else STATUSES_OF_COMMANDS):
                operation["responses"][str(status)] = RESPONSE | {"description": _reason_phrase(status)}
    return document


class Problem(Exception):
    """A response that is not a success. ``detail`` and ``code`` are sent, so they hold no personal data."""

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        code: str | None = None,
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title or _reason_phrase(status)
        self.detail = detail
        self.code = code
        self.headers = dict(headers or {})
        self.extra = extra


def _reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Problem"


def not_found(what: str) -> Problem:
    """``what`` is the kind of thing, for example "pairing". Also for callers who may not know that it exists."""
    return Problem(404, f"There is no such {what}.", code="not_found")


def forbidden(detail: str = "You may not see or change this.") -> Problem:
    return Problem(403, detail, code="forbidden")


def undeclared_account() -> Problem:
    """For an account with rights, of which nobody knows whether a member is behind it."""
    return Problem(
        403,
        "This account names no member, so nobody can tell whether this person takes part here. The operator binds the "
        "account to its member (VICEVERSA_MEMBER_CLAIM), or declares that no member is behind it "
        "(VICEVERSA_NO_MEMBER_SUBJECTS or VICEVERSA_NO_MEMBER_CLAIM).",
        code="undeclared_account",
    )


def problem_response(problem: Problem) -> JSONResponse:
    body: dict[str, object] = {"type": "about:blank", "title": problem.title, "status": problem.status}
    if problem.detail:
        body["detail"] = problem.detail
    if problem.code:
        body["code"] = problem.code
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        body["trace"] = trace.format_trace_id(context.trace_id)
    return JSONResponse(body | problem.extra, problem.status, problem.headers, MEDIA_TYPE)


def unavailable(detail: str, code: str = "busy") -> Problem:
    return Problem(503, detail, code=code, headers={"Retry-After": RETRY_AFTER_S})


def too_many_requests() -> Problem:
    return Problem(
        429,
        "You have too many requests open at the same time; wait for their answers.",
        code="too_many_requests",
        headers={"Retry-After": RETRY_AFTER_S},
    )


def unhandled() -> Problem:
    return Problem(500, "An internal error occurred and was logged.", code="internal")


def convert_error(error: Exception) -> Problem:
    """The problem for an error of the chassis or the framework."""
    match error:
        case Problem():
            return error
        case HTTPException():
            return _convert_http_exception(error)
        case RequestValidationError():
            return Problem(
                422, "Some fields of the request are not valid.", code="invalid", errors=_field_errors(error)
            )
        case Unauthenticated():
            challenge = "Bearer" if error.code == "token_missing" else 'Bearer error="invalid_token"'
            return Problem(401, str(error), code=error.code, headers={"WWW-Authenticate": challenge})
        case PyMongoError() if is_transient(error):
            return unavailable("A required server cannot be reached at the moment.", "unavailable")
        case _:
            factories = (factory for kind, factory in _PROBLEM_FACTORIES.items() if isinstance(error, kind))
            return next(factories, unhandled)()


_PROBLEM_FACTORIES: Mapping[type[Exception], Callable[[], Problem]] = {
    KeysUnavailable: lambda: unavailable("Tokens cannot be verified at the moment.", "issuer_unreachable"),
    KeyReused: lambda: Problem(422, "This Idempotency-Key was used for another request.", code="key_reused"),
    VersionConflict: lambda: Problem(412, "This has changed since you read it; read it again.", code="stale"),
    TooBusy: lambda: unavailable("Too many requests change this at the same time; try again shortly."),
    TimeoutError: lambda: unavailable(
        "The store did not answer in time. Repeat the request with the same Idempotency-Key.", "unavailable"
    ),
    EventTooLarge: lambda: Problem(413, "The result would exceed a size limit.", code="too_large"),
}


def _convert_http_exception(error: HTTPException) -> Problem:
    """The problem for an error of the framework. Its own detail is dropped, since it may quote the request."""
    details = {
        400: "The request cannot be read.",
        404: "This path does not exist.",
        405: "This path does not support the method.",
        408: "The request did not arrive in time; send it again.",
        413: "The body exceeds the size limit.",
        414: "The path with its query is too long.",
        431: "The headers are too large or too many.",
    }
    codes = {
        400: "unreadable",
        404: "not_found",
        405: "method_not_allowed",
        408: "too_slow",
        413: "too_large",
        414: "too_long",
        431: "headers_too_large",
    }
    return Problem(
        error.status_code, details.get(error.status_code, ""), code=codes.get(error.status_code), headers=error.headers
    )


def _field_errors(error: RequestValidationError) -> list[dict[str, str]]:
    return [
        {
            "location": redacted_location(tuple(detail["loc"])),
            "message": _hide_input(field_message(detail), detail.get("input")),
        }
        for detail in error.errors()[:MAX_FIELD_ERRORS]
    ]


def _hide_input(message: str, value: object) -> str:
    """The message of a validation error; "is not valid" when it quotes the input, as our own validators may do."""
    texts = [str(leaf) for leaf in _collect_leaves(value)]
    return "is not valid" if any(len(text) > 2 and text in message for text in texts) else message


def _collect_leaves(value: object) -> list[object]:
    """All keys and plain values within ``value``."""
    if isinstance(value, Mapping):
        return [leaf for name, inner in value.items() for leaf in (name, *_collect_leaves(inner))]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in _collect_leaves(inner)]
    return [value]


def install_handlers(app: FastAPI) -> None:
    """Respond to every error with a problem document. The message of a command error of a domain is sent."""
    for kind in (Problem, HTTPException, RequestValidationError, Unauthenticated, *_PROBLEM_FACTORIES):
        app.add_exception_handler(kind, _handle_chassis_error)
    for kind in COMMAND_ERROR_STATUS:
        app.add_exception_handler(kind, _handle_command_error)
    app.add_exception_handler(PyMongoError, _handle_store_error)
    app.add_exception_handler(ResponseValidationError, _handle_invalid_response)


async def _handle_chassis_error(_: Request, error: Exception) -> JSONResponse:
    return problem_response(convert_error(error))


async def _handle_store_error(_: Request, error: Exception) -> JSONResponse:
    if not is_transient(error):
        raise error  # the middleware logs it
    return problem_response(convert_error(error))


async def _handle_command_error(_: Request, error: Exception) -> JSONResponse:
    status = next(COMMAND_ERROR_STATUS[kind] for kind in type(error).__mro__ if kind in COMMAND_ERROR_STATUS)
    return problem_response(Problem(status, str(error), code=error_code(error)))


async def _handle_invalid_response(_: Request, error: Exception) -> JSONResponse:
    log.error("a response does not match its model: %s", type(error).__name__)
    return problem_response(unhandled())
