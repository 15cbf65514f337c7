"""Writes docs/reference/ from the code: configuration keys, commands and error codes. A test compares; `make reference` writes."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"
NOTE = "<!-- Written by `make reference` from the code. -->"

FILES = {
    "catalog": ("The catalog", "`config/catalog.yaml` lists what can be exported. [Sources](../sources.md) explains how."),
    "tenant": (
        "A tenant's file",
        "`config/tenants/<tenant>.yaml`, and the body of `PUT /tenants/{tenant}/export`, say what a tenant receives.",
    ),
    "policy": (
        "House rules",
        "`config/policy.yaml` holds the rules of the house. Every key has a default. "
        "Files of `config/presets/` hold the keys of on-demand exports.",
    ),
}
RECOVERY = {
    "PermanentError": "Correct the input: trying again changes nothing.",
    "InvalidInput": "Correct the input: trying again changes nothing.",
    "ConfigError": "Correct the input: trying again changes nothing.",
    "TransientError": "It is tried again by itself.",
    "ConflictError": "A person has to look: nothing was touched.",
}


def pages() -> Iterator[tuple[str, str]]:
    """Every page's name and text."""
    from waybill.configuration.schemas import json_schema

    for kind, (title, about) in FILES.items():
        yield f"{kind}.md", configuration(title, about, json_schema(kind))
    yield "cli.md", commands()
    yield "errors.md", errors()


def configuration(title: str, about: str, schema: Mapping[str, Any]) -> str:
    """One table for each group of keys, groups in the order in which they are named."""
    groups, seen = [("", schema)], set()
    parts = [f"# {title}", NOTE, about]
    while groups:
        name, group = groups.pop(0)
        if name in seen or "properties" not in group:
            continue
        seen.add(name)
        parts += [f"## {name}" if name else "## Keys", *([_line(group["description"])] if name and "description" in group else [])]
        rows = [
            f"| `{key}` | {_kind(value, schema)} | {_default(group, key, value)} | {_line(value.get('description', ''))} |"
            for key, value in group["properties"].items()
        ]
        parts.append("\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows]))
        groups += [(one, schema["$defs"][one]) for one in dict.fromkeys(_references(group["properties"]))]
    return "\n\n".join(parts) + "\n"


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _kind(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        target = schema["$defs"][name]
        return f"[{name}](#{name.lower()})" if "properties" in target else _kind(target, schema)
    if "enum" in node:
        return ", ".join(f"`{_word(one)}`" for one in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    for group in ("anyOf", "oneOf"):
        if group in node:
            return " or ".join(dict.fromkeys(_kind(one, schema) for one in node[group] if one.get("type") != "null"))
    if node.get("type") == "array":
        return f"list of {_kind(node['items'], schema)}" if isinstance(node.get("items"), dict) else "list"
    if node.get("type") == "object" and isinstance(node.get("additionalProperties"), dict):
        return f"{_kind(node['additionalProperties'], schema)}, by name"
    if "examples" in node and "pattern" in node:
        return f"such as `{node['examples'][0]}`"
    bounds = [str(node[name]) for name in ("minimum", "maximum") if name in node]
    words = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`", "number": "number"}
    return words.get(str(node.get("type")), "any value") + (f", {' to '.join(bounds)}" if len(bounds) == 2 else "")


def _word(value: Any) -> str:
    """A value as a table shows it: control characters and bars would end a cell."""
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text.replace("|", "\\|")


def _default(group: Mapping[str, Any], key: str, node: Mapping[str, Any]) -> str:
    if key in group.get("required", ()):
        return "required"
    value = node.get("default")
    if value in (None, "", [], {}) or isinstance(value, dict):
        return ""
    if isinstance(value, list) and len(value) > 4:
        return "all"
    return f"`{_word(value)}`"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def commands() -> str:
    import typer
    from typer.cli import get_docs_for_click

    from waybill.cli.app import app

    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="waybill")
    text = get_docs_for_click(obj=group, ctx=context, name="waybill", title="Commands")
    return text.replace("# Commands\n", f"# Commands\n\n{NOTE}\n", 1).rstrip() + "\n"


def errors() -> str:
    """Every `code` that an error may carry, with what it says and what to do, as the code raises it."""
    found: dict[str, set[tuple[str, str, str]]] = {}
    for path in sorted((ROOT / "include" / "waybill").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RECOVERY and node.args:
                words = {one.arg: _text(one.value) for one in node.keywords if one.arg}
                if (code := words.get("code")) and re.fullmatch(r"[a-z_0-9]+", code):
                    found.setdefault(code, set()).add((node.func.id, _text(node.args[0]), words.get("next_step", "")))
    parts = [
        "# Error codes",
        NOTE,
        (
            "Deliveries, answers of the API (`code` in `application/problem+json`) and findings carry a stable code. "
            "An error's class says what recovers from it. A part in `<...>` differs from case to case."
        ),
    ]
    for code, cases in sorted(found.items()):
        lines = [f"## {code}"]
        for kind in sorted({one[0] for one in cases}, key=list(RECOVERY).index):
            lines.append(f"*{RECOVERY[kind]}*")
            lines += [
                f"- {_line(what)}" + (f" **{_line(step).removesuffix('.')}.**" if step else "")
                for one, what, step in sorted(cases)
                if one == kind
            ]
        parts.append("\n\n".join([*lines[:2], "\n".join(lines[2:])]) if len(lines) > 2 else lines[0])
    return "\n\n".join(parts) + "\n"


def _text(node: ast.expr) -> str:
    """A message as it reads, with what is put into it as `<...>`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one) if isinstance(one, ast.Constant) else f"`<{_named(one)}>`" for one in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body)
    if isinstance(node, ast.Call) and _named(node.func) == "tell" and isinstance(node.args[0], ast.Constant):
        from waybill.language import sentence

        return re.sub(r"{(\w+)[^}]*}", r"`<\1>`", sentence(str(node.args[0].value)))
    return f"`<{_named(node)}>`"


def _named(node: ast.expr) -> str:
    """A short name of what a message holds at this place."""
    names = [one.attr if isinstance(one, ast.Attribute) else one.id for one in ast.walk(node) if isinstance(one, ast.Attribute | ast.Name)]
    return names[0].strip("_").replace("_", " ") if names else "..."


def main() -> None:
    PAGES.mkdir(exist_ok=True)
    for name, text in pages():
        (PAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "include"))
    main()
