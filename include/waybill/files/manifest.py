"""The manifest: the facts of a published delivery, and the day manifest that lists a whole day. Their bytes are a pure function of the
facts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from waybill.canonical import timestamp_text
from waybill.configuration.selection import FileStyle
from waybill.configuration.values.columns import Column
from waybill.errors import PermanentError
from waybill.files import source_types
from waybill.files.source_types import Native
from waybill_consumer import manifest as consumer
from waybill_consumer.errors import Refused
from waybill_consumer.manifest import FORMAT_VERSION, Csv, Manifest
from waybill_consumer.records import Stored, records, text, unpacked

if TYPE_CHECKING:
    from waybill.ledger.facts import ColumnFacts

_FOR_THE_SENDER: dict[str, type] = {"entity_name": str, "position": dict, "schema_version": int, "produced_by": str}
"""What a sender needs of a manifest beyond what a consumer reads."""


def parse(data: bytes, where: str) -> Manifest:
    """Return a manifest as its sender reads it back. Raises PermanentError if it is none."""
    try:
        manifest = consumer.parse(data)
    except Refused as error:
        raise PermanentError(error.what, where=where, code="bad_manifest") from error
    for name, kind in _FOR_THE_SENDER.items():
        if not isinstance(manifest.facts.get(name), kind):
            raise PermanentError(f"is not a Waybill manifest: {name} is missing or not what it should be", where=where, code="bad_manifest")
    return manifest


def csv_of(facts: Mapping[str, Any]) -> Csv:
    """Return a dialect from what `dialect_of` made."""
    return Csv(**{name: facts[name] for name in Csv._fields})


def records_of(blocks: Iterable[bytes], style: Csv) -> Iterator[list[str]]:
    """Yield every record of a file that is known to be whole, without its header. NULL is an empty text here, too."""
    found = records(text(unpacked(Stored(blocks), style.compression)), style)
    next(found, None)
    return ([text or "" for text in record] for record in found)


def columns_of(columns: Mapping[str, Column], natives: Mapping[str, Native] | None = None) -> list[ColumnFacts]:
    """Return what a manifest says of each column. `natives` is what the source says of its own, where that is known."""
    found: list[ColumnFacts] = []
    for name, column in columns.items():
        source = column.source(name)
        found.append({"name": name, "type": column.leaves_as.value, "description": column.description})
        if source != name:
            found[-1]["source_name"] = source
        if natives is not None:
            found[-1] = {**found[-1], **source_types.facts(column, natives.get(source))}
    return found


def dialect_of(style: FileStyle) -> dict[str, Any]:
    """Return the CSV dialect in the words that a loader needs."""
    return {
        "delimiter": style.delimiter,
        "line_ending": style.line_end,
        "quote": '"',
        "escape": '"',
        "null": "",
        "header": True,
        "encoding": "utf-8",
        "bom": style.bom,
        "compression": style.compression,
    }


def document(facts: Mapping[str, Any]) -> bytes:
    """Return JSON with two blanks of indentation, keys in the given order, non-ASCII text as it is, and one line end at the end."""
    return (json.dumps(facts, ensure_ascii=False, indent=2, default=plain) + "\n").encode()


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


class _Read(BaseModel):
    """The base of what is read back. Unknown fields are ignored, because later versions may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


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
    """Return what a day manifest lists. Anything else lists nothing."""
    try:
        return _Day.model_validate_json(data).deliveries
    except ValidationError:
        return []


def named(data: bytes) -> Listed | None:
    """Return the delivery that a manifest is about, whatever else it says, or None if it is no manifest."""
    try:
        return Listed.model_validate_json(data)
    except ValidationError:
        return None


def day_document(tenant: str, day: date, number: int, deliveries: Sequence[Mapping[str, Any]], produced_by: str) -> bytes:
    """Return the day manifest: every delivery of the date so far, with what a consumer needs to find and check its files."""
    return document(
        {
            "format_version": FORMAT_VERSION,
            "tenant": tenant,
            "date": day,
            "number": number,
            "entities": sorted({str(delivery["entity"]) for delivery in deliveries}),
            "rows": sum(int(delivery["rows"]) for delivery in deliveries),
            "bytes": sum(int(delivery["bytes"]) for delivery in deliveries),
            "deliveries": list(deliveries),
            "produced_by": produced_by,
        }
    )
