"""Turns every error into `application/problem+json`: one shape, whatever went wrong and wherever it was noticed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from waybill.configuration.findings import parameter
from waybill.errors import ConfigError, ConflictError, Finding, InvalidInput, TransientError, WaybillError
from waybill.language import tell
from waybill.requests import lifecycle
from waybill.web.headers import DEFAULTS

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STATUS = {
    "bad_request": 400,
    "context_required": 400,
    "not_registered": 400,
    "unauthenticated": 401,
    "denied": 403,
    "create_denied": 403,
    "view_denied": 403,
    "plan_required": 403,
    "download_denied": 403,
    "cancel_denied": 403,
    "delete_denied": 403,
    "not_found": 404,
    "unknown_tenant": 404,
    "unknown_delivery": 404,
    "nothing_active": 404,
    "method_not_allowed": 405,
    "managed_as_code": 409,
    "export_in_progress": 409,
    "duplicate_request": 409,
    "not_committed": 409,
    "no_kit": 409,
    "not_ready": 409,
    "not_active": 409,
    "not_resubmittable": 409,
    "expired": 410,
    "etag_mismatch": 412,
    "too_large": 413,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "tenant_id": 422,
    "validation": 422,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    "internal": 500,
    "storage_unavailable": 503,
    "ledger_not_upgraded": 503,
    "ledger_damaged": 503,
    "ledger_read_only": 503,
    "ledger_refused": 503,
    "missing_connection": 503,
    "gpg_missing": 503,
    "connection": 503,
}
"""The status of each code. Other errors follow their class: permanent 400, conflict 409, transient and broken configuration 503."""

MORE_GENERAL_CODES = {"unknown_tenant": "not_found", "unknown_delivery": "not_found", "tenant_id": "validation"}
"""Codes of the rooms below that the API knows under a more general name."""

MOST = 100
"""The number of problems in one answer. Its `detail` counts all of them."""

RETRY_AFTER = {"export_in_progress": 10, "rate_limited": 60, "config": 60}
_RETRY_WHEN_DOWN = 5


class FieldError(BaseModel):
    """One problem of one field."""

    field: str = Field(description="Dotted path of the field; empty for the whole body.", examples=["entityList"])
    code: str = Field(examples=["unknown_entity"])
    message: str = Field(examples=["unknown entity 'usr' (did you mean user?)"])


class Problem(BaseModel):
    """RFC 9457. `code` is stable and for programs; `detail` is one sentence for people."""

    type: str = Field(examples=["urn:waybill:problem:not_found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str
    code: str = Field(examples=["not_found"])
    errors: list[FieldError] = Field(default_factory=list, description="The single findings of a validation problem.")


class Refused(WaybillError):
    """An error of the HTTP shell itself, with a code of `STATUS` and headers to send along."""

    def __init__(self, code: str, what: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what, code=code)
        self.headers = dict(headers or {})


def unauthenticated(what: str, error: str = "") -> Refused:
    """Return 401 with the challenge that RFC 6750 asks for. `error` is given if a token was sent and does not count."""
    challenge = f'Bearer realm="waybill", error="{error}"' if error else 'Bearer realm="waybill"'
    return Refused("unauthenticated", what, {"WWW-Authenticate": challenge})


def status_of(error: WaybillError) -> int:
    if error.code in STATUS:
        return STATUS[error.code]
    if isinstance(error, TransientError | ConfigError):
        return 503
    return 409 if isinstance(error, ConflictError) else 400


def title(status: int) -> str:
    """RFC 9110's words, because the standard library's change with its version."""
    newer = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
    return newer.get(status) or HTTPStatus(status).phrase


def problem(
    status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return a problem as a response."""
    body = {
        "type": f"urn:waybill:problem:{code}",
        "title": title(status),
        "status": status,
        "detail": detail,
        "code": code,
        "errors": errors or [],
    }
    return JSONResponse(body, status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def of_error(error: WaybillError) -> JSONResponse:
    """Return what a caller may see of an error. Failures of the service itself are logged in full, and the caller gets general words."""
    status, code = status_of(error), MORE_GENERAL_CODES.get(error.code, error.code)
    headers = dict(error.headers) if isinstance(error, Refused) else {}
    if isinstance(error, lifecycle.Refused) and error.retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after.total_seconds())))
    if code in RETRY_AFTER or status == 503:
        headers.setdefault("Retry-After", str(RETRY_AFTER.get(code, _RETRY_WHEN_DOWN)))
    if status >= 500:
        log.error("%s: %s", error.code, error)
        return problem(status, code, said_when_down(error), headers=headers)
    if isinstance(error, InvalidInput):
        return problem(status, code, counted(error), field_errors(error), headers)
    return problem(status, code, str(error), headers=headers)


