"""What pydantic complains of, as findings in Waybill's words: where, what, what is allowed, what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from waybill.catalog import closest
from waybill.errors import Finding

Model = TypeVar("Model", bound=BaseModel)

_CODES = {
    "missing": "required",
    "union_tag_not_found": "required",
    "extra_forbidden": "unknown_key",
    "enum": "unknown_value",
    "literal_error": "unknown_value",
    "union_tag_invalid": "unknown_value",
}


def explain(error: ValidationError, model: type[BaseModel], file: str, prefix: str = "") -> list[Finding]:
    """pydantic's complaints in Waybill's words, one finding each, values left out unless they are short words."""
    return [_explained(one, model, file, prefix) for one in error.errors(include_url=False)]


def _explained(one: Any, model: type[BaseModel], file: str, prefix: str) -> Finding:
    loc = [str(part) for part in one["loc"] if not _is_union_tag(part, one, model)]
    path = ".".join([prefix, *loc] if prefix else loc)
    context = one.get("ctx", {})
    allowed, meant, given = "", "", one.get("input")
    match one["type"]:
        case "missing":
            reason = "is required"
        case "extra_forbidden":
            options = _keys_at(model, one["loc"][:-1])
            reason, allowed, meant = "unknown key", ", ".join(options), closest(str(one["loc"][-1]), options)
        case "enum" | "literal_error":
            allowed = re.sub(r"'", "", context["expected"]).replace(" or ", ", ")
            reason, meant = f"unknown value {_short(given)}", closest(str(given), allowed.split(", "))
        case "union_tag_invalid":
            allowed = context["expected_tags"].replace("'", "")
            reason, meant = f"unknown kind {context['tag']!r}", closest(context["tag"], allowed.split(", "))
            path += ".kind"
        case "union_tag_not_found":
            reason, allowed, path = "is required", "a kind", f"{path}.kind"
        case "value_error":
            reason, _, allowed = str(context["error"]).partition("; allowed: ")
            allowed, _, meant = allowed.partition("; did you mean ")
            reason, meant = f"{_short(given)}: {reason}" if isinstance(given, str | int | float) else reason, meant.removesuffix("?")
        case "string_pattern_mismatch":
            reason, allowed = f"{_short(given)} does not fit", f"text matching {context['pattern']}"
            path = path.removesuffix(".id")  # an entity's id is its key in the file
        case _:
            message = one["msg"]
            reason = (
                f"{_short(given)}: {message[:1].lower()}{message[1:]}"
                if isinstance(given, str | int | float | None)
                else f"{message[:1].lower()}{message[1:]}"
            )
    return Finding(file, path, reason, allowed, meant, _CODES.get(one["type"], "invalid"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_union_tag(part: Any, one: Any, model: type[BaseModel]) -> bool:
    """pydantic puts the chosen `kind` into the path of a discriminated union; nobody wrote it there."""
    position = one["loc"].index(part)
    return (
        position > 0
        and part in ("duckdb", "lake", "postgres", "dbapi", "sftp", "folder", "s3")
        and (one["loc"][0] == "destination" or (one["loc"][0] == "sources" and position == 2))
    )


def _keys_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """The keys a model accepts at a place inside it."""
    here: Any = model.model_json_schema(by_alias=True)
    root = here
    for part in loc:
        here = _follow(here, root)
        if part in here.get("properties", {}):
            here = here["properties"][part]
        elif part in here.get("discriminator", {}).get("mapping", {}):
            here = {"$ref": here["discriminator"]["mapping"][part]}
        elif "additionalProperties" in here:
            here = here["additionalProperties"]
        else:
            return []
    return list(_follow(here, root).get("properties", {}))


def _follow(schema: Any, root: Any) -> Any:
    while "$ref" in schema or "anyOf" in schema:
        schema = (
            root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
            if "$ref" in schema
            else next(one for one in schema["anyOf"] if one.get("type") != "null")
        )
    return schema


def validated(model: type[Model], raw: Mapping[str, Any], file: str, findings: list[Finding], prefix: str = "") -> Model | None:
    """The model; without the offending keys where it has some, so that later checks still see the rest; None when nothing is left."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        findings.extend(explain(error, model, file, prefix))
        offending = {one["loc"][0] for one in error.errors() if one["loc"]}
        rest = {key: value for key, value in raw.items() if key not in offending}
        try:
            return model.model_validate(rest)
        except ValidationError:
            return None
