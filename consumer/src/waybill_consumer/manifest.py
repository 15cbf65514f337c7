"""The manifest: the facts of one delivery, as JSON beside its files. Unknown fields are left alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeVar

from waybill_consumer.errors import Refused

FORMAT_VERSION = 1
SUFFIX = ".manifest.json"
DAY_MANIFEST = re.compile(r"^_MANIFEST(?:\.([2-9]|[1-9][0-9]{1,8}))?\.json\Z")
SUMS = re.compile(r"^SHA256SUMS(?:\.([2-9]|[1-9][0-9]{1,8}))?\Z")
KINDS = ("full", "delta", "backfill")
FORMATS = ("csv", "parquet", "ndjson")
ENCRYPTED = ".pgp"
NOTICED = "deleted_noticed_at"
"""The column after the key in a deletes file: when it was noticed that the row is gone."""

_NAME = re.compile(r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*\Z")
_TENANT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_ENTITY = re.compile(r"^[a-z][a-z0-9_]{0,62}\Z")
_SHA256 = re.compile(r"^[0-9a-f]{64}\Z")
_PACKING = {".gz": "gzip", ".zst": "zstd"}
_Kind = TypeVar("_Kind")


class Csv(NamedTuple):
    """What a reader of the data files must know. Header, quotes and UTF-8 are always the same."""

    delimiter: str = ","
    line_ending: str = "\n"
    bom: bool = False
    compression: str = "none"


class File(NamedTuple):
    """One data file. `path` is a bare name in the folder of the manifest. The `plain` facts are those of an encrypted file's content."""

    path: str
    rows: int
    bytes: int
    sha256: str
    plain_bytes: int | None = None
    plain_sha256: str = ""


class Column(NamedTuple):
    """A column in file order. `precision` and `scale` are None if the source does not tell them; `native_type` is then empty.

    `source` is what the sender's source calls it. A column that keeps it under another name was renamed.
    """

    name: str
    type: str
    precision: int | None = None
    scale: int | None = None
    native_type: str = ""
    source: str = ""


class Previous(NamedTuple):
    """The delivery before this one in its stream."""

    sequence: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One delivery. `deletes` is the file of the keys that are gone, if the entity finds its deletes by comparing.

    `encryption` is the fingerprint of the OpenPGP key that its files are encrypted to, or empty.
    """

    format_version: int
    delivery_id: str
    tenant: str
    entity: str
    generation: int
    sequence: int
    previous: Previous | None
    kind: str
    start: datetime | None
    end: datetime
    mode: str
    snapshot_time: datetime
    rows: int
    bytes: int
    sha256: str
    files: tuple[File, ...]
    deletes: File | None
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    format: str
    csv: Csv
    encryption: str
    possible_duplicate: bool
    tombstone_column: str | None
    redelivers: str | None
    facts: Mapping[str, Any] = field(compare=False, repr=False)
    """The whole manifest as it was read."""

    @property
    def content(self) -> str:
        """What identifies the delivery's rows. A redelivery has those of the delivery it repeats."""
        return self.redelivers or self.delivery_id

    def header(self, file: File) -> tuple[str, ...]:
        """Return the columns that one of its files holds."""
        return (*self.key, NOTICED) if file is self.deletes else tuple(column.name for column in self.columns)

    @property
    def all_files(self) -> tuple[File, ...]:
        return self.files if self.deletes is None else (*self.files, self.deletes)

    def format_of(self, file: File) -> str:
        """Return how one of its files is written. The deletes are always CSV."""
        return "csv" if file is self.deletes else self.format

    def stored_as(self, file: File) -> str:
        """Return what one of its files is in its place: its format, or `pgp` if only the holder of a key can tell."""
        return "pgp" if self.encryption else self.format_of(file)

    @property
    def is_keyed(self) -> bool:
        """Whether rows can be told apart. A key column that is not exported tells nobody anything."""
        return bool(self.key) and set(self.key) <= {column.name for column in self.columns}

    @property
    def named(self) -> str:
        """The delivery in words."""
        what = "backfill" if self.kind == "backfill" else f"sequence {self.sequence}"
        return f"{self.tenant}/{self.entity} generation {self.generation} {what}"


def parse(data: bytes) -> Manifest:
    """Return a manifest from its bytes. Raises Refused if it is none, and names the field."""
    body = json_object(data)
    if body is None:
        raise Refused("is not a Waybill manifest: it is no JSON object")
    version = body.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise Refused(f"has format_version {version}; this program knows {FORMAT_VERSION}: a newer waybill-consumer reads it")
    return _manifest(_Fields(body))


def json_object(data: bytes) -> dict[str, Any] | None:
    """Return an object read from JSON, or None for everything else, however it is damaged."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def package_hash(hashes: Sequence[str]) -> str:
    """Return the hash of a delivery's files: the only one's hash, or for several the hash of their hashes in order, in hex, one a line."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(f"{file_hash}\n" for file_hash in hashes).encode()).hexdigest()


def packing_of(name: str) -> str:
    """Return how a file is compressed, by its name. An encrypted file was compressed before."""
    plain = name.removesuffix(ENCRYPTED)
    return next((kind for suffix, kind in _PACKING.items() if plain.endswith(suffix)), "none")


