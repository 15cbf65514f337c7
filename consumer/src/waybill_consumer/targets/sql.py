"""What SQL databases have in common: names in quotes, the tables of their memory, and how a table's columns follow from a manifest."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from waybill_consumer.errors import Refused
from waybill_consumer.manifest import Column, now_text
from waybill_consumer.targets import Applied, Shape, former

DELIVERIES, ENTITIES = "_waybill_deliveries", "_waybill_entities"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def names(columns: Iterable[Column | str]) -> str:
    return ", ".join(quoted(column if isinstance(column, str) else column.name) for column in columns)


def is_long(column: Column) -> bool:
    """Return whether an integer needs more than 64 bits. Only then `load` gives it a precision."""
    return column.precision is not None


class Changes(NamedTuple):
    """The columns that come, go, change their type (before and after), and change their name (from the old one to the new one).

    A value of a column that changes its type becomes the value that its text in a file would be, or the delivery is refused.
    """

    added: list[Column]
    gone: list[Column]
    retyped: list[tuple[Column, Column]]
    renamed: dict[str, str]

    def key(self, old: Shape) -> tuple[str, ...]:
        """The old key by the new names."""
        return tuple(self.renamed.get(name, name) for name in old.key)


class SqlTarget:
    """Half of a Target: its memory. `_run` executes one statement with `?` for parameters and returns the rows."""

    schema = ""
    entity = ""
    """What is being worked on, for messages."""

    def __init__(self) -> None:
        self._looked: set[str] = set()

    @abstractmethod
    def _columns(self, table: str) -> dict[str, str]:
        """Return the columns and types that a table or view of this name really has. There are none if it does not exist."""

    @abstractmethod
    def _reshape(self, entity: str, old: Shape | None, new: Shape, own: dict[str, str], *, emptied: bool) -> None:
        """Make the table, or change it. `own` are columns that somebody added by hand, with their types. They stay."""

    @abstractmethod
    def _run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def sql_type(self, column: Column, *, is_key: bool = False) -> str:
        """Return the type of the table's column. A key is compared, which not every type is everywhere."""

    def table(self, name: str) -> str:
        return f"{quoted(self.schema)}.{quoted(name)}" if self.schema else quoted(name)

    def prepare(self) -> None:
        """An account that may not create anything still loads into what is there."""
        if self._columns(DELIVERIES) and self._columns(ENTITIES):
            return
        texts = ", ".join(f"{name} text not null" for name in ("content", "tenant", "entity", "kind", "snapshot_time", "window_to"))
        self._run(
            f"create table if not exists {self.table(DELIVERIES)} (delivery_id text primary key, {texts}, generation bigint not null, "
            "sequence bigint not null, row_count bigint not null, result text not null, loaded_at text not null)"
        )
        self._run(
            f"create table if not exists {self.table(ENTITIES)} "
            "(entity text primary key, tenant text not null, key_columns text not null, columns text not null)"
        )

    def tenants(self) -> list[str]:
        if not self._columns(DELIVERIES):
            return []
        return [str(tenant) for (tenant,) in self._run(f"select distinct tenant from {self.table(DELIVERIES)}")]

    def applied(self, tenant: str) -> list[Applied]:
        listed = "delivery_id, content, tenant, entity, generation, sequence, kind, snapshot_time, window_to, row_count, result"
        return [Applied(*row) for row in self._run(f"select {listed} from {self.table(DELIVERIES)} where tenant = ?", [tenant])]

    def is_applied(self, content: str) -> bool:
        return bool(self._run(f"select 1 from {self.table(DELIVERIES)} where content = ?", [content]))

    def remember(self, step: Applied) -> None:
        listed = "delivery_id, content, tenant, entity, generation, sequence, kind, snapshot_time, window_to, row_count, result, loaded_at"
        marks = ", ".join("?" * 12)
        self._run(f"insert into {self.table(DELIVERIES)} ({listed}) values ({marks})", [*step, now_text()])

    def shape(self, entity: str) -> tuple[str, Shape] | None:
        statement = f"select tenant, key_columns, columns from {self.table(ENTITIES)} where entity = ?"
        for tenant, key, columns in self._run(statement, [entity]):
            return tenant, Shape(tuple(Column(*column) for column in json.loads(columns)), tuple(json.loads(key)))
        return None

    def reshape(self, tenant: str, entity: str, old: Shape | None, new: Shape, *, emptied: bool) -> None:
        self.entity = entity
        if old == new and entity in self._looked:
            return
        there = self._columns(entity)
        self._looked.add(entity)
        if old is None:
            if there:
                step = "Rename or drop that one, or load into a schema or database of its own"
                raise Refused(f"a table or view {entity} is there that load did not make", where=entity, next_step=step)
            self._reshape(entity, None, new, {}, emptied=emptied)
        else:
            before = {column.name for column in old.columns}
            self._require(entity, old, there)
            own = {name: kind for name, kind in there.items() if name not in before}
            if clash := own.keys() & {column.name for column in new.columns}:
                what = f"the sender delivers a column {', '.join(sorted(clash))} now, and somebody added one of that name"
                raise Refused(what, where=entity, next_step="Rename or drop that column")
            if old == new:
                return
            self._reshape(entity, old, new, own, emptied=emptied)
        self._keep_shape(tenant, entity, new)

    def check(self, entity: str) -> None:
        if held := self.shape(entity):
            self._require(entity, held[1], self._columns(entity))

    def _require(self, entity: str, held: Shape, there: dict[str, str]) -> None:
        if lost := {column.name for column in held.columns} - there.keys():
            what = f"its column {', '.join(sorted(lost))}" if there else "its table"
            raise Refused(f"{what} is no longer there", where=entity, next_step=self._anew(entity))

    def _anew(self, entity: str) -> str:
        """Say how to have an entity loaded from its first delivery on."""
        deletes = "; ".join(f"delete from {self.table(table)} where entity = '{entity}'" for table in (DELIVERIES, ENTITIES))
        return f"Put it back; or drop what is left of the table, run `{deletes}`, and load again, which begins with the full delivery"

    def _keep_shape(self, tenant: str, entity: str, shape: Shape) -> None:
        self._run(f"delete from {self.table(ENTITIES)} where entity = ?", [entity])
        facts = [entity, tenant, json.dumps(shape.key), json.dumps(shape.columns)]
        self._run(f"insert into {self.table(ENTITIES)} (entity, tenant, key_columns, columns) values (?, ?, ?, ?)", facts)

    def _definitions(self, shape: Shape, *, keyed: bool = True) -> str:
        columns = [
            f"{quoted(column.name)} {self._kept_as(column, shape)}{' not null' if column.name in shape.key else ''}"
            for column in shape.columns
        ]
        return ", ".join([*columns, *([f"primary key ({names(shape.key)})"] if keyed and shape.key else [])])

    def _kept_as(self, column: Column, shape: Shape) -> str:
        return self.sql_type(column, is_key=column.name in shape.key)

    def _changes(self, old: Shape, new: Shape) -> Changes:
        before = former(old.columns, new.columns)
        both = [(old.column(before[column.name]), column) for column in new.columns if column.name in before]
        return Changes(
            added=[column for column in new.columns if column.name not in before],
            gone=[column for column in old.columns if column.name not in before.values()],
            retyped=[(was, now) for was, now in both if was.type != now.type or self._kept_as(was, old) != self._kept_as(now, new)],
            renamed={was: name for name, was in before.items() if was != name},
        )


