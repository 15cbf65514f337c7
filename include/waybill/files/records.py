"""Reads records: those of delivered files of any format, as the texts that CSV holds, and the canonical ones of a source."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from typing import IO, TYPE_CHECKING

from waybill.canonical import ColumnType
from waybill.files.manifest import records_of
from waybill_consumer.manifest import Column, Csv
from waybill_consumer.records import Stored, text, unpacked
from waybill_consumer.shapes import ndjson_records

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def texts_of(blocks: Iterable[bytes], dialect: Csv, format: str, columns: Iterable[tuple[str, str]]) -> Iterator[list[str]]:
    """Yield every record of a data file that is known to be whole. NULL is an empty text. `columns` are its names and types."""
    if format == "parquet":
        with _on_disk(blocks) as file:
            yield from _parquet_records(file, [kind for _, kind in columns])
    elif format == "ndjson":
        lines = text(unpacked(Stored(blocks), dialect.compression))
        found = ndjson_records(lines, [Column(name, kind) for name, kind in columns])
        yield from ([text or "" for text in record] for record in found)
    else:
        yield from records_of(blocks, dialect)


def fields_of(record: str) -> list[str | None]:
    """Return the fields of a canonical record. NULL is None, the empty string is empty."""
    found: list[str | None] = []
    rest = record
    while True:
        if rest.startswith('"'):
            end = rest.index('"', 1)
            while rest[end + 1 : end + 2] == '"':
                end = rest.index('"', end + 2)
            found.append(rest[1:end].replace('""', '"'))
            rest = rest[end + 1 :]
        else:
            plain, comma, after = rest.partition(",")
            found.append(plain or None)
            rest = comma + after
        if not rest:
            return found
        rest = rest[1:]


def _on_disk(blocks: Iterable[bytes]) -> IO[bytes]:
    """Hold all bytes in a file that is removed when it is closed. The end of a Parquet file says where the rest is."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (whoever asked closes it)
    for block in blocks:
        file.write(block)
    file.seek(0)
    return file


@cache
def _engine() -> DuckDBPyConnection:
    """Return the engine that spells the values of all Parquet files of this process. Opening one takes longer than a small file."""
    import duckdb

    return duckdb.connect(config={"threads": 1})


def _parquet_records(file: IO[bytes], kinds: list[str]) -> Iterator[list[str]]:
    import pyarrow as pa
    from pyarrow import parquet

    from waybill.formats import lines

    with _engine().cursor() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for batch in parquet.ParquetFile(file).iter_batches():
            names = [f"c{number}" for number in range(batch.num_columns)]
            renamed = pa.Table.from_arrays(batch.columns, names)
            typed = zip(names, kinds, renamed.schema, strict=True)
            texts = ", ".join(f"coalesce({lines.text(name, ColumnType(kind), field.type)}, '')" for name, kind, field in typed)
            for row in connection.from_arrow(renamed).project(texts).fetchall():
                yield list(row)
