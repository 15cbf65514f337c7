"""Writes proposals as YAML: entities with their remarks behind `#`, alone or added to a catalog that people maintain."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any

import yaml

from waybill.configuration.catalog import SourceSpec
from waybill.discovery.proposing import Proposal, Proposed
from waybill.errors import PermanentError

SCHEMA_LINE = "# yaml-language-server: $schema=../schemas/catalog.schema.json"


def flow(value: Any) -> str:
    """Return a value on one line, quoted if YAML needs it. If something in it cannot be shown, it is JSON, which YAML reads too."""
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False).strip()[1:-1]
    return text if text.isprintable() else json.dumps(value)


def _quoted(name: str) -> str:
    """Return a name in a remark, on one line."""
    return json.dumps(name, ensure_ascii=not name.isprintable())


def source_line(name: str, spec: SourceSpec) -> str:
    return f"  {flow(name)}: {flow(spec.model_dump(mode='json', exclude_defaults=True))}"


def entity_lines(proposal: Proposal) -> list[str]:
    lines = [f"  {flow(proposal.id)}:"]
    for key, value in proposal.body.items():
        remark = f"    # {proposal.remarks[key]}" if key in proposal.remarks else ""
        if key == "tenant_through":
            lines += [f"    tenant_through:{remark}", *(f"      - {flow(step)}" for step in value)]
        elif key == "columns":
            lines += ["    columns:", *(f"      {flow(name)}: {flow(column)}" for name, column in value.items())]
            lines += [f"      # {_quoted(name)} is left out: {why}" for name, why in proposal.left_out.items()]
        else:
            lines.append(f"    {key}: {flow(value)}{remark}")
    return lines


def skipped_lines(name: str, found: Proposed) -> list[str]:
    if not found.skipped:
        return []
    return ["", _skipped_of(name), *(f"#   {_quoted(skipped.relation)}: {' '.join(skipped.why.split())}" for skipped in found.skipped)]


def _skipped_of(name: str) -> str:
    return f"# Not exported of {_quoted(name)}:"


def _without_skipped(lines: list[str], heads: Container[str]) -> list[str]:
    """Return the lines without the blocks of skipped tables that an earlier proposal wrote."""
    kept: list[str] = []
    inside = False
    for line in lines:
        begins = line in heads
        inside = begins or (inside and line.startswith('#   "'))
        if begins and kept and not kept[-1]:
            kept.pop()
        if not inside:
            kept.append(line)
    return kept


def catalog_text(name: str, spec: SourceSpec, found: Proposed) -> str:
    """Return a whole catalog of one source."""
    lines = [SCHEMA_LINE, "sources:", source_line(name, spec), "", "entities:" if found.entities else "entities: {}"]
    for proposal in found.entities:
        lines += ["", *entity_lines(proposal)]
    return "\n".join([*lines, *skipped_lines(name, found)]) + "\n"


def merged(before: str, name: str, spec: SourceSpec, found: Proposed) -> str:
    """Return a catalog with the proposals added. Every line that was there stays, except the source's list of skipped tables.

    Raises PermanentError if it has no place for them.
    """
    raw = yaml.safe_load(before) or {}
    if not raw.get("entities") and not raw.get("sources"):
        return catalog_text(name, spec, found)
    sources = raw.get("sources") or {}
    heads = {_skipped_of(name), *(["# Not exported:"] if list(sources) == [name] else [])}  # earlier versions named no source
    lines = _without_skipped(before.rstrip("\n").split("\n"), heads)
    if name not in sources:
        lines = _under(lines, "sources", [source_line(name, spec)])
    added = [line for proposal in found.entities for line in ("", *entity_lines(proposal))]
    return "\n".join([*_under(lines, "entities", added), *skipped_lines(name, found)]) + "\n"


def _under(lines: list[str], section: str, added: list[str]) -> list[str]:
    """Return the lines with others at the end of a top-level section."""
    empty = (f"{section}:", f"{section}: {{}}")
    start = next((number for number, line in enumerate(lines) if line.partition(" #")[0].rstrip() in empty), None)
    if start is None:
        if any(line.startswith(section) for line in lines):
            raise PermanentError(
                f"{section} of the catalog is not written as a block",
                next_step=f"Write one entry a line below `{section}:`, or copy the entries yourself",
                code="catalog_form",
            )
        return [*lines, "", f"{section}:", *added]
    end = next((number for number in range(start + 1, len(lines)) if lines[number][:1] not in ("", " ", "#")), len(lines))
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    indents = {len(line) - len(line.lstrip()) for line in lines[start + 1 : end] if line.strip() and not line.lstrip().startswith("#")}
    if indents and min(indents) != 2:
        step = "Indent it by two blanks, or copy the entries yourself"
        raise PermanentError(f"{section} of the catalog is indented by {min(indents)} blanks", next_step=step, code="catalog_form")
    return [*lines[:start], f"{section}:", *lines[start + 1 : end], *added, *lines[end:]]
