"""Writes files in each format, from Arrow batches or from records that are text already.

In: a path that does not exist yet, the catalogued columns, and batches. Out: a closed file with its rows, bytes and SHA-256. `csv` writes
scheduled deliveries, byte for byte the same from every source. `open_writer` picks the writer of an on-demand export: `json_text` (NDJSON
and JSON), `human_csv`, `xlsx`, `parquet`, which all keep the promise in `base`. `intake` cuts what comes in into pieces that keep memory
flat, `clean` takes credentials out of values (out of JSON by `json_trees`), `flatten` makes dotted columns of nested ones, and `lines`
turns a piece into text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waybill.configuration.values.columns import Column
    from waybill.formats.base import Writer, WriterOptions

__all__ = ["SUFFIXES", "TYPED", "open_writer"]

TYPED = frozenset({"xlsx", "parquet"})
"""Formats with types of their own. The others hold the text of every value."""

SUFFIXES = {"ndjson": ".ndjson", "csv": ".csv", "json": ".json", "xlsx": ".xlsx", "parquet": ".parquet"}


def open_writer(format: str, path: Path, entity_id: str, columns: Mapping[str, Column], options: WriterOptions) -> Writer:
    """Open a writer for one entity into a new file at `path`, which must not exist. `format` is one of
    `waybill.configuration.catalog.FORMATS`.

    Raises TransientError if the file cannot be made, and PermanentError `row_limit_format` if the format cannot hold so many columns.
    """
    from waybill.formats.base import Output

    match format:
        case "ndjson":
            from waybill.formats.json_text import NdjsonWriter

            return NdjsonWriter(Output(path), columns, options)
        case "csv":
            from waybill.formats.human_csv import HumanCsvWriter

            return HumanCsvWriter(path, columns, options)
        case "json":
            from waybill.formats.json_text import JsonWriter

            return JsonWriter(Output(path), entity_id, columns, options)
        case "xlsx":
            from waybill.formats.xlsx import SheetWriter

            return SheetWriter(path, entity_id, columns, options)
        case "parquet":
            from waybill.formats.parquet import ParquetWriter

            return ParquetWriter(Output(path), columns, options)
    raise ValueError(f"{format!r} is not a format; allowed: {', '.join(SUFFIXES)}")
