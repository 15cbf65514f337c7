"""The reference at `/docs`: Swagger UI as it is published, from our own files, with calls in three languages beside each operation.

It reads the document `/openapi.json`: the one in the repository, with the entities of this installation and the address of its tokens.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from waybill.errors import WaybillError

_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'{issuer}; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
"""Swagger UI writes style attributes. No script but ours runs, and nothing is loaded from elsewhere."""

log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Serve the reference at `/docs` and its document at `/openapi.json`."""

    async def document(request: Request) -> JSONResponse:
        found = await run_in_threadpool(described, app)
        if below := request.scope.get("root_path"):  # inside Airflow, or behind a path prefix
            found = {**found, "servers": [{"url": below}]}
        return JSONResponse(found)

    def docs(request: Request) -> HTMLResponse:
        issuer = urlsplit(token_url(app))
        origin = f" {issuer.scheme}://{issuer.netloc}" if issuer.netloc else ""
        headers = {"Content-Security-Policy": _POLICY.format(issuer=origin), "X-Content-Type-Options": "nosniff"}
        return HTMLResponse((_HERE / "reference.html").read_text(encoding="utf-8"), headers=headers)

    app.add_api_route("/openapi.json", document, include_in_schema=False)
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.mount("/docs/static", StaticFiles(directory=_HERE / "static"), name="reference")


def token_url(app: FastAPI) -> str:
    """Return where programs get a token by their client's credentials. It is empty inside Airflow, and if the house does not say."""
    issuer = getattr(app.state.access, "issuer", None)
    return str(getattr(issuer, "token_url", ""))


def described(app: FastAPI) -> dict[str, Any]:
    """Return the document of this installation. If it cannot be read, or no shell recognises callers, it is the document as it is."""
    if app.state.access is None:
        return app.openapi()
    document = copy.deepcopy(app.openapi())
    if url := token_url(app):
        _declare_oauth(document, url)
    try:
        entities = app.state.installations.current().catalog.entities.values()
    except WaybillError as error:
        log.info("the reference goes without the names of entities: %s", error)
        return document
    names = [entity.display_name for entity in entities if not entity.only]
    if names:
        _list_entities(document, names)
    return document


def _declare_oauth(document: dict[str, Any], url: str) -> None:
    scopes = {"read": "See registrations, deliveries and exports, and download.", "write": "Change and request."}
    flow = {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": url, "scopes": scopes}}}
    document["components"].setdefault("securitySchemes", {})["OAuth2"] = flow
    for item in document["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict) and operation.get("security"):
                operation["security"] = [*operation["security"], {"OAuth2": ["read", "write"]}]


def _list_entities(document: dict[str, Any], names: list[str]) -> None:
    """Return the names that people write. Ids and other spellings are accepted too."""
    schemas = document["components"]["schemas"]
    schemas["EntityName"] = {"type": "string", "title": "EntityName", "description": "Display name of an entity.", "enum": names}
    for model, field in (("Registration", "entityList"), ("Submission", "entities"), ("FullLoad", "entities")):
        _name_items(schemas.get(model, {}).get("properties", {}).get(field, {}))


def _name_items(schema: dict[str, Any]) -> None:
    for described in (schema, *schema.get("anyOf", [])):
        if described.get("type") == "array":
            described["items"] = {"$ref": "#/components/schemas/EntityName"}
