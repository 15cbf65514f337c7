"""The page at `/docs`: the OpenAPI document for reading. Plain HTML, so that it works without scripts and without other hosts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

METHODS = ("get", "put", "post", "delete")


def install(app: FastAPI) -> None:
    """Serve the page at `/docs`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    environment.filters["prose"] = _prose

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        page = environment.get_template("reference.html").render(
            document=app.openapi(), groups=list(_groups(app.openapi())), root=request.scope.get("root_path", "")
        )
        return HTMLResponse(page)


def _prose(text: str) -> Markup:
    """Text with `code` set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 (escaped before)


def _groups(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each tag with its operations, in the order of the document."""
    for tag in document["tags"]:
        operations = [
            _operation(document, path, method, item[method])
            for path, item in document["paths"].items()
            for method in METHODS
            if method in item and tag["name"] in item[method].get("tags", [])[-1:]
        ]
        yield tag, operations


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    contents: dict[str, Any] = operation.get("requestBody", {}).get("content", {})
    body = next(iter(contents.values()), None)
    parameters = [
        {**one, "type": type_text(one["schema"]), "description": one.get("description", "")} for one in operation.get("parameters", [])
    ]
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "parameters": parameters,
        "fields": fields(document, body["schema"]) if body else [],
        "examples": _examples(body) if body else [],
        "responses": [_response(document, status, one) for status, one in sorted(operation["responses"].items())],
    }


def _response(document: dict[str, Any], status: str, response: dict[str, Any]) -> dict[str, Any]:
    contents: dict[str, dict[str, Any]] = response.get("content", {})
    media, content = next(iter(contents.items()), ("", {}))
    schema = content.get("schema", {})
    return {
        "status": status,
        "description": response["description"],
        "fields": [] if "problem" in media else fields(document, schema),
        "codes": list(content.get("examples", {})) if "problem" in media else [],
    }


def _examples(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, json.dumps(one["value"], indent=2, ensure_ascii=False)) for name, one in body.get("examples", {}).items()]


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema or "anyOf" in schema:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            continue
        first: dict[str, Any] = next((one for one in schema["anyOf"] if one.get("type") != "null"), {})
        if "$ref" not in first:
            break
        schema = first
    return schema


def fields(document: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of an object schema, one level deep; those of a list are its items'."""
    schema = _resolved(document, schema)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": type_text(_enumerated(document, one)),
            "required": name in required,
            "description": one.get("description", ""),
        }
        for name, one in schema.get("properties", {}).items()
    ]


def _enumerated(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema behind a reference to a list of words, else the schema itself."""
    target = _resolved(document, {"$ref": schema["$ref"]}) if "$ref" in schema else schema
    return target if "enum" in target else schema


def type_text(schema: dict[str, Any]) -> str:
    """A schema in a few words: `string`, `list of File`, `now or next`."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " or ".join(str(one) or "empty" for one in schema["enum"])
    if "const" in schema:
        return str(schema["const"]).lower()
    if "anyOf" in schema:
        return " or ".join(type_text(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {type_text(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "anything")
