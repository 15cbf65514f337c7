"""What the reference shows beside an operation: calls in three languages, and an example of an answer. All of it follows from the
document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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
"""What fields of these names hold. A list's field gives its items' name without the `s`."""


_PART = re.compile(r"{(\w+)}")
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|true|false|null')
_PYTHON = {"true": "True", "false": "False", "null": "None"}
_FILE = "export.zip"


@dataclass(frozen=True)
class _Call:
    """One operation as a sample shows it. The reader fills `parts` into the path, `body` is JSON, and `answer` is what comes back."""

    method: str
    path: str
    body: str
    needs_token: bool
    answer: Literal["json", "file", "nothing"]

    @property
    def parts(self) -> list[str]:
        return _PART.findall(self.path)

    def place(self, spelt: Callable[[str], str]) -> str:
        """Return the path with each of its parts as a language spells a variable."""
        return _PART.sub(lambda part: spelt("download" if part[1] == "token" else part[1]), self.path)


def code_samples(path: str, method: str, operation: dict[str, Any]) -> list[dict[str, str]]:
    """Return `x-codeSamples` of an operation, with the first example of its body. They run as they are once their variables are set."""
    contents = operation.get("requestBody", {}).get("content", {}).values()
    examples = [example["value"] for media in contents for example in media.get("examples", {}).values()]
    body = json.dumps(examples[0], indent=2, ensure_ascii=False) if examples else ""
    good = [(status, response.get("content", {})) for status, response in operation["responses"].items() if status < "400"]
    answer: Literal["json", "file", "nothing"] = "json" if any("application/json" in content for _, content in good) else "file"
    if good and all(status == "204" for status, _ in good):
        answer = "nothing"
    call = _Call(method.upper(), path.replace("{tenant}", "acme"), body, bool(operation.get("security")), answer)
    made = {"curl": _curl, "Python": _python, "JavaScript": _javascript}
    langs = {"curl": "shell", "Python": "python", "JavaScript": "javascript"}
    return [{"lang": langs[label], "label": label, "source": make(call)} for label, make in made.items()]


def _curl(call: _Call) -> str:
    place = call.place(lambda name: f"${name.upper()}")
    lines = [f'curl --fail-with-body --request {call.method} "$WAYBILL{place}"']
    lines += [f'--header "Authorization: Bearer {TOKEN}"'] if call.needs_token else []
    quoted = call.body.replace("'", "'\\''")
    lines += ["--header 'Content-Type: application/json'", f"--data '{quoted}'"] if call.body else []
    lines += [f"--location --output {_FILE}"] if call.answer == "file" else []
    return " \\\n  ".join(lines)


def _python(call: _Call) -> str:
    text = f'f"{call.place(lambda name: f"{{{name}}}")}"' if call.parts else f'"{call.path}"'
    arguments = [f'"{call.method}"', f"waybill + {text}"]
    arguments += ['headers={"Authorization": f"Bearer {token}"}'] if call.needs_token else []
    arguments += [f"json={_literal(call.body)}"] if call.body else []
    arguments += ["follow_redirects=True"] if call.answer == "file" else []
    inside = ",\n    ".join(arguments)
    ends = {"json": "\nprint(answer.json())", "file": f'\nPath("{_FILE}").write_bytes(answer.content)', "nothing": ""}
    imports = "from pathlib import Path\n\nimport httpx" if call.answer == "file" else "import httpx"
    return f"{imports}\n\nanswer = httpx.request(\n    {inside},\n)\nanswer.raise_for_status(){ends[call.answer]}"


def _literal(body: str) -> str:
    """Return JSON as Python spells it. Texts stay as they are."""
    return _WORD.sub(lambda found: _PYTHON.get(found[0], found[0]), body).replace("\n", "\n    ")


def _javascript(call: _Call) -> str:
    headers = ["Authorization: `Bearer ${token}`"] if call.needs_token else []
    headers += ['"Content-Type": "application/json"'] if call.body else []
    options = [f'method: "{call.method}"']
    options += [f"headers: {{ {', '.join(headers)} }}"] if headers else []
    options += [f"body: JSON.stringify({call.body})".replace("\n", "\n  ")] if call.body else []
    inside = ",\n  ".join(options)
    text = f"`{call.place(_in_camel_case)}`" if call.parts else f'"{call.path}"'
    ends = {"json": "\nconsole.log(await answer.json());", "file": "\nconst archive = await answer.blob();", "nothing": ""}
    sent = f"const answer = await fetch(waybill + {text}, {{\n  {inside},\n}});"
    return f"{sent}\nif (!answer.ok) throw new Error(await answer.text());{ends[call.answer]}"


def _in_camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return f"${{{first}{''.join(word.title() for word in rest)}}}"


def example(schema: dict[str, Any], schemas: dict[str, Any], name: str = "", depth: int = 0) -> Any:
    """Return a value that fits a schema: its own example, else what a field of that name usually holds, else one made of its parts."""
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
