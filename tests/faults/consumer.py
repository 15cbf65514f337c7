"""What a consumer knows: the file contract and nothing of the product's code. Half written files raise `Incomplete`."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard

Row = tuple[str | None, ...]


class Incomplete(Exception):
    """A file under its final name is not whole."""


@dataclass(frozen=True)
class Delivered:
    """One delivery as its manifest tells it, and the rows of its files."""

    path: Path
    manifest: dict[str, Any]
    rows: list[Row]

    @property
    def stream(self) -> tuple[str, str, int]:
        return self.manifest["tenant"], self.manifest["entity"], self.manifest["generation"]


def records(text: str, delimiter: str = ",", line_end: str = "\n") -> Iterator[Row]:
    """RFC 4180 records; an unquoted empty field is None, a quoted one the empty string."""
    at = 0
    fields: list[str | None] = []
    while at < len(text):
        value, at = _quoted(text, at) if text[at] == '"' else _bare(text, at, delimiter, line_end)
        fields.append(value)
        if text.startswith(line_end, at):
            yield tuple(fields)
            fields, at = [], at + len(line_end)
        elif text.startswith(delimiter, at) and at + len(delimiter) < len(text):
            at += len(delimiter)
        else:
            raise Incomplete(f"ends inside a record, or {text[at : at + 20]!r} follows a field")


def _quoted(text: str, at: int) -> tuple[str, int]:
    start, value = at + 1, ""
    while True:
        end = text.find('"', start)
        if end < 0:
            raise Incomplete("ends inside quotes")
        value += text[start:end]
        if text[end + 1 : end + 2] != '"':
            return value, end + 1
        value, start = value + '"', end + 2


def _bare(text: str, at: int, delimiter: str, line_end: str) -> tuple[str | None, int]:
    ends = [found for mark in (delimiter, line_end) if (found := text.find(mark, at)) >= 0]
    if not ends:
        raise Incomplete("ends without a line end")
    value = text[at : min(ends)]
    if any(mark in value for mark in '"\r\n'):
        raise Incomplete(f"holds {value[:20]!r} without quotes")
    return value or None, min(ends)


def unpacked(path: str, data: bytes) -> bytes:
    """The plain bytes of a possibly compressed file."""
    try:
        if path.endswith(".gz"):
            return gzip.decompress(data)
        if path.endswith(".zst"):
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
        raise Incomplete(f"does not unpack: {error}") from error
    return data


def table(path: str, data: bytes, delimiter: str = ",", line_end: str = "\n") -> list[Row]:
    """Header and rows of a data file. Raises Incomplete."""
    plain = unpacked(path, data)
    if not plain:
        raise Incomplete("is empty")
    found = list(records(plain.decode("utf-8"), delimiter, line_end))
    if len({len(row) for row in found}) != 1:
        raise Incomplete("has records of different lengths")
    return found


def parse(path: str, data: bytes) -> None:
    """Raises Incomplete unless the file, taken alone, is whole."""
    if path.endswith(".json"):
        try:
            json.loads(data)
        except ValueError as error:
            raise Incomplete(f"is no JSON: {error}") from error
    elif path.endswith(".parquet"):
        parquet(data)
    elif ".ndjson" in path:
        ndjson(path, data)
    else:
        head = unpacked(path, data)[:4096].split(b"\n")[0]
        table(path, data, ";" if b";" in head else ",", "\r\n" if head.endswith(b"\r") else "\n")


def ndjson(path: str, data: bytes) -> list[Row]:
    """Names and rows of a file of JSON lines, the values as CSV has them. Raises Incomplete."""
    plain = unpacked(path, data).decode("utf-8")
    if plain and not plain.endswith("\n"):
        raise Incomplete("ends inside a line")
    try:
        found = [json.loads(line) for line in plain.split("\n")[:-1]]
    except ValueError as error:
        raise Incomplete(f"holds a line that is no JSON: {error}") from error
    return [tuple(found[0]), *(tuple(_said(value) for value in item.values()) for item in found)] if found else []


def parquet(data: bytes) -> list[Row]:
    """The same of a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise Incomplete(f"is no whole Parquet: {error}") from error
    return [tuple(found.column_names), *(tuple(_said(value) for value in item.values()) for item in found.to_pylist())]


def _said(value: Any) -> str | None:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    return None if value is None else str(value)


def deliveries(exports: Path) -> tuple[list[Delivered], list[str]]:
    """Every delivery below a folder, in the order of streams and sequences, and what is wrong with them."""
    found, wrong = [], []
    for path in sorted(exports.rglob("*.manifest.json")):
        if path.name.startswith("."):
            continue
        try:
            manifest = json.loads(path.read_bytes())
            rows = [row for file in manifest["files"] for row in _rows(path.parent / file["path"], file, manifest)]
        except (Incomplete, OSError, ValueError) as error:
            wrong.append(f"{path}: {error}")
            continue
        if len(rows) != manifest["rows"]:
            wrong.append(f"{path}: says {manifest['rows']} rows, its files hold {len(rows)}")
        found.append(Delivered(path, manifest, rows))
    return sorted(found, key=lambda delivery: (delivery.stream, delivery.manifest["sequence"])), wrong


def _rows(path: Path, file: dict[str, Any], manifest: dict[str, Any]) -> list[Row]:
    data = path.read_bytes()
    if len(data) != file["bytes"] or hashlib.sha256(data).hexdigest() != file["sha256"]:
        raise Incomplete(f"{path.name} is not what its manifest says")
    names = [column["name"] for column in manifest["columns"]]
    if manifest["format"] == "parquet":
        header, *rows = parquet(data)
    elif manifest["format"] == "ndjson":
        header, *rows = ndjson(path.name, data) or [tuple(names)]
    else:
        header, *rows = table(path.name, data, manifest["csv"]["delimiter"], manifest["csv"]["line_ending"])
    if list(header) != names:
        raise Incomplete(f"{path.name} has another header than its manifest")
    if len(rows) != file["rows"]:
        raise Incomplete(f"{path.name} holds {len(rows)} rows, its manifest says {file['rows']}")
    return rows
