"""A PostgreSQL database: rows become CSV inside the server (COPY) and stream out of one REPEATABLE READ READ ONLY transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity, Mode, PostgresSource
from waybill.configuration.selection import Block, Extent, FileStyle, Selection
from waybill.connection import Connections
from waybill.errors import PermanentError
from waybill.sources import drift, extents, reuse, row_security
from waybill.sources.base import Slice
from waybill.sources.definitions import Definition
from waybill.sources.parents import Parent
from waybill.sources.postgres import extent as postgres_extent
from waybill.sources.postgres import nested, session, slices, undecodable
from waybill.sources.postgres.nested import base
from waybill.sources.postgres.records import Buffer, blocks, records, unknown
from waybill.sources.postgres.relations import heaps, replaced
from waybill.sources.postgres.relations.behind import Behind
from waybill.sources.postgres.relations.definition import definition, unseen
from waybill.sources.postgres.relations.heaps import Heap
from waybill.sources.postgres.spelling import BASE_TYPE, KEEPS_NULLS_OUT, PostgresFlavour, relation_name, render
from waybill.sources.query import Query, with_ids
from waybill.sources.sql import Bind, Sql, quote, sql

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = f"""
SELECT a.attname,
       t.native,
       a.attnotnull AND (SELECT {KEEPS_NULLS_OUT} FROM pg_class AS r WHERE r.oid = to_regclass(%(name)s)),
       coalesce(c.collname IN ('C', 'POSIX') OR c.collname = 'default' AND d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX'),
                false),
       NOT coalesce(c.collisdeterministic, true) OR t.typname = 'citext'
  FROM pg_attribute a
  {BASE_TYPE}
  JOIN pg_database d ON d.datname = current_database()
  LEFT JOIN pg_collation c ON c.oid = a.attcollation
 WHERE a.attrelid = to_regclass(%(name)s) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""  # noqa: S608 (all parts are constants)
_UNIQUE = """
SELECT array(SELECT a.attname::text FROM unnest(i.indkey) AS k JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k)
  FROM pg_index i
 WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
   AND NOT EXISTS (SELECT FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhparent AND c.relkind = 'r' WHERE c.oid = i.indrelid)
"""
"""An index holds nothing of the tables that inherit from its own."""


class Postgres:
    """The source. Each snapshot has one session. A task reuses the same one (`reuse.kept`)."""

    def __init__(self, spec: PostgresSource, connections: Connections) -> None:
        self.spec = spec
        self.connections = connections

    @contextmanager
    def snapshot(self, entities: Iterable[Entity] = ()) -> Iterator[PostgresSnapshot]:
        where = f"PostgreSQL connection {self.spec.connection}"
        name = self.spec.connection

        def another() -> AbstractContextManager[psycopg.Connection]:
            return session.connect(self.connections(name))

        with reuse.lent(f"postgres {name}", another, session.emptied, session.is_fresh) as connection:
            read = tuple(entities)
            snapshot = PostgresSnapshot(connection, where, read, self.spec.statement_timeout, another)
            yield snapshot
            with session.errors(where):
                snapshot.require_kept()
                session.wait_until_on_disk(connection, snapshot._ask, snapshot.log_end if read else "")


