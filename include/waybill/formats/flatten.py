"""Makes dotted columns of nested values in two passes: the first collects the paths, the second fills the columns.

`{"a": {"b": 1}, "c": [1, 2]}` in the column `x` becomes `x.a.b` and `x.c`. A list stays compact JSON in one cell, and so does an empty
object or one that repeats a key. A dot or backslash in a key is written `\\.` or `\\\\`, so that no two paths meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from waybill.formats import json_trees
from waybill.formats.base import disk_errors, give_up

MOST = 500
"""The most paths of one column. With more, its keys are data rather than names, and the column stays compact JSON."""

_LEAVES = pa.struct({"path": pa.int32(), "text": pa.string()})


def leaves(text: str) -> list[tuple[str, str | None]]:
    """Return every leaf of a JSON text with its path, such as `.a.b`. The text itself has an empty path. Strings stay as they are, null is
    None, and everything else is JSON.
    """
    try:
        return list(_walk(json_trees.parse(text), ""))
    except (ValueError, RecursionError):
        return [("", text)]


def _walk(value: Any, path: str) -> Iterator[tuple[str, str | None]]:
    if isinstance(value, json_trees.Object) and value and len({key for key, _ in value}) == len(value):
        for key, inner in value:
            yield from _walk(inner, f"{path}.{_escaped(key)}")
    elif value is None:
        yield path, None
    elif isinstance(value, str) and json_trees.is_unicode(value):
        yield path, str(value)
    else:
        yield path, json_trees.spell(value)


def _escaped(key: str) -> str:
    if not json_trees.is_unicode(key):
        raise ValueError("half a surrogate pair cannot stand in a header")
    return key.replace("\\", "\\\\").replace(".", "\\.")


class Paths:
    """The paths of one JSON column, numbered in the order they appear."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.whole = False
        """Whether the column stays as it is."""

    def collect(self, texts: pa.Array) -> pa.Array:
        """Return for every text the list of its leaves."""
        if self.whole:
            return pa.nulls(len(texts), pa.list_(_LEAVES))
        known: dict[str, list[dict[str, Any]]] = {}
        found = []
        for text in texts.to_pylist():
            if text is not None and text not in known:
                known[text] = [{"path": self._number(path), "text": leaf} for path, leaf in leaves(text)]
            found.append(None if text is None else known[text])
        if len(self.numbers) > MOST:
            self.whole = True
            self.numbers = {}
        return pa.array(found, pa.list_(_LEAVES))

    def _number(self, path: str) -> int:
        return self.numbers.setdefault(path, len(self.numbers))

    def columns(self, texts: pa.Array, found: pa.Array) -> list[pa.Array]:
        """Return one array for each path, or the texts themselves if the column stays as it is."""
        if self.whole or not self.numbers:
            return [texts]
        flat = found.flatten()
        rows = np.asarray(pc.list_parent_indices(found))
        ids = np.asarray(flat.field("path"))
        order = np.argsort(ids, kind="stable")
        ends = np.searchsorted(ids[order], np.arange(len(self.numbers) + 1))
        return [_scattered(flat.field("text"), rows, order[start:end], len(texts)) for start, end in pairwise(ends)]

    def names(self, column: str) -> list[str]:
        return [f"{column}{path}" for path in self.numbers] if self.numbers and not self.whole else [column]


def _scattered(texts: pa.Array, rows: Any, leaves_of_path: Any, size: int) -> pa.Array:
    places = np.full(size, -1, dtype=np.int64)
    places[rows[leaves_of_path]] = leaves_of_path
    return texts.take(pa.array(places, mask=places < 0))


class Spool:
    """Rows on disk between the two passes: the pieces, and the leaves of each JSON column beside it."""

    def __init__(self, path: Path, nested: Iterable[str]) -> None:
        self.path = path
        self.paths = {name: Paths() for name in nested}
        self._file: pa.OSFile | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    def write(self, piece: pa.RecordBatch) -> None:
        found = [(f"{name}.leaves", paths.collect(piece.column(name))) for name, paths in self.paths.items()]
        names = [*piece.schema.names, *(name for name, _ in found)]
        both = pa.RecordBatch.from_arrays([*piece.columns, *(array for _, array in found)], names=names)
        with disk_errors(self.path):
            if self._writer is None:
                self._file = pa.OSFile(str(self.path), "wb")
                self._writer = pa.ipc.new_stream(self._file, both.schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
            self._writer.write_batch(both)

    def settle(self, columns: dict[str, str]) -> None:
        """Decide the header. `columns` maps every column of a piece to its catalogued name. If a dotted name is taken already, its column
        stays whole.
        """
        taken = set(columns.values())
        for name, paths in self.paths.items():
            dotted = set(paths.names(columns[name])) - {columns[name]}
            if dotted & taken:
                paths.whole = True
            taken |= dotted

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the pieces with every nested column taken apart in its place. The names are neutral."""
        if self._writer is None:
            return
        with disk_errors(self.path):
            self.release()
            with pa.OSFile(str(self.path), "rb") as file, pa.ipc.open_stream(file) as reader:
                for piece in reader:
                    yield self._apart(piece)

    def _apart(self, piece: pa.RecordBatch) -> pa.RecordBatch:
        arrays: list[pa.Array] = []
        for name in piece.schema.names:
            if name in self.paths:
                arrays += self.paths[name].columns(piece.column(name), piece.column(f"{name}.leaves"))
            elif not name.endswith(".leaves"):
                arrays.append(piece.column(name))
        return pa.RecordBatch.from_arrays(arrays, names=[f"c{number}" for number, _ in enumerate(arrays)])

    def release(self) -> None:
        if self._writer is not None and self._file is not None and not self._file.closed:
            try:
                self._writer.close()
            finally:
                self._file.close()

    def discard(self) -> None:
        with suppress(OSError):  # the disk may be full
            self.release()
        give_up(self.path)