def instant(text: str) -> datetime:
    """Return an RFC 3339 time. Raises ValueError for anything else, and for a time without an offset."""
    value = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if value.tzinfo is None:
        raise ValueError("a time without an offset")
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("a time outside the years 1 to 9999") from None


def instant_text(value: datetime) -> str:
    return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def now_text() -> str:
    return instant_text(datetime.now(timezone.utc))


class _Fields:
    """Reads fields of a JSON object and checks each. `at` is where the object is in the manifest."""

    def __init__(self, body: Mapping[str, Any], at: str = "") -> None:
        self.body = body
        self._at = at

    def take(self, name: str, kind: type[_Kind], check: Callable[[Any], bool] = lambda _: True) -> _Kind:
        value = self.body.get(name)
        # A bool is an int to Python, and no number to JSON.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)) or not check(value):
            raise Refused(
                f"is not a Waybill manifest: {self._at}{name} is {'missing' if name not in self.body else 'not what it should be'}"
            )
        return value

    def maybe(self, name: str, kind: type[_Kind]) -> _Kind | None:
        value = self.body.get(name)
        return None if value is None else self.take(name, kind)

    def time(self, name: str) -> datetime:
        try:
            return instant(self.take(name, str))
        except ValueError:
            raise Refused(f"is not a Waybill manifest: {self._at}{name} is not a time with an offset") from None

    def inner(self, name: str) -> _Fields:
        return _Fields(self.take(name, dict), f"{self._at}{name}.")

    def each(self, name: str) -> list[_Fields]:
        found = self.take(name, list)
        if not all(isinstance(part, dict) for part in found):
            raise Refused(f"is not a Waybill manifest: {self._at}{name} is not a list of objects")
        return [_Fields(part, f"{self._at}{name}.{number}.") for number, part in enumerate(found)]


def _manifest(fields: _Fields) -> Manifest:
    take, window = fields.take, fields.inner("window")
    previous = None if fields.body.get("previous") is None else fields.inner("previous")
    files = tuple(_file(file) for file in fields.each("files"))
    if not files:
        raise Refused("is not a Waybill manifest: files is empty")
    key = take("key", list)
    return Manifest(
        format_version=take("format_version", int),
        delivery_id=take("delivery_id", str, bool),
        tenant=take("tenant", str, lambda value: _TENANT.match(value) is not None),
        entity=take("entity", str, lambda value: _ENTITY.match(value) is not None),
        generation=take("generation", int),
        sequence=take("sequence", int),
        previous=None if previous is None else Previous(previous.take("sequence", int), previous.take("sha256", str)),
        kind=take("kind", str, lambda value: value in KINDS),
        start=None if window.body.get("from") is None else window.time("from"),
        end=window.time("to"),
        mode=window.take("mode", str),
        snapshot_time=fields.time("snapshot_time"),
        rows=take("rows", int, _is_count),
        bytes=take("bytes", int, _is_count),
        sha256=take("sha256", str, _is_sha256),
        files=files,
        deletes=None if fields.body.get("deletes") is None else _file(fields.inner("deletes")),
        columns=tuple(_column(column) for column in fields.each("columns")),
        key=tuple(str(name) for name in key),
        format=take("format", str, lambda value: value in FORMATS) if "format" in fields.body else "csv",
        csv=_csv(fields.inner("csv")),
        encryption="" if fields.body.get("encryption") is None else _encryption(fields.inner("encryption")),
        possible_duplicate=take("possible_duplicate", bool),
        tombstone_column=fields.maybe("tombstone_column", str),
        redelivers=fields.maybe("redelivers", str),
        facts=fields.body,
    )


def _is_count(value: int) -> bool:
    return value >= 0


def _is_sha256(value: str) -> bool:
    return _SHA256.match(value) is not None


def _file(fields: _Fields) -> File:
    name = fields.take("path", str, lambda value: _NAME.match(value) is not None)
    counts = fields.take("rows", int, _is_count), fields.take("bytes", int, _is_count)
    sha256 = fields.take("sha256", str, _is_sha256)
    if "plain_sha256" not in fields.body:
        return File(name, *counts, sha256)
    return File(name, *counts, sha256, fields.take("plain_bytes", int, _is_count), fields.take("plain_sha256", str, _is_sha256))


def _encryption(fields: _Fields) -> str:
    fields.take("kind", str, lambda value: value == "pgp")
    return fields.take("fingerprint", str, bool)


def _column(fields: _Fields) -> Column:
    precision, scale = (value if isinstance(value := fields.body.get(name), int) else None for name in ("precision", "scale"))
    name = fields.take("name", str, bool)
    native, source = (str(fields.body.get(field) or "") for field in ("native_type", "source_name"))
    return Column(name, fields.take("type", str), precision, scale, native, source or name)


def _csv(fields: _Fields) -> Csv:
    return Csv(
        fields.take("delimiter", str, lambda value: len(value) == 1),
        fields.take("line_ending", str, lambda value: value in ("\n", "\r\n")),
        fields.take("bom", bool),
        fields.take("compression", str, lambda value: value in ("none", "gzip", "zstd")),
    )
