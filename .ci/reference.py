"""Writes docs/reference/ from the code: configuration keys, commands and error codes. A test compares; `make reference` writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # a test reads this file by its path

from raised import Errors, Kind
from texts import shown

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
PERMANENT, TRANSIENT, CONFLICT = (
    "Correct the input: trying again changes nothing.",
    "It is tried again by itself.",
    "A person has to look: nothing was touched.",
)
ERRORS = {
    "waybill.errors.PermanentError": (PERMANENT, Kind("permanent")),
    "waybill.errors.TransientError": (TRANSIENT, Kind("transient")),
    "waybill.errors.ConflictError": (CONFLICT, Kind("conflict")),
    "waybill.deliveries.repairs.BadRange": (PERMANENT, Kind("bad_range")),
    "waybill.deliveries.kept_bytes.BytesGone": (PERMANENT, Kind("bytes_gone")),
    "waybill.deliveries.generations.NewGenerationNeeded": (TRANSIENT, Kind("position_lost")),
    "waybill.sources.drift.Misfit": (PERMANENT, Kind("schema_drift")),
    "waybill.sources.drift.EngineMisfit": (PERMANENT, Kind("schema_drift")),
    "waybill.pgp.UnusableKey": (PERMANENT, Kind("pgp_key")),
    "waybill.requests.lifecycle.Refused": (PERMANENT, Kind("", ("code", "what"), "refusals")),
    "waybill.web.problems.Refused": (PERMANENT, Kind("", ("code", "what"))),
}
"""What recovers from the errors of each class, and how they are raised."""
TAKEN_OVER = {
    **{f"waybill_consumer.errors.{name}": Kind("consumer") for name in ("Refused", "Damaged", "Unreachable")},
}
"""Errors whose sentences others take over, and which nobody sees themselves."""


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
    folders = [ROOT / "include" / "waybill", ROOT / "consumer" / "src" / "waybill_consumer"]
    for one in Errors(folders, {name: kind for name, (_, kind) in ERRORS.items()} | TAKEN_OVER).raised():
        if one.kind in TAKEN_OVER:
            continue
        found.setdefault(one.code, set()).add((one.kind, one.what, one.next_step))
    parts = [
        "# Error codes",
        NOTE,
        (
            "Deliveries, answers of the API (`code` in `application/problem+json`) and findings carry a stable code. "
            "Search this page for the words of an error; what to do stands behind them in bold. "
            "An error's class says what recovers from it. A part in `<...>` differs from case to case."
        ),
    ]
    for code, cases in sorted(found.items()):
        lines = [f"## {code}"]
        for recovery in (PERMANENT, TRANSIENT, CONFLICT):
            if told := sorted({(shown(what), shown(step)) for kind, what, step in cases if ERRORS[kind][0] == recovery}):
                lines += [
                    f"*{recovery}*",
                    "\n".join(f"- {what}" + (f" **{step.removesuffix('.')}.**" if step else "") for what, step in told),
                ]
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    PAGES.mkdir(exist_ok=True)
    for name, text in pages():
        (PAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "include"))
    main()
