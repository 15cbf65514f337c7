"""Reads request bodies strictly, as JSON objects of limited size. The rules for files decide below what they mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import Message
from typing import Annotated, Any, get_args, get_origin

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from waybill.configuration.catalog import suggester
from waybill.configuration.findings import kind_of
from waybill.errors import Finding, InvalidInput
from waybill.language import tell
from waybill.web.dependencies import CallerDep
from waybill.web.problems import Refused

LARGEST = 256 * 1024
DEEPEST = 20
_DIGITS = 1000


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body as a mapping. An absent body is an empty one.

    Raises too_large, unsupported_media_type, bad_request for what is not JSON, and validation for JSON that is no object.
    """
    raw = await _bounded(request)
    if not raw.strip():
        return {}
    _refuse_other_media(request)
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_no_key_twice, parse_constant=_no_constant, parse_int=_integer)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # half surrogate pairs and numbers past every bound end here
    except RecursionError as error:
        raise Refused("bad_request", tell("call.nested")) from error
    except ValueError as error:  # covers malformed JSON and text that is not UTF-8
        raise Refused("bad_request", tell("call.no_json", reason=_reason(error))) from error
    if _is_deeper(value, DEEPEST):
        raise Refused("bad_request", tell("call.nested_levels", levels=DEEPEST))
    if not isinstance(value, dict):
        raise InvalidInput([Finding("", "", tell("call.no_object", kind=kind_of(value)), tell("call.object"), code="invalid_type")])
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and mappings nest on more than so many levels."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            inner for value in layer for inner in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
    return bool(layer)


def _refuse_other_media(request: Request) -> None:
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise Refused("unsupported_media_type", tell("call.encoded"), {"Accept-Encoding": "identity"})
    declared = Message()
    declared["Content-Type"] = request.headers.get("content-type", "")
    media = declared.get_content_type() if declared["Content-Type"] else ""
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise Refused("unsupported_media_type", tell("call.media_type"))
    if (declared.get_content_charset() or "utf-8") not in ("utf-8", "utf8"):
        raise Refused("unsupported_media_type", tell("call.charset"))


async def _bounded(request: Request) -> bytes:
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > LARGEST:
            raise Refused("too_large", tell("call.too_large", limit=LARGEST // 1024))
    return bytes(read)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(tell("call.key_twice"))
    return found


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(tell("call.digits", digits=_DIGITS))
    return int(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(tell("call.constant", name=name))


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return tell("call.no_json_at", problem=error.msg, line=error.lineno, column=error.colno)
    return tell("call.no_utf8") if isinstance(error, UnicodeError) else str(error)


JsonBody = Annotated[dict[str, Any], Depends(json_object)]


def _query_fields(dependant: Dependant) -> Iterator[Any]:
    """Return the query parameters of a route and of all that it depends on."""
    yield from dependant.query_params
    for dependency in dependant.dependencies:
        yield from _query_fields(dependency)


def declared_only(request: Request, _recognised_first: CallerDep) -> None:
    """A dependency of every route of the API. Raises InvalidInput that names each unknown parameter, and each one that was repeated."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101 (how the dependency was installed)
    fields = list(_query_fields(route.dependant))
    several = {field.alias: _takes_several(field.field_info.annotation) for field in fields}
    known, findings = sorted(several), list[Finding]()
    allowed, meant = ", ".join(known) or tell("call.no_parameters"), suggester(known)
    for name in dict.fromkeys(request.query_params):
        if name not in several:
            findings.append(Finding("", name, tell("call.unknown_parameter"), allowed, meant(name), "unknown_parameter"))
        elif not several[name] and len(request.query_params.getlist(name)) > 1:
            findings.append(Finding("", name, tell("call.repeated_parameter"), tell("call.one_value"), code="repeated_parameter"))
    if findings:
        raise InvalidInput(findings)


def _takes_several(annotation: Any) -> bool:
    return any(get_origin(argument) is list for argument in (annotation, *get_args(annotation)))
