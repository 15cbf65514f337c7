"""Turns pydantic's complaints into findings in Waybill's words: where, what, what is allowed, what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from waybill.access import TENANT_ID
from waybill.configuration.catalog import CONNECTION_ID, SLUG, SUGGESTED, closest
from waybill.errors import Finding, InvalidInput
from waybill.language import ALLOWED, tell

Model = TypeVar("Model", bound=BaseModel)

_CODES = {
    "missing": "required",
    "union_tag_not_found": "required",
    "extra_forbidden": "unknown_key",
    "enum": "unknown_value",
    "literal_error": "unknown_value",
    "union_tag_invalid": "unknown_value",
}
_KINDS = {
    "bool": "allowed.bool",
    "int": "allowed.whole_number",
    "float": "allowed.number",
    "string": "allowed.text",
    "list": "allowed.list",
    "tuple": "allowed.list",
    "model": "allowed.mapping",
    "dict": "allowed.mapping",
}
"""What pydantic's `int_type`, `int_parsing` and so on ask for, by how their names begin."""
_OTHER_NAMES = {
    other: name
    for name, others in {
        "string": "text varchar nvarchar char character citext str enum clob time interval",
        "integer": "int bigint smallint tinyint int4 int8 serial bigserial hugeint long",
        "decimal": "numeric number money",
        "float": "double real float4 float8",
        "boolean": "bool bit",
        "timestamp": "timestamptz datetime datetime2",
        "uuid": "guid uniqueidentifier",
        "json": "jsonb struct map array list variant object",
        "binary": "bytea blob bytes varbinary",
    }.items()
    for other in others.split()
} | {"double precision": "float", "character varying": "string", "timestamp with time zone": "timestamp"}
"""What databases call the types of the catalog."""
MOST = 1000
"""Problems of one model that are reported one by one."""
MOST_KEYS = 8
"""Keys of a mapping that are named where something else was given."""

_FORMS = {
    TENANT_ID.pattern.replace(r"\Z", "$"): "allowed.tenant_id",
    SLUG: "allowed.slug",
    CONNECTION_ID: "allowed.connection_id",
    "^[0-9a-f]{32}$": "allowed.hex_id",
    "^([0-9a-f]{32})?$": "allowed.hex_id",
}
"""What a pattern allows, in words."""


def _explain(found: list[Any], model: type[BaseModel], file: str, prefix: str = "") -> list[Finding]:
    """Return pydantic's complaints in Waybill's words, one finding each. Values are left out unless they are short words."""
    findings = [_explained(error, model, file, prefix, suggest=number < SUGGESTED) for number, error in enumerate(found[:MOST])]
    if len(found) > MOST:
        findings.append(Finding(file, prefix, tell("finding.more", count=len(found) - MOST)))
    return findings


def parameter(error: Any) -> Finding:
    """Return pydantic's complaint about a parameter of a call in the same words, without where it was sent (path, query, header)."""
    reason, allowed, meant = (tell("finding.required"), "", "") if error["type"] == "missing" else _in_words(error)
    return Finding("", str(error["loc"][1]), reason, allowed, meant, _CODES.get(error["type"], "invalid"))


def kind_of(value: Any) -> str:
    """Return what JSON and YAML would call a value that is not shown."""
    kinds = {type(None): "null", bool: "bool", int: "number", float: "number", str: "text", list: "list", dict: "mapping"}
    return tell(f"kind.{kinds.get(type(value), 'another')}")


def _explained(error: Any, model: type[BaseModel], file: str, prefix: str, *, suggest: bool) -> Finding:
    loc = [str(part) for part, _, is_tag in _steps(model, error["loc"]) if not is_tag]
    path = ".".join([prefix, *loc] if prefix else loc)
    context = error.get("ctx", {})
    allowed, meant = "", ""
    match error["type"]:
        case "missing":
            reason = tell("finding.required")
        case "extra_forbidden":
            options = _keys_at(model, error["loc"][:-1])
            reason, allowed = tell("finding.unknown_key"), ", ".join(options)
            meant = closest(str(error["loc"][-1]), options) if suggest else ""
        case "union_tag_invalid":
            allowed = context["expected_tags"].replace("'", "")
            reason, meant = tell("finding.unknown_kind", kind=repr(context["tag"])), closest(context["tag"], allowed.split(", "))
            path += ".kind"
        case "union_tag_not_found":
            reason, allowed, path = tell("finding.required"), tell("allowed.kind"), f"{path}.kind"
        case _:
            reason, allowed, meant = _in_words(error)
            allowed = _shape(model, error) or allowed
            path = path.removesuffix(".id") if error["type"] == "string_pattern_mismatch" else path  # an entity's id is its key in the file
    return Finding(file, path, reason, allowed, meant, _CODES.get(error["type"], "invalid"))


