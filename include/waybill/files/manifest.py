"""The manifest: the facts of a published delivery, and the day manifest that lists a whole day. Bytes are a pure function of the facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from waybill.canonical import timestamp_text
from waybill.configuration.columns import Column
from waybill.configuration.selection import Dialect
from waybill.errors import PermanentError
from waybill.files import source_types
from waybill.files.source_types import Native

FORMAT_VERSION = 1
SOURCE_NAME = "source_name"
"""In the facts of a column that leaves under another name: what the source calls it."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Read(BaseModel):
    """Base of what is read back: unknown fields are ignored, since later versions may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class File(_Read):
    """One data file; `path` is a bare name in the folder the manifest stands in."""

    path: Annotated[str, StringConstraints(pattern=r"^[^./\\][^/\\]*$")]
    rows: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Span(_Read):
    """The window: `[start, end)`, no start in the first delivery of a generation. `exact`: no row lies outside of it."""

    start: AwareDatetime | None = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    mode: str
    exact: bool | None = None


class Previous(_Read):
    """The delivery before this one in its stream."""

    sequence: int
    sha256: Sha256


class Csv(_Read):
    """What a reader of the data files must know; the rest of the dialect is fixed."""

    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)]
    line_ending: Literal["\n", "\r\n"]
    bom: bool
    compression: Literal["none", "gzip", "zstd"]


class Manifest(_Read):
    """A manifest as a reader sees it: the contract's fields, all of them there, and those that only some have."""

    format_version: int
    delivery_id: str
    tenant: str
    entity: str
    entity_name: str
    generation: int
    sequence: int
    previous: Previous | None
    kind: Literal["full", "delta", "backfill"]
    window: Span
    position: dict[str, Any]
    snapshot_time: AwareDatetime
    rows: int
    bytes: int
    sha256: Sha256
    files: Annotated[tuple[File, ...], Field(min_length=1)]
    columns: tuple[dict[str, Any], ...]
    key: tuple[str, ...]
    schema_version: int
    format: Literal["csv", "parquet", "ndjson"] = "csv"
    csv: Csv
    possible_duplicate: bool
    tombstone_column: str | None
    produced_by: str
    redelivers: str | None = None
    note: str = ""
    deletes: File | None = None

    def shape(self, file: File) -> str:
        """The format of one of its files: the deletes are CSV always."""
        return "csv" if file is self.deletes else self.format


def parse(data: bytes, where: str) -> Manifest:
    """A manifest read back. Raises PermanentError when it is not one."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise PermanentError(f"not a Waybill manifest: {field}: {problem['msg']}", where=where, code="bad_manifest") from error


def all_files(one: Manifest) -> list[File]:
    """The data files and, where there is one, the deletes file."""
    return [*one.files, *([one.deletes] if one.deletes else [])]


def package_hash(hashes: Sequence[str]) -> str:
    """What stands for a delivery's files: the only one's hash, or for several the hash of their hashes in order, in hex, one a line."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(f"{one}\n" for one in hashes).encode()).hexdigest()


def columns_of(columns: Mapping[str, Column], told: Mapping[str, Native] | None = None) -> list[dict[str, Any]]:
    """What a manifest says of each column; `told` is what the source says of its own, where that is known."""
    found: list[dict[str, Any]] = []
    for name, column in columns.items():
        source = column.source(name)
        found.append({"name": name, "type": column.leaves_as.value, "description": column.description})
        if source != name:
            found[-1][SOURCE_NAME] = source
        if told is not None:
            found[-1] |= source_types.facts(column, told.get(source))
    return found


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
    return (json.dumps(facts, ensure_ascii=False, indent=2, default=plain) + "\n").encode()


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


class Listed(_Read):
    """A delivery as a day manifest lists it, or as its own manifest names it."""

    entity: str
    delivery_id: str
    generation: int
    sequence: int
    manifest: str = ""


class _Day(_Read):
    deliveries: list[Listed] = []


def listed(data: bytes) -> list[Listed]:
    """What a day manifest lists; nothing where it is none."""
    try:
        return _Day.model_validate_json(data).deliveries
    except ValidationError:
        return []


def named(data: bytes) -> Listed | None:
    """The delivery a manifest is about, whatever else it says; None where it is no manifest."""
    try:
        return Listed.model_validate_json(data)
    except ValidationError:
        return None


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
