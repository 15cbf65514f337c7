"""Tells a row whose place another one has from everything else that a database refuses to insert."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.exc import IntegrityError

_SQLITE = re.compile(r"UNIQUE constraint failed: (.+)")


class Taken(Exception):
    """Another row has the place already: another worker was faster, or a rule allows only one."""


@contextmanager
def unless_taken(connection: Connection, table: Table, *unique: str) -> Iterator[None]:
    """Undo the block and raise Taken if one of these unique indexes and constraints of `table` has refused a row. Anything else that was
    refused is raised as it is.
    """
    try:
        with connection.begin_nested():
            yield
    except IntegrityError as error:
        if violated(error, table) not in unique:
            raise
        raise Taken from error


def violated(error: IntegrityError, table: Table) -> str:
    """Return the name of the unique index or constraint of `table` that has refused a row. Empty if something else did."""
    if isinstance(error.orig, sqlite3.Error):  # it names the columns
        found = _SQLITE.match(str(error.orig))
        return _names(table).get(found[1], "") if found else ""
    diagnosis = getattr(error.orig, "diag", None)
    name = getattr(diagnosis, "constraint_name", None) or ""
    return name if name in _names(table).values() else ""


def _names(table: Table) -> dict[str, str]:
    """Return the names of a table's unique indexes and constraints by their columns, spelt as SQLite does."""
    constraints = [found for found in table.constraints if isinstance(found, PrimaryKeyConstraint | UniqueConstraint)]
    unique = [*constraints, *(index for index in table.indexes if index.unique)]
    return {", ".join(f"{table.name}.{column.name}" for column in found.columns): str(found.name) for found in unique}
