"""Names the column whose bytes are no text of the database's encoding: the server shows only the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from waybill.configuration.selection import Selection
from waybill.errors import PermanentError, WaybillError
from waybill.sources.postgres import session
from waybill.sources.postgres.spelling import render
from waybill.sources.query import Query
from waybill.sources.sql import Sql, quote, sql


@contextmanager
def naming(selection: Selection, find: Callable[[], str]) -> Iterator[None]:
    """Name the column that `find` finds once the server has refused some text."""
    try:
        yield
    except PermanentError as error:
        column = find() if error.code == "source_unreadable" else ""
        if not column:
            raise
        step = f"{error.next_step}. Or leave the column out of entities.{selection.entity.id}.columns"
        raise PermanentError(f"{error.what}, in column {column}", where=error.where, code=error.code, next_step=step) from error


def first(query: Query, run: Callable[[Sql], object]) -> str:
    """Return the first column of a query's selection with such text, or nothing. `run` executes a statement, and raises what its driver
    raises.
    """
    for name, column in query.selection.columns.items():
        x = quote(column.source(name))
        try:
            run(sql("SELECT count(convert_to(({})::text, 'UTF8')) FROM {} WHERE {}", x, query.relation, query.tenant()))
        except Exception as error:
            if session.sqlstate(error) not in session.UNDECODABLE:
                raise
            return name
    return ""


def column_of(snapshot: Any, selection: Selection) -> str:
    """Return the first column with such text, or nothing if none was found. It is looked for in a session of its own."""
    with suppress(WaybillError, psycopg.Error), snapshot.another() as connection:
        session.begin(connection, "REPEATABLE READ", snapshot.statement_timeout, snapshot.facts.search_path)
        return first(snapshot.query(selection), lambda statement: connection.execute(*render(statement)))
    return ""
