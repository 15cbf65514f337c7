"""The structure of a folder or bucket of Parquet files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waybill.configuration.catalog import LakeSource
from waybill.connection import Connections
from waybill.errors import WaybillError
from waybill.sources.duckdb import engine
from waybill.sources.duckdb.lake import Lake, pattern_entity
from waybill.sources.sql import Sql, quote
from waybill.sources.structures.base import FoundTable, found_column

_FLAVOUR = engine.DuckDBFlavour()
_MOST_FILES = 100_000


@contextmanager
def look_into_lake(spec: LakeSource, base: Path, connections: Connections) -> Iterator[LakeStructure]:
    with Lake(spec, base, connections).snapshot() as snapshot:
        yield LakeStructure(snapshot)


class LakeStructure:
    """Each folder of Parquet files is a table, and so is each file that has no folder of its own."""

    def __init__(self, snapshot: Any) -> None:
        self.snapshot = snapshot

    def tables(self, schema: str) -> list[FoundTable]:
        patterns: dict[str, str] = {}
        for path in self.snapshot.every_file(_MOST_FILES):
            *folders, file = path.split("/")
            if folders:
                patterns.setdefault(folders[0], "/".join([folders[0], *("*" for _ in folders[1:]), "*.parquet"]))
            else:
                patterns.setdefault(file.removesuffix(".parquet"), file)
        return [self._table(name, pattern) for name, pattern in sorted(patterns.items())]

    def _table(self, name: str, pattern: str) -> FoundTable:
        if re.search(r"[\[\]?]", pattern.removesuffix("*.parquet")):
            return FoundTable(pattern, name, obstacle="its name holds a character that patterns use")
        try:
            natives = self.snapshot.columns(pattern_entity(pattern))
        except WaybillError as error:
            return FoundTable(pattern, name, obstacle=error.what)
        return FoundTable(pattern, name, tuple(found_column(_FLAVOUR, column, native) for column, native in natives.items()))

    def name(self, identifier: str) -> str:
        return quote(identifier)

    def relation(self, table: FoundTable) -> Sql:
        found: Sql = self.snapshot.relation(pattern_entity(table.relation))
        return found

    def ask(self, statement: Sql) -> list[Any]:
        with engine.errors(self.snapshot.where):
            return engine.run(self.snapshot.connection, statement)
