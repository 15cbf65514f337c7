"""The structure of any database behind an Airflow connection: SQLite's pragmas, else the information schema."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from waybill.configuration.catalog import DbApiSource
from waybill.sources.dbapi.source import DbApi, DbApiSnapshot
from waybill.sources.sql import Bind, Sql, quote, split_name, sql
from waybill.sources.structures.base import FoundColumn, FoundTable, Reference, found_column, written


@contextmanager
def look_into_dbapi(spec: DbApiSource, connect: Callable[[str], Any] | None) -> Iterator[SqliteStructure | SchemaStructure]:
    with DbApi(spec, connect).snapshot() as snapshot:
        yield SqliteStructure(snapshot) if snapshot.database.dynamic else SchemaStructure(snapshot)


class _Structure:
    """What both kinds share."""

    def __init__(self, snapshot: DbApiSnapshot) -> None:
        self.snapshot = snapshot

    def name(self, identifier: str) -> str:
        return quote(identifier, self.snapshot.database.mark)

    def relation(self, table: FoundTable) -> Sql:
        return sql("{}", ".".join(map(self.name, split_name(table.relation))))

    def ask(self, statement: Sql) -> list[Any]:
        return self.snapshot.ask(statement)

    def _column(self, name: str, native: str, *facts: Any) -> FoundColumn:
        return found_column(self.snapshot.flavour, name, native, *facts)


class SqliteStructure(_Structure):
    def tables(self, schema: str) -> list[FoundTable]:
        listed = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        return [self._table(name) for (name,) in self.ask(sql("{}", listed))]

    def _table(self, name: str) -> FoundTable:
        rows = self.ask(sql('SELECT name, type, "notnull", pk FROM pragma_table_xinfo({}) WHERE hidden <> 1 ORDER BY cid', Bind(name)))
        primary = tuple(column for column, _, _, number in sorted((row for row in rows if row[3]), key=lambda row: row[3]))
        alone = primary[0] if len(primary) == 1 else ""
        columns = [
            self._column(column, native, bool(not_null or number), "", column == alone and native.upper() == "INTEGER")
            for column, native, not_null, number in rows
        ]
        indexes: dict[tuple[str, bool], list[str]] = defaultdict(list)
        for index, unique, column in self.ask(
            sql(
                'SELECT l.name, l."unique" AND NOT l.partial, i.name FROM pragma_index_list({}) AS l, pragma_index_info(l.name) AS i'
                " ORDER BY l.seq, i.seqno",
                Bind(name),
            )
        ):
            indexes[index, bool(unique)].append(column)
        unique = [tuple(names) for (_, is_unique), names in indexes.items() if is_unique and None not in names]
        references: dict[int, list[Any]] = defaultdict(list)
        for number, *pair in self.ask(
            sql('SELECT id, "table", "from", "to" FROM pragma_foreign_key_list({}) ORDER BY id, seq', Bind(name))
        ):
            references[number].append(pair)
        return FoundTable(
            written(name),
            name,
            tuple(columns),
            tuple(dict.fromkeys([*([primary] if primary else []), *sorted(unique, key=len)])),
            tuple(self._reference(pairs) for pairs in references.values()),
            frozenset([*primary[:1], *(names[0] for names in indexes.values() if names[0])]),
        )

    def _reference(self, pairs: list[Any]) -> Reference:
        """SQLite leaves the other table's columns out where they are its primary key."""
        table = pairs[0][0]
        primary = [name for (name,) in self.ask(sql("SELECT name FROM pragma_table_xinfo({}) WHERE pk > 0 ORDER BY pk", Bind(table)))]
        theirs = [to or (primary[number] if number < len(primary) else "") for number, (_, _, to) in enumerate(pairs)]
        return Reference(tuple(ours for _, ours, _ in pairs), written(table), tuple(theirs))


class SchemaStructure(_Structure):
    """`information_schema`, as MySQL, MariaDB, PostgreSQL, Snowflake, Trino and SQL Server have it."""

    def tables(self, schema: str) -> list[FoundTable]:
        mine = sql("{}", Bind(schema)) if schema else sql("{}", self.snapshot.database.schema)
        mysql = self.snapshot.database.name == "MySQL"
        comment, kind, identity = ("table_comment", "column_type", "extra = 'auto_increment'") if mysql else ("''", "data_type", "1 = 0")
        remark, kept = ("column_comment", "lower(extra) LIKE '%on update%'") if mysql else ("''", "1 = 0")
        listed = self.ask(
            sql(f"SELECT table_name, {comment} FROM information_schema.tables WHERE table_schema = {{}} ORDER BY table_name", mine)  # noqa: S608 (names of ours)
        )
        columns: dict[str, list[Any]] = defaultdict(list)
        for table, *rest in self.ask(
            sql(
                f"SELECT table_name, column_name, {kind}, is_nullable, {remark}, CASE WHEN {identity} THEN 1 ELSE 0 END,"  # noqa: S608 (names of ours)
                f" CASE WHEN {kept} THEN 1 ELSE 0 END"
                " FROM information_schema.columns WHERE table_schema = {} ORDER BY ordinal_position",
                mine,
            )
        ):
            columns[table].append(rest)
        keys, references = self._constraints(mine, schema, mysql)
        return [
            FoundTable(
                written(schema, name) if schema else written(name),
                name,
                tuple(
                    self._column(c, native, nullable == "NO", about or "", bool(counted))
                    for c, native, nullable, about, counted, _ in columns[name]
                ),
                tuple(keys[name]),
                tuple(references[name]),
                frozenset(key[0] for key in keys[name]),
                "" if about == "VIEW" else about or "",
                stamped=frozenset(c for c, *_, kept_up in columns[name] if kept_up),
            )
            for name, about in listed
        ]

    def _constraints(self, mine: Sql, schema: str, mysql: bool) -> tuple[dict[str, list[tuple[str, ...]]], dict[str, list[Reference]]]:
        there = "k.referenced_table_name, k.referenced_column_name" if mysql else "NULL, NULL"
        rows = self.ask(
            sql(
                f"SELECT c.table_name, c.constraint_type, c.constraint_name, k.column_name, {there}"  # noqa: S608 (names of ours)
                " FROM information_schema.table_constraints c JOIN information_schema.key_column_usage k"
                " ON k.constraint_schema = c.constraint_schema AND k.constraint_name = c.constraint_name AND k.table_name = c.table_name"
                " WHERE c.table_schema = {} AND c.constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')"
                " ORDER BY c.table_name, c.constraint_type, c.constraint_name, k.ordinal_position",
                mine,
            )
        )
        parts: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
        for table, kind, name, *rest in rows:
            parts[table, kind, name].append(rest)
        keys: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        references: dict[str, list[Reference]] = defaultdict(list)
        for (table, kind, _), found in parts.items():
            ours = tuple(column for column, _, _ in found)
            if kind != "FOREIGN KEY":
                keys[table].append(ours)
            elif found[0][1]:
                relation = written(schema, found[0][1]) if schema else written(found[0][1])
                references[table].append(Reference(ours, relation, tuple(column for _, _, column in found)))
        return keys, references