def _in_words(error: Any) -> tuple[str, str, str]:
    """Return what is wrong with a value, what is allowed, and what was probably meant."""
    given, kind, context = error.get("input"), error["type"], error.get("ctx", {})
    match kind:
        case "enum" | "literal_error":
            options = [option.strip("'") for option in re.split(r", | or ", context["expected"]) if option != "''"]
            known = _OTHER_NAMES.get(str(given).casefold().partition("(")[0].strip(), "")
            meant = known if known in options else closest(str(given), options)
            words = "finding.unknown_value" if isinstance(given, str | int | float | None) else "finding.does_not_fit"
            return tell(words, value=_short(given)), ", ".join(options), meant
        case "value_error":
            reason, _, allowed = str(context["error"]).partition(ALLOWED)
            allowed, _, meant = allowed.partition("; did you mean ")
            named = not isinstance(given, str | int | float) or _short(given) in reason or _is_key(given)
            return reason if named else f"{_short(given)}: {reason}", allowed, meant.removesuffix("?")
        case "string_pattern_mismatch":
            key = _FORMS.get(context["pattern"])
            allowed = tell(key) if key else tell("allowed.pattern", pattern=context["pattern"])
            return tell("finding.does_not_fit", value=_short(given)), allowed, ""
        case "greater_than_equal":
            return tell("finding.too_small", value=_short(given)), tell("allowed.at_least", bound=context["ge"]), ""
        case "less_than_equal":
            return tell("finding.too_large", value=_short(given)), tell("allowed.at_most", bound=context["le"]), ""
        case "too_short" | "string_too_short":
            return tell("finding.too_short"), _at(kind, "allowed.least_characters", "allowed.least_entries", context["min_length"]), ""
        case "too_long" | "string_too_long":
            return tell("finding.too_long"), _at(kind, "allowed.most_characters", "allowed.most_entries", context["max_length"]), ""
    if kind.startswith(tuple(_KINDS)):
        key = next(words for start, words in _KINDS.items() if kind.startswith(start))
        return tell("finding.does_not_fit", value=_short(given)), tell(key), ""
    return f"{_short(given)}: {error['msg'][:1].lower()}{error['msg'][1:]}", "", ""


def _shape(model: type[BaseModel], error: Any) -> str:
    """Return what a mapping or a list of mappings holds that was expected, or nothing if it holds anything else or too much to read."""
    inside, key = {
        "model_type": ((), "allowed.mapping_of"),
        "list_type": ((0,), "allowed.list_of"),
        "tuple_type": ((0,), "allowed.list_of"),
    }.get(error["type"], ((), ""))
    keys = _keys_at(model, (*error["loc"], *inside)) if key else []
    return tell(key, keys=", ".join(keys)) if 0 < len(keys) <= MOST_KEYS else ""


def _at(kind: str, of_text: str, of_list: str, number: int) -> str:
    return tell(of_text if kind.startswith("string") else of_list, count=number)


def _short(value: Any) -> str:
    """Return a value as JSON and YAML write it. A long value is named by its kind. An address, which may hold a password, and a key are not
    shown.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        return kind_of(value)
    if isinstance(value, str) and "://" in value:
        return tell("kind.address")
    if _is_key(value):
        return tell("kind.key")
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_key(value: Any) -> bool:
    """Return whether a text is armored, as keys are. It may be the private half."""
    return isinstance(value, str) and "-----BEGIN" in value


@cache
def _schema(model: type[BaseModel]) -> Any:
    return model.model_json_schema(by_alias=True)


def _keys_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Return the keys that a model accepts at a place inside it."""
    here = [_schema(model), *(schema for _, schema, _ in _steps(model, loc))][-1]
    return list(_follow(here, _schema(model)).get("properties", {}))


def _steps(model: type[BaseModel], loc: tuple[Any, ...]) -> Iterator[tuple[Any, Any, bool]]:
    """Yield each part of a place inside a model, the schema behind it, and whether pydantic alone put it there (the tag of a union's
    choice).
    """
    root = here = _schema(model)
    for part in loc:
        here, is_tag = _follow(here, root), False
        if part in here.get("properties", {}):
            here = here["properties"][part]
        elif part in here.get("discriminator", {}).get("mapping", {}):
            here, is_tag = {"$ref": here["discriminator"]["mapping"][part]}, True
        else:
            named = [here.get("additionalProperties"), *here.get("patternProperties", {}).values()]
            many = here.get("items") if isinstance(part, int) else next((schema for schema in named if isinstance(schema, dict)), {})
            here = many if isinstance(many, dict) else {}
        yield part, here, is_tag


def _follow(schema: Any, root: Any) -> Any:
    while "$ref" in schema or "anyOf" in schema:
        schema = (
            root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
            if "$ref" in schema
            else next(option for option in schema["anyOf"] if option.get("type") != "null")
        )
    return schema


def validated(model: type[Model], raw: Mapping[str, Any], file: str, findings: list[Finding], prefix: str = "") -> Model | None:
    """Return the model. Offending keys are left out, so that later checks still see the rest. It is None if nothing is left."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False)
        findings.extend(_explain(found, model, file, prefix))
        offending = {error["loc"][0] for error in found if error["loc"]}
        rest = {key: value for key, value in raw.items() if key not in offending}
        try:
            return model.model_validate(rest)
        except ValidationError:
            return None


def parsed(model: type[Model], body: Mapping[str, Any]) -> Model:
    """Return what somebody sent, or sent to an older version of Waybill, as a model. Raises InvalidInput with every problem."""
    findings: list[Finding] = []
    found = validated(model, body, "", findings)
    if found is None or findings:
        raise InvalidInput(findings)
    return found
