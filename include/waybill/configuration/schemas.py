"""JSON Schemas of the configuration files, for editors. `waybill check` has the last word, because it also knows what only shows across
files.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from waybill.configuration.catalog import Catalog
from waybill.configuration.policy import ALIASES, Policy, Preset
from waybill.configuration.registration import Registration

KINDS: dict[str, type[BaseModel]] = {"catalog": Catalog, "tenant": Registration, "policy": Policy, "preset": Preset}

_DURATION = {"type": "string", "pattern": r"^\s*\d+\s*(s|m|h|d|w)\s*$", "examples": ["30m", "24h", "7d"]}


def json_schema(kind: str) -> dict[str, Any]:
    """Return the schema of one kind of file. It allows every spelling that the reader of that file accepts."""
    schema: dict[str, Any] = _as_written(KINDS[kind].model_json_schema(by_alias=True), with_none=kind in ("policy", "preset"))
    if kind == "catalog":
        entity = schema["$defs"]["Entity"]
        entity["properties"].pop("id")  # it is the key in the file
        entity["required"].remove("id")
        entity["properties"]["key"] |= {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
        entity["properties"]["deletes"]["anyOf"].append({"enum": ["compare", "compare_rows", "never"]})
        schema["$defs"]["Column"]["properties"]["export"]["enum"].append(True)  # a bare yes
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _as_written(node: Any, *, with_none: bool) -> Any:
    """Allow durations as `24h`, `none` in policies where null is allowed, and a list for `notify`, as they are in YAML."""
    if isinstance(node, list):
        return [_as_written(item, with_none=with_none) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "duration":
        return _DURATION | ({"description": node["description"]} if "description" in node else {})
    found = {key: _as_written(value, with_none=with_none) for key, value in node.items()}
    options = found.get("anyOf", [])
    if with_none and {"type": "null"} in options:
        found["anyOf"] = [*options, {"const": "none"}]
    if "registrations.manage" in (found.get("enum") or ()):
        found["enum"] += list(ALIASES)
    if found.get("$ref") == "#/$defs/Notify":
        described = {"description": found["description"]} if "description" in found else {}
        return {**described, "anyOf": [{"$ref": found["$ref"]}, {"type": "array", "items": {"enum": ["ready", "failed"]}}]}
    return found