def said_when_down(error: WaybillError) -> str:
    """Return a failure of the service in words that name no host, path or database."""
    if isinstance(error, ConfigError):
        return tell("call.misconfigured")
    return lifecycle.SENTENCES["storage_unavailable"] if error.code == "storage_unavailable" else tell("call.down")


def counted(error: InvalidInput) -> str:
    first, count = _sentence(error.findings[0]), len(error.findings)
    if count == 1:
        return first
    return tell("refusal.several" if count <= MOST else "refusal.too_many", problems=count, first=first, most=MOST)


def _sentence(finding: Finding) -> str:
    """Return the finding with its field in front. A whole sentence from a product document has none."""
    sentence = message(finding)
    return sentence if not finding.path or sentence[:1].isupper() else f"{finding.path}: {sentence}"


def field_errors(error: InvalidInput) -> list[dict[str, str]]:
    return [{"field": finding.path, "code": finding.code, "message": message(finding)} for finding in error.findings[:MOST]]


def message(finding: Finding) -> str:
    """Return what is wrong, what is allowed, and what was probably meant."""
    hints = [tell("refusal.allowed", allowed=finding.allowed)] if finding.allowed else []
    hints += [tell("refusal.meant", meant=finding.meant)] if finding.meant else []
    return finding.reason + (f" ({'; '.join(hints)})" if hints else "")


def install(app: FastAPI) -> None:
    """Make every error of the application a problem, also those of routing, parsing and validation."""
    app.add_exception_handler(WaybillError, on_waybill_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(ClientDisconnect, on_nobody_left)
    app.add_exception_handler(Exception, _on_bug)


def on_waybill_error(_request: Request, error: Exception) -> JSONResponse:
    """Return the handler for Waybill's own errors."""
    assert isinstance(error, WaybillError)  # noqa: S101 (how the handler was installed)
    return of_error(error)


def on_nobody_left(_request: Request, _error: Exception) -> Response:
    """The client went away, or was given up, before its body was whole. It is no fault of ours, and nobody reads the answer."""
    return Response(status_code=408)


def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 (how the handler was installed)
    codes = {404: "not_found", 405: "method_not_allowed", 401: "unauthenticated", 403: "denied"}
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404:
        detail = tell("call.nothing_at", path=request.url.path)
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
        detail = tell("call.method", method=request.method, methods=headers["Allow"])
    return problem(error.status_code, codes.get(error.status_code, "bad_request"), detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of every route at this path, because a router knows only the first one."""
    here = [route for route in request.app.routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in here for method in route.methods or ()})


def _on_invalid_parameters(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (how the handler was installed)
    # A route and a dependency that ask for the same thing each complain.
    return of_error(InvalidInput(list(dict.fromkeys(parameter(error) for error in error.errors()))))


def _on_bug(_request: Request, _error: Exception) -> JSONResponse:
    # The server logs the exception itself, with its stack. No middleware sees this answer, so it is in the words of the language file.
    return problem(500, "internal", tell("call.internal"), headers=DEFAULTS)