class RebuildingTarget(SqlTarget):
    """A database that only adds columns in place. For any other change the table is built anew."""

    @abstractmethod
    def _rebuild(self, entity: str, old: Shape, new: Shape, own: dict[str, str], *, emptied: bool) -> None:
        """Put a table of the new shape in the place of the old one, with its rows unless it is `emptied`, and with the columns `own`."""

    def _reshape(self, entity: str, old: Shape | None, new: Shape, own: dict[str, str], *, emptied: bool) -> None:
        _refuse_alike(entity, [*own, *(column.name for column in new.columns)])
        if old is None:
            self._run(f"create table {self.table(entity)} ({self._definitions(new)})")
        else:
            changes = self._changes(old, new)
            if changes.gone or changes.retyped or changes.renamed or old.key != new.key:
                self._rebuild(entity, old, new, own, emptied=emptied)
            else:
                for column in changes.added:
                    self._run(f"alter table {self.table(entity)} add column {quoted(column.name)} {self.sql_type(column)}")


def _refuse_alike(entity: str, columns: Iterable[str]) -> None:
    """Refuse names that differ only by the case of ASCII letters: DuckDB and SQLite take them for one, and keep no column of the second."""
    first: dict[bytes, str] = {}
    for name in columns:
        if (other := first.setdefault(name.encode().lower(), name)) != name:
            what = f"the columns {other} and {name} differ only by case, and this database takes them for one"
            step = "Ask the sender to rename one of them (`rename` in the registration), or load into PostgreSQL"
            raise Refused(what, where=entity, next_step=step)


def on_conflict(columns: Sequence[Column], key: Sequence[str]) -> str:
    """What becomes of a row whose key is there."""
    values = [quoted(column.name) for column in columns if column.name not in key]
    update = f"do update set {', '.join(f'{name} = excluded.{name}' for name in values)}" if values else "do nothing"
    return f"on conflict ({names(key)}) {update}"


def same_key(left: str, other: str, key: Sequence[str]) -> str:
    return " and ".join(f"{left}.{quoted(name)} = {other}.{quoted(name)}" for name in key)


def refused_by_database(entity: str, database_says: str) -> Refused:
    """The database refuses a row or a change of the table."""
    first = database_says.strip().splitlines()[0] if database_says.strip() else "an error without a message"
    step = "Mend it there and load again; nothing of this delivery was kept"
    return Refused(f"the database refuses it: {first}", where=entity, next_step=step)


def no_such_value(entity: str, columns: Sequence[Column]) -> Refused:
    """An existing value has no form in a column's new type. `columns` are those it may be in."""
    step = "Ask the sender for a full load, which replaces the values; nothing of this delivery was kept"
    what = ", ".join(f"{column.name} becomes {column.type}" for column in columns)
    return Refused(f"a value that is here does not fit into its column's new type: {what}", where=entity, next_step=step)


def not_unique(entity: str, key: Sequence[str]) -> Refused:
    step = "Ask the sender to correct the key in the catalogue and for a full load"
    return Refused(
        f"two rows have the same {', '.join(key)}, or one has none, so the key does not tell rows apart", where=entity, next_step=step
    )
