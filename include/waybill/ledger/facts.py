"""The shapes of what the ledger keeps as JSON of a delivery. Manifests and the API repeat them, so their keys are contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class FileFacts(TypedDict):
    """A file of an attempt. `path` is its name in the delivery's folder. `plain_bytes` and `plain_sha256` describe it before encryption."""

    path: str
    rows: int
    bytes: int
    sha256: str
    plain_bytes: NotRequired[int]
    plain_sha256: NotRequired[str]


class NativeFacts(TypedDict, total=False):
    """What the source says of a column. Null is what nobody knows."""

    nullable: bool | None
    precision: int | None
    scale: int | None
    length: int | None
    native_type: str | None


class ColumnFacts(NativeFacts):
    """A delivered column. `source_name` is its name in the source, if that differs.

    Rows that were last delivered before `filled_from_sequence` hold nothing in it.
    """

    name: str
    type: str
    description: str
    export: NotRequired[str]
    source_name: NotRequired[str]
    filled_from_sequence: NotRequired[int]


class Landmarks(TypedDict):
    """A few delivered rows of a stream that is read by ids: their ids, and the digests of those that are there."""

    ids: list[int]
    digests: list[str]


class Position(TypedDict, total=False):
    """How far a delivery of a stream has read, and what the next one must know of it. Positions of earlier versions lack some of it.

    `at` is the place itself, in the source's own terms, by the change column and mode named here. `past` counts the delivered versions at
    or past the window's end, and `inexact` says that some of them are not known. `since` is the id from which on every delivered version
    is remembered. `imported` says that `reconcile` restored the position from a manifest, which counts no versions: `inexact` says there
    that some lie past the end. Version 0.1.0 wrote true or false into its `past`.
    """

    mode: str
    column: str
    at: Any
    past: int
    since: int
    inexact: bool
    imported: bool
    definition: Mapping[str, Any]
    """What gives the rows their values (`sources.definitions.Definition`)."""
    reading: dict[str, str]
    """Hashes of what the catalog says of the rows, by subject."""
    heaps: list[int]
    """The tables of PostgreSQL that store the rows."""
    landmarks: Landmarks


class Facts(TypedDict, total=False):
    """What the manifest of an attempt says beyond the ledger's own columns, and where its files are.

    Attempts of an earlier version lack some of it. `manifest_sha256` is only there if `reconcile` restored the attempt, and `made_of` if a
    later process may finish it.
    """

    entity_name: str
    mode: str
    exact: bool
    key: list[str]
    columns: list[ColumnFacts]
    format: str
    csv: dict[str, Any]
    produced_by: str
    tombstone_column: str | None
    tombstone_when: dict[str, Any] | None
    source_rows: int | None
    range_column: str
    encryption: dict[str, str]
    previous_schema_version: int
    previous_manifest_sha256: str
    deletes: FileFacts | None
    folder: str
    stem: str
    manifest_sha256: str
    made_of: str
