"""An embedded DuckDB file, opened read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waybill.catalog import Entity
from waybill.errors import PermanentError
from waybill.sources import engine
from waybill.sources.relations import EngineSnapshot
from waybill.sources.sql import Sql, quote, split_name, sql


class DuckDB:
    """The source. Opens the file per snapshot, so that a writer is kept out no longer than an extraction takes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def snapshot(self) -> Iterator[DuckDBSnapshot]:
        where = f"DuckDB file {self.path}"
        if not self.path.is_file():
            step = "Correct its path in the catalog; it counts from the parent of the config folder"
            raise PermanentError("there is no such file", where=where, code="source_missing", next_step=step)
        with engine.connect() as connection:
            with engine.errors(where):
                connection.execute(f"ATTACH {quote(str(self.path), chr(39))} AS warehouse (READ_ONLY)")
                connection.execute("USE warehouse")
                connection.execute("BEGIN TRANSACTION")
            yield DuckDBSnapshot(connection, where)


class DuckDBSnapshot(EngineSnapshot):
    """One transaction over the attached file."""

    def relation(self, entity: Entity, tenant: str = "") -> Sql:
        parts: list[Any] = split_name(entity.relation)
        return sql("{}", ".".join(quote(part) for part in ["warehouse", *parts] if len(parts) < 3))
