"""Folders in which a log says which files count: the others hold rows that were deleted or replaced, so they are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any

from waybill.configuration.catalog import Entity
from waybill.errors import PermanentError
from waybill.sources.duckdb import partitions

_MARKS = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata": "Iceberg"}
"""What a table's folder contains beside its files. Other folders are called `metadata`, too: Iceberg's holds `*.metadata.json`."""
_ICEBERG_FILES = "data"
"""The folder of Iceberg's files, beside that of its metadata."""
_ONE_LISTING = 1000
"""Names that a store tells in one answer."""


@contextmanager
def kept_listing(files: Any) -> Iterator[None]:
    """Keep what the store lists within the block, where the pattern's own listing shows every folder. So `refuse` asks a bucket again only
    for the folders above the pattern, however many there are below.
    """
    before, files.dircache.use_listings_cache = files.dircache.use_listings_cache, True
    try:
        yield
    finally:
        files.dircache.use_listings_cache = before
        files.invalidate_cache()


def refuse(files: Any, entity: Entity, paths: Sequence[str], root: str, known: Set[str]) -> frozenset[str]:
    """Raise PermanentError where the files below the root belong to such a table.

    Returns the folders that are none. `known` ones are not asked about.
    """
    parents = Counter(path.rpartition("/")[0] for path in paths)
    above = root.rstrip("/").rpartition("/")
    first = above[0].count("/") + (1 if above[2] == _ICEBERG_FILES else 2) if root else 0
    folders = {"/".join(parts[:end]) for parent in parents for parts in [f"{parent}/".split("/")] for end in range(first, len(parts))}
    asked = sorted(folder for folder in folders if not partitions.PARTITION.match(folder.rpartition("/")[2]))
    for folder in asked:
        for mark in () if folder in known else _marks(files, folder, parents[folder]):
            raise PermanentError(
                f"{folder} is a table of {_MARKS[mark]}, among whose files are some with rows that were deleted or replaced",
                where=entity.id,
                code="table_format",
                next_step="Write its current rows as plain Parquet, or read them through a database that knows the format (dbapi)",
            )
    return frozenset(asked)


def _marks(files: Any, folder: str, own: int) -> Iterator[str]:
    """Return the marks in a folder with about so many files. One listing costs a store less than a question for each mark."""
    asked_by_name = own >= _ONE_LISTING
    there = {mark for mark in _MARKS if files.exists(f"{folder}/{mark}")} if asked_by_name else _names(files, folder or "/")
    return iter([mark for mark in _MARKS if mark in there and (mark != "metadata" or _of_iceberg(files, folder))])


def _of_iceberg(files: Any, folder: str) -> bool:
    return any(name.endswith(".metadata.json") or name == "version-hint.text" for name in _names(files, f"{folder}/metadata"))


def _names(files: Any, folder: str) -> set[str]:
    return {name.rstrip("/").rpartition("/")[2] for name in files.ls(folder, detail=False)}
