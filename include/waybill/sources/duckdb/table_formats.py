"""Folders in which a log says which files count: the others hold rows that were deleted or replaced, so they are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Any

from waybill.configuration.catalog import Entity
from waybill.errors import PermanentError
from waybill.sources.duckdb import partitions

_MARKS = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata/version-hint.text": "Iceberg"}
"""What a table's folder contains beside its files."""
_MOST_FOLDERS = 50
_ONE_LISTING = 1000
"""Names that a store tells in one answer."""


def refuse(files: Any, entity: Entity, paths: Sequence[str], depth: int, known: Set[str]) -> frozenset[str]:
    """Raise PermanentError where the files belong to such a table. Returns the folders that are none; `known` ones are not asked about."""
    parents = Counter(path.rpartition("/")[0] for path in paths)
    folders = {"/".join(parts[:end]) for parent in parents for parts in [f"{parent}/".split("/")] for end in range(depth, len(parts))}
    asked = sorted(folder for folder in folders if not partitions.PARTITION.match(folder.rpartition("/")[2]))[:_MOST_FOLDERS]
    for folder in asked:
        for mark in () if folder in known else _marks(files, folder, parents[folder]):
            raise PermanentError(
                f"{folder} is a {_MARKS[mark]} table, among whose files are some with rows that were deleted or replaced",
                where=entity.id,
                code="table_format",
                next_step="Write its current rows as plain Parquet, or read them through a database that knows the format (dbapi)",
            )
    return frozenset(asked)


def _marks(files: Any, folder: str, own: int) -> Iterator[str]:
    """Return the marks in a folder with about so many files. One listing costs a store less than a question for each mark."""
    if own >= _ONE_LISTING:
        return iter([mark for mark in _MARKS if files.exists(f"{folder}/{mark}")])
    there = {name.rstrip("/").rpartition("/")[2] for name in files.ls(folder or "/", detail=False)}
    return iter([mark for mark in _MARKS if mark.partition("/")[0] in there and files.exists(f"{folder}/{mark}")])
