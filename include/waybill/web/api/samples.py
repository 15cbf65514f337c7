"""What the reference shows beside an operation: calls in three languages, and what an answer looks like. All made from the document."""

from __future__ import annotations

import json
from typing import Any

TOKEN = "$TOKEN"  # noqa: S105 (a placeholder)
_TEXT = {
    "date-time": "2026-06-01T12:00:00.000000Z",
    "date": "2026-06-01",
    "uuid": "0190c5f0-e4c7-7d3a-9a4e-5b6c7d8e9f00",
    "uri": "https://…",
}

_NAMED = {
    "id": "0190c5f0e4c77d3a9a4e5b6c7d8e9f00",
    "tenant": "acme",
    "entity": "user_login_events",
    "entitie": "user_login_events",
    "entityName": "user logins",
    "name": "user logins",
    "format": "csv",
    "formatLabel": "CSV",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "statusLabel": "Pending",
    "path": "user_login_events.csv",
}
"""What fields of these names hold; a list's field gives its items' name without the `s`."""


def code_samples(path: str, method: str, operation: dict[str, Any]) -> list[dict[str, str]]:
    """`x-codeSamples` of an operation, with the first example of its body."""
    place = path.replace("{tenant}", "acme").replace("{request_id}", "$ID").replace("{", "$").replace("}", "")
    contents = operation.get("requestBody", {}).get("content", {}).values()
    examples = [example["value"] for media in contents for example in media.get("examples", {}).values()]
    body = json.dumps(examples[0], indent=2, ensure_ascii=False) if examples else ""
    needs_token = bool(operation.get("security"))
    made = {"curl": _curl, "Python": _python, "JavaScript": _javascript}
    langs = {"curl": "shell", "Python": "python", "JavaScript": "javascript"}
    return [{"lang": langs[label], "label": label, "source": make(method, place, body, needs_token)} for label, make in made.items()]


def _curl(method: str, place: str, body: str, needs_token: bool) -> str:
    lines = [f'curl --fail-with-body --request {method.upper()} "$WAYBILL{place}"']
    lines += [f'--header "Authorization: Bearer {TOKEN}"'] if needs_token else []
    lines += ["--header 'Content-Type: application/json'", f"--data '{body}'"] if body else []
    return " \\\n  ".join(lines)


def _python(method: str, place: str, body: str, needs_token: bool) -> str:
    arguments = [f'"{method.upper()}"', f'waybill + "{place}"']
    arguments += ['headers={"Authorization": f"Bearer {token}"}'] if needs_token else []
    arguments += [f"json={_literal(body)}"] if body else []
    call = ",\n    ".join(arguments)
    return f"import httpx\n\nanswer = httpx.request(\n    {call},\n)\nanswer.raise_for_status()\nprint(answer.text)"


def _literal(body: str) -> str:
    return body.replace("true", "True").replace("false", "False").replace("null", "None").replace("\n", "\n    ")


def _javascript(method: str, place: str, body: str, needs_token: bool) -> str:
    headers = ["Authorization: `Bearer ${token}`"] if needs_token else []
    headers += ['"Content-Type": "application/json"'] if body else []
    options = [f'method: "{method.upper()}"']
    options += [f"headers: {{ {', '.join(headers)} }}"] if headers else []
    options += [f"body: JSON.stringify({body})".replace("\n", "\n  ")] if body else []
    inside = ",\n  ".join(options)
    return f'const answer = await fetch(waybill + "{place}", {{\n  {inside},\n}});\nif (!answer.ok) throw new Error(await answer.text());'


def example(schema: dict[str, Any], schemas: dict[str, Any], name: str = "", depth: int = 0) -> Any:
    """A value that fits a schema: its own example, else what a field of that name usually holds, else one made of its parts."""
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas, name, depth)
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "const" in schema or schema.get("default") is not None:
        return schema.get("const", schema.get("default"))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return example(next((option for option in schema[key] if option.get("type") != "null"), {}), schemas, name, depth)
    return _plain(schema, schemas, name, depth)


def _plain(schema: dict[str, Any], schemas: dict[str, Any], name: str, depth: int) -> Any:
    kind = schema.get("type")
    if kind == "object":
        return {
            field: example(property_schema, schemas, field, depth + 1) for field, property_schema in schema.get("properties", {}).items()
        }
    if kind == "array":
        return [example(schema.get("items", {}), schemas, name.removesuffix("s"), depth + 1)]
    if kind in ("integer", "number"):
        return max(1, int(schema.get("minimum", 1)))
    if kind == "string":
        return _NAMED.get(name) or _TEXT.get(schema.get("format", ""), name or "text")
    return True if kind == "boolean" else {} if depth == 0 else None