class PostgresSnapshot:
    """One snapshot. `facts` were read just before it opened, and the tables of `entities` were locked."""

    counts_cheaply = False

    def __init__(
        self,
        connection: psycopg.Connection,
        where: str,
        entities: tuple[Entity, ...],
        statement_timeout: timedelta,
        another: Callable[[], AbstractContextManager[psycopg.Connection]],
    ) -> None:
        self.connection = connection
        self.where = where
        self.another = another
        self.part = Sql()
        self.statement_timeout = statement_timeout
        self._relations: dict[str, list[Any]] = {}
        self._behind: dict[str, Behind] = {}
        self._shapes: dict[str, nested.Shapes] = {}
        self._stored: dict[str, list[Heap]] = {}
        with session.errors(where):
            self.facts = session.facts(connection, statement_timeout)
            behind = {entity.id: self._found_behind(entity, closely=False) for entity in entities}
            session.begin(connection, "REPEATABLE READ", statement_timeout, self.facts.search_path)
            held = session.lock(connection, dict.fromkeys(name for found in behind.values() for name in found.lockable()))
            self._unheld = {name: found.unheld(held) for name, found in behind.items()}
            self.visible, self.clock, self.taken_at, self.log_end = session.taken(connection, self.facts)

    def require_kept(self) -> None:
        """Raise TransientError if something that no lock holds was replaced since the snapshot was taken."""
        if self.connection.info.transaction_status == TransactionStatus.INTRANS:
            replaced.require_kept(self._ask, [name for names in self._unheld.values() for name in names])

    def _look_behind(self, entity: Entity) -> Behind:
        if entity.id not in self._behind:
            self._behind[entity.id] = self._found_behind(entity)
        return self._behind[entity.id]

    def _found_behind(self, entity: Entity, *, closely: bool = True) -> Behind:
        with session.errors(f"{entity.id} in {self.where}"):
            if entity.query:
                [(plans,)] = self._ask(row_security.tables_read(relation_name(entity)))
                names = row_security.tables_of(plans)
            else:
                names = [relation_name(joined) for joined in (entity, *entity.parents())]
            return Behind(self._ask, names, entity.query, self.connection.info.server_version, closely=closely)

    def _ask(self, statement: Sql) -> list[tuple[Any, ...]]:
        text, values = render(statement)
        return self.connection.execute(text, values).fetchall()

    def columns(self, entity: Entity) -> dict[str, str]:
        return {name: native for name, native, *_ in self._relation(entity)}

    def binding(self, entity: Entity) -> dict[str, str]:
        return self.columns(entity)

    def never_null(self, entity: Entity) -> frozenset[str]:
        return frozenset(name for name, _, not_null, *_ in self._relation(entity) if not_null)

    def check(self, selection: Selection) -> None:
        entity = selection.entity
        query = self.query(selection)
        drift.check_columns(selection, query.natives, query.flavour)
        drift.check_tenant(query)
        if entity.changes.column and entity.changes.mode is not Mode.FULL:
            [(nulls,)] = self._run(selection, query.without([entity.changes.column], query.tenant()))
            if nulls:
                raise drift.null_changes(selection, nulls)
        if entity.changes.mode is Mode.SNAPSHOT and query.natives[entity.changes.column] == "xid8" and not selection.live_only:
            [(ahead, example)] = self._run(selection, query.unreached(self.visible))
            if ahead:
                raise drift.changes_ahead(selection, ahead, example)
        row_security.require_rows(selection, query, lambda: self._hiding(entity), lambda first: self._run(selection, first))
        nullable = [name for name in entity.key if name not in self.never_null(entity)]
        if nullable and (nulls := self._run(selection, query.without(nullable, query.where()))[0][0]):
            raise drift.null_keys(selection, nulls)
        is_kept_unique = not query.respells_key() and self._has_unique_index(entity)
        if not is_kept_unique and self._run(selection, query.repeated_key())[0][0]:
            raise drift.repeated_key(selection)

    def extent(self, entity: Entity, tenant: str, start: Any, end: datetime) -> Extent:
        natives = self.columns(entity)
        found = postgres_extent.extent(
            entity, start, end, self.taken_at, self.facts, natives, self.visible, lambda: self._max_id(entity, tenant)
        )
        unkept = heaps.require_stamps(entity, self._heaps(entity))
        names = (entity.changes.column, entity.deleted_column)
        zoneless = [name for name in names if natives.get(name, "").endswith("without time zone")]
        early = extents.looks_back_too_little(entity, zoneless, session.offset(self.connection)) if zoneless else ""
        unseen = self._unseen(entity)
        unheard = postgres_extent.unheard(entity, self.facts.unheard)
        return replace(found, remarks="; ".join(filter(None, (self.narrowed(entity), unkept, unseen, early, unheard))))

    def _unseen(self, entity: Entity) -> str:
        if entity.changes.mode is Mode.FULL:
            return ""
        with session.errors(f"{entity.id} in {self.where}"):
            return unseen(self._ask, self._look_behind(entity))

    def heaps(self, entity: Entity) -> list[int]:
        return [heap.number for heap in self._heaps(entity)]

    def definition(self, selection: Selection) -> Definition:
        entity, query = selection.entity, self.query(selection)
        behind = self._look_behind(entity)
        with session.errors(f"{entity.id} in {self.where}"):
            found = definition(self._ask, self.facts.system, query, behind, self.facts.timeline)
        if entity.changes.mode is Mode.SNAPSHOT:
            found["stamps"] = {heap.name: " ".join(heap.marks) for heap in self._heaps(entity)}
        return found

    def passed_over(self, selection: Selection, start: Any, before: Collection[int]) -> str:
        entity, query = selection.entity, self.query(selection)
        found = []
        for heap in heaps.appeared(self._heaps(entity), before, entity.changes.mode):
            statement = heaps.passed_over(query, heap, start, view=bool(entity.query) or not self._look_behind(entity).is_table())
            if statement is None or self._run(selection, statement):
                found.append(heap)
        return heaps.sentence(found) if found else ""

    def _heaps(self, entity: Entity) -> list[Heap]:
        if not entity.changes.column or entity.changes.mode is Mode.FULL:
            return []
        if entity.id not in self._stored:
            with session.errors(f"{entity.id} in {self.where}"):
                places = [thing.place for thing in self._look_behind(entity).heaps()]
                rows = self.connection.execute(heaps.HEAPS, [entity.changes.column, places]).fetchall()
            self._stored[entity.id] = [Heap(*row) for row in rows]
        return self._stored[entity.id]

    def narrowed(self, entity: Entity) -> str:
        return row_security.sentence(self._hiding(entity))

    def _hiding(self, entity: Entity) -> list[str]:
        """Return the tables whose row-level security applies to this session."""
        return self._look_behind(entity).hidden()

    def csv(self, selection: Selection, style: FileStyle) -> Iterator[Block]:
        query = self.query(selection)
        names = ", ".join(f"c{number}" for number, _ in enumerate(selection.columns))
        options = f"FORMAT csv, DELIMITER {_escaped(style.delimiter)}"
        rewrite = _rewrite(len(selection.columns), style.line_end)
        most, known = style.max_rows_per_file, selection.changed.known
        if known is None:
            found = self._copy(selection, query.ordered(query.rows(), names), options, most)
        else:
            rows = query.ordered(query.rows(digests=True), sql("{}, encode({}, 'hex')", names, query.digest()))
            found = unknown(self._copy(selection, rows, options), known, most)
        yield from blocks(found, rewrite, most)

    def slices(self, selection: Selection, most: int) -> AbstractContextManager[list[Slice]]:
        return slices.opened(self, selection, most, self.statement_timeout)

    def changes_by_time(self, selection: Selection) -> bool:
        return self.query(selection).changes_by_time()

    def digests(self, selection: Selection) -> Iterator[list[bytes]]:
        digests = sql("SELECT encode(digest, 'hex') FROM ({}) AS h", self.query(selection).digests())
        for lines in self._copy(selection, digests, "FORMAT text"):
            yield [bytes.fromhex(bytes(line).decode()) for line in lines]

    def batches(self, selection: Selection, typed: bool = True) -> Iterator[pa.RecordBatch]:
        from waybill.sources import arrow  # Arrow and DuckDB are half of the memory of an extraction to CSV, which needs neither

        natives, lines = self.columns(selection.entity), self.csv(selection, FileStyle())
        with drift.naming(selection, natives, self.flavour_of(selection.entity)), drift.fitting(selection, natives):
            yield from arrow.batches(lines, selection, natives, self._at(selection), typed)

    def count(self, selection: Selection) -> int:
        [(count,)] = self._run(selection, self.query(selection).count())
        return int(count)

    def values(self, selection: Selection, most: int) -> list[str]:
        return [str(value) for (value,) in self._run(selection, self.query(selection).values(most))]

    def least_id(self, selection: Selection) -> int | None:
        return self._id(selection.entity, self.query(selection).least_id())

    def has_ids(self, entity: Entity, ids: Sequence[int]) -> bool:
        return bool(self._id(entity, with_ids(quote(entity.changes.column), sql("{}", relation_name(entity)), ids)))

    def interrupt(self) -> None:
        with suppress(psycopg.Error):
            self.connection.cancel_safe(timeout=5)

    def query(self, selection: Selection) -> SnapshotQuery:
        entity = selection.entity
        nulls = "" if set(entity.key) <= self.never_null(entity) else " NULLS FIRST"
        above = entity.parents()
        parents = tuple(Parent(self.flavour_of(parent), sql("{}", relation_name(parent)), self.columns(parent), parent) for parent in above)
        flavour, natives = self.flavour_of(entity), self.columns(entity)
        relation = sql("{}", relation_name(entity))
        order, clock = selection.in_key_order, self.taken_at
        return SnapshotQuery(flavour, relation, natives, selection, sorted=order, nulls=nulls, part=self.part, parents=parents, clock=clock)

    def flavour_of(self, entity: Entity) -> PostgresFlavour:
        columns = self._relation(entity)
        bytewise = frozenset(quote(name) for name, _, _, bytewise, _ in columns if bytewise)
        loose = frozenset(quote(name) for name, _, _, _, loose in columns if loose)
        return PostgresFlavour(bytewise, loose, self._shapes_of(entity))

    def _shapes_of(self, entity: Entity) -> nested.Shapes:
        """Return the parts of the relation's types. It is asked once, and only if a type is not plain."""
        found = self._shapes.get(relation_name(entity))
        if found is None:
            unknown = [native for native in self.columns(entity).values() if PostgresFlavour().unknown(native)]
            with session.errors(f"{entity.id} in {self.where}"):
                found = nested.shapes(self.connection.execute(nested.SHAPES, [unknown]).fetchall()) if unknown else {}
            self._shapes[relation_name(entity)] = found
        return found

    def _copy(self, selection: Selection, statement: Sql, options: str, most: int | None = None) -> Iterator[list[Buffer]]:
        """Yield the records of a statement, in lists that never cross a multiple of `most`."""
        text, values = render(statement)
        with self._reading(selection):
            yield from records(self.connection, f"COPY ({text}) TO STDOUT ({options})", values, most)

    def _run(self, selection: Selection, statement: Sql) -> list[tuple[Any, ...]]:
        with self._reading(selection):
            return self._ask(statement)

    @contextmanager
    def _reading(self, selection: Selection) -> Iterator[None]:
        entity = selection.entity
        named, described = (
            drift.naming(selection, self.columns(entity), self.flavour_of(entity)),
            session.errors(self._at(selection), self._parsed(selection)),
        )
        with undecodable.naming(selection, lambda: undecodable.column_of(self, selection)), named, described:
            yield

    def _relation(self, entity: Entity) -> list[Any]:
        found = self._relations.get(relation_name(entity))
        if found is None:
            with session.errors(f"{entity.id} in {self.where}"):
                found = self._columns_of_query(entity) if entity.query else self._columns_of_relation(entity)
                replaced.require_kept(self._ask, self._unheld.get(entity.id, ()))
            if not found:
                raise PermanentError(
                    f"there is no relation {entity.relation}",
                    where=f"{entity.id} in {self.where}",
                    code="relation_missing",
                    next_step=f"Correct entities.{entity.id}.{entity.named_by}, or grant USAGE on its schema",
                )
            self._relations[relation_name(entity)] = found
        return found

    def _columns_of_relation(self, entity: Entity) -> list[Any]:
        name = relation_name(entity)
        found = self.connection.execute(_COLUMNS, {"name": name}).fetchall()
        if found and self._unheld.get(entity.id):
            self.connection.execute(f"SELECT FROM {name} LIMIT 0".encode())  # waits for whoever is replacing it now
        return found

    def _columns_of_query(self, entity: Entity) -> list[Any]:
        """Return the columns of a query, as `_COLUMNS` does. NULLs and collations are unknown, so texts are compared exactly."""
        cursor = self.connection.execute(*render(sql("SELECT * FROM {} LIMIT 0", relation_name(entity))))
        result = cursor.pgresult
        mods = [result.fmod(at) for at in range(result.nfields)] if result else []
        codes = [column.type_code for column in cursor.description or ()]
        types = self.connection.execute(
            "SELECT format_type(t, m) FROM unnest(%s::oid[], %s::int[]) WITH ORDINALITY AS s(t, m, n) ORDER BY n", [codes, mods]
        )
        names = [column.name for column in cursor.description or ()]
        return [(name, native, False, False, True) for name, (native,) in zip(names, types, strict=True)]

    def _has_unique_index(self, entity: Entity) -> bool:
        """Return whether a unique index covers no more than key and tenant, with a key that is never NULL.

        Then the database keeps the key unique.
        """
        if entity.query:
            return False
        rows = self.connection.execute(_UNIQUE, [relation_name(entity)]).fetchall()
        allowed = {*entity.key, entity.tenant_column}
        never_null = self.never_null(entity)
        return any(set(columns) <= allowed and set(columns) <= never_null for (columns,) in rows)

    def _max_id(self, entity: Entity, tenant: str) -> int | None:
        return self._id(entity, self.query(Selection(entity, tenant, entity.columns)).greatest_id())

    def _id(self, entity: Entity, statement: Sql) -> int | None:
        with session.errors(f"{entity.id} in {self.where}"):
            [(found,)] = self._ask(statement)
        return None if found is None else int(found)

    def _parsed(self, selection: Selection) -> set[str]:
        """Return the types that the statement has the server read from text.

        Any other value that is no text of its type is the relation's own error.
        """
        natives, read = self.columns(selection.entity), drift.catalogued_types(selection)
        found = {kind.value for name, kinds in read.items() for kind in kinds if self._is_text(natives.get(name, ""))}
        if any(ColumnType.INTEGER in kinds and natives.get(name, "").startswith("numeric") for name, kinds in read.items()):
            found.add("bigint")
        compared = [selection.entity.tenant_column, *selection.entity.scopes.values(), *(condition.column for condition in selection.where)]
        return found | {base(natives[name]) for name in compared if name in natives and not self._is_text(natives[name])}

    def _is_text(self, native: str) -> bool:
        return PostgresFlavour().kind(native) is ColumnType.STRING

    def _at(self, selection: Selection) -> str:
        return drift.place(selection, self.where)


