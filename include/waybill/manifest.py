"""The manifest: the facts of a published delivery, and the day manifest that lists a whole day. Bytes are a pure function of the facts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from waybill.canonical import timestamp_text
from waybill.catalog import Column
from waybill.errors import PermanentError
from waybill.selection import Dialect

FORMAT_VERSION = 1


class File(BaseModel):
    """One data file; `path` is relative to the folder the manifest stands in."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    path: str
    rows: int
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """A manifest as a reader sees it: the contract's fields, unknown ones ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format_version: int
    delivery_id: str
    tenant: str
    entity: str
    generation: int
    sequence: int
    previous: dict[str, Any] | None
    kind: str
    window: dict[str, Any]
    rows: int
    bytes: int
    sha256: str
    files: tuple[File, ...]
    columns: tuple[dict[str, Any], ...]
    csv: dict[str, Any]
    possible_duplicate: bool = False


def parse(data: bytes, where: str) -> Manifest:
    """A manifest read back. Raises PermanentError when it is not one."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise PermanentError(f"not a Waybill manifest: {field}: {problem['msg']}", where=where, code="bad_manifest") from error


def instant(value: datetime | None) -> str | None:
    return None if value is None else timestamp_text(value)


def columns_of(columns: Mapping[str, Column]) -> list[dict[str, str]]:
    return [{"name": name, "type": column.type.value, "description": column.description} for name, column in columns.items()]


def dialect_of(dialect: Dialect) -> dict[str, Any]:
    """The CSV dialect in the words a loader needs."""
    return {
        "delimiter": dialect.delimiter,
        "line_ending": dialect.line_end,
        "quote": '"',
        "escape": '"',
        "null": "",
        "header": True,
        "encoding": "utf-8",
        "bom": dialect.bom,
        "compression": dialect.compression,
    }


def document(facts: Mapping[str, Any]) -> bytes:
    """JSON with two blanks of indentation, keys in the order given, non-ASCII as it is, one line end at the end."""
    return (json.dumps(facts, ensure_ascii=False, indent=2, default=_plain) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


def day_document(tenant: str, day: date, number: int, deliveries: Sequence[Mapping[str, Any]], produced_by: str) -> bytes:
    """The day manifest: every delivery of the date so far, with what is needed to find and check its files."""
    return document(
        {
            "format_version": FORMAT_VERSION,
            "tenant": tenant,
            "date": day,
            "number": number,
            "entities": sorted({str(one["entity"]) for one in deliveries}),
            "rows": sum(int(one["rows"]) for one in deliveries),
            "bytes": sum(int(one["bytes"]) for one in deliveries),
            "deliveries": list(deliveries),
            "produced_by": produced_by,
        }
    )
