"""Completes the OpenAPI document with what FastAPI cannot see, because our own rules read bodies and write errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from waybill.configuration.registration import Registration
from waybill.language import tell
from waybill.requests.lifecycle import SENTENCES
from waybill.web.api import code_samples
from waybill.web.api.models import FullLoad
from waybill.web.problems import MEDIA_TYPE, STATUS, Problem, title

REF = "#/components/schemas/{model}"

EXAMPLES = SENTENCES | {
    "bad_request": "The body is not valid JSON: Expecting ',' delimiter at line 3, column 5.",
    "not_registered": "the tenant acme does not receive comment (allowed: content, user)",
    "unauthenticated": "There is no bearer token.",
    "denied": "You may not do this for the tenant acme. It needs a token with the scope write.",
    "not_found": "There is no tenant globex.",
    "nothing_active": "nothing is active for the tenant acme. Register entities first",
    "no_kit": "a kit for Amazon Redshift reads csv, and acme receives parquet. Set files.format to csv for the tenant",
    "managed_as_code": "the tenant acme is managed as code by config/tenants/acme.yaml. Change that file and run `waybill apply`",
    "etag_mismatch": "the registration of acme is not the one that If-Match names. GET it again and repeat your change",
    "too_large": "The body is larger than 256 KiB.",
    "unsupported_media_type": "The body must be JSON with Content-Type: application/json.",
    "range_not_satisfiable": "The archive has 4711 bytes, and Range asks for none of them.",
    "validation": "entityList: unknown entity 'usr' (allowed: user, theme; did you mean user?)",
    "not_committed": "the delivery 0190c5f0e4c77d3a9a4e5b6c7d8e9f00 is open, not committed. It is delivered by the next run",
    "internal": tell("call.internal"),
    "unavailable": tell("call.down"),
    "config": tell("call.misconfigured"),
    "issuer": tell("call.down"),
}
_MEANING = {
    400: "The request cannot be understood, or names what is not registered.",
    401: "No bearer token, or one that is not valid.",
    403: "The caller may see the tenant, but not do this.",
    404: "Unknown, or not the caller's.",
    409: "The state of the tenant forbids it.",
    410: "Its time is over.",
    412: "Somebody changed the registration in between.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8, or it is compressed.",
    416: "The archive has no such part; `Content-Range` tells its size.",
    422: "A path or query parameter, or the body, has problems; `errors` lists all of them.",
    429: "Too many requests; `Retry-After` tells when it may be tried again.",
    500: "A fault in Waybill.",
    503: "The ledger, a source or the token issuer does not answer, or the operator's configuration has problems.",
}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can fail with these codes. Every route can also fail to recognise the caller or to answer at
    all.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for code in ("unauthenticated", "validation", *codes, "internal", "unavailable", "config", "issuer"):
        status = STATUS.get(code, 503)
        entry = found.setdefault(
            status,
            {
                "description": _MEANING[status],
                "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}, "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][code] = {"$ref": f"#/components/examples/{code}"}
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def _example(code: str, status: int) -> dict[str, Any]:
    field = {"field": "entityList", "code": "unknown_entity", "message": EXAMPLES["validation"].partition(": ")[2]}
    return {
        "type": f"urn:waybill:problem:{code}",
        "title": title(status),
        "status": status,
        "detail": EXAMPLES[code],
        "code": code,
        "errors": [field] if code == "validation" else [],
    }


def body(model: type[BaseModel], examples: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose body `bodies.json_object` reads."""
    content = {
        "schema": {"$ref": REF.format(model=model.__name__)},
        "examples": {name: {"value": example} for name, example in examples.items()},
    }
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


REQUEST_MODELS: list[type[BaseModel]] = [Registration, FullLoad, Problem]
"""Models that only references name. Routers of other modules append theirs."""


def _complete(document: dict[str, Any]) -> None:
    """Add calls in three languages and an example of each answer. If the token names the tenant, no path parameter asks for it."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if "{tenant}" not in path:
                operation["parameters"] = [parameter for parameter in operation.get("parameters", []) if parameter["name"] != "tenant"]
            operation["x-codeSamples"] = code_samples.code_samples(path, method, operation)
            for status, response in operation["responses"].items():
                content = response.get("content", {}).get("application/json")
                if status < "300" and content and "schema" in content:
                    content["example"] = code_samples.example(content["schema"], document["components"]["schemas"])


def install(app: FastAPI) -> None:
    """Serve the completed document as the application's own."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, referenced = models_json_schema([(model, "validation") for model in REQUEST_MODELS], ref_template=REF, by_alias=True)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update({name: schema for name, schema in referenced["$defs"].items() if name not in schemas})
            _complete(document)
            document["components"]["examples"] = {code: {"value": _example(code, STATUS.get(code, 503))} for code in sorted(EXAMPLES)}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