class SnapshotQuery(Query):
    """Spans over a pg_snapshot: the rows that were invisible in the first snapshot and are visible in the second."""

    def at_or_after(self, start: Any) -> Sql:
        if start is None or not self._by_transaction():
            return super().at_or_after(start)
        x, seen = self.flavour.name(self.entity.changes.column), Bind(start, "pg_snapshot")
        return sql("{} >= pg_snapshot_xmin({}) AND NOT pg_visible_in_snapshot({}, {})", x, seen, x, seen)

    def before(self, end: Any) -> Sql:
        if end is None or not self._by_transaction():
            return super().before(end)
        return sql("pg_visible_in_snapshot({}, {})", self.flavour.name(self.entity.changes.column), Bind(end, "pg_snapshot"))

    def unreached(self, snapshot: str) -> Sql:
        """Return how many of the tenant's rows are stamped with a transaction that has not begun, and the greatest such stamp."""
        x = self.flavour.name(self.entity.changes.column)
        ahead = sql("{} >= pg_snapshot_xmax({})", x, Bind(snapshot, "pg_snapshot"))
        return sql("SELECT count(*), max({}::text::numeric)::text FROM {} WHERE {} AND {}", x, self.relation, self.tenant(), ahead)

    def _by_transaction(self) -> bool:
        return self.natives[self.entity.changes.column] == "xid8" and isinstance(self.selection.changed.end, str)


def _rewrite(columns: int, line_end: str) -> Callable[[Buffer], bytes] | None:
    """Return the function that turns a record of the server into one of the file's style. None if it is that already.

    The server quotes a lone \\. for readers of its own text format; a value with quotes of its own would have doubled them.
    """
    if columns > 1 and line_end == "\n":
        return None
    ending = line_end.encode()
    return lambda record: (b"\\." if columns == 1 and bytes(record) == b'"\\."\n' else bytes(record)[:-1]) + ending


def _escaped(delimiter: str) -> str:
    return "E'\\t'" if delimiter == "\t" else quote(delimiter, "'")
