"""Turns a selection into SQL, for every engine. This is the only place that does.

The tenant predicate is always in, every value is a bind parameter, identifiers come from the catalog only and are always quoted.
What engines spell differently is behind `waybill.sources.sql.Flavour`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from waybill.canonical import ColumnType, hmac_pads, parse_timestamp
from waybill.configuration.catalog import Entity
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection, first_day
from waybill.configuration.values.columns import Column, described
from waybill.configuration.values.conditions import Condition
from waybill.errors import PermanentError
from waybill.sources import equality
from waybill.sources.parents import Parent, belongs
from waybill.sources.sql import Bind, Flavour, Natives, Sql, either, every, join, sql

_QUOTABLE = frozenset({ColumnType.STRING, ColumnType.JSON, ColumnType.BINARY})
_PLAIN_CHARACTERS = frozenset("+-.:/= ")
_INSTANTS = frozenset({ColumnType.TIMESTAMP, ColumnType.DATE})
_NUMBERS = frozenset({ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.FLOAT})
_OF_ONE_TEXT = frozenset({ColumnType.STRING, ColumnType.INTEGER, ColumnType.UUID})
"""Natural types whose values are equal if their texts are."""
_ALL = Sql()
_CALENDAR_BEGINS = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Query:
    """Builds the statements of one selection over one relation of one engine.

    `relation` is the quoted relation as it stands behind FROM. `narrowed` says that the rows are one tenant's already (a second stage over
    fetched chunks), `sorted` off leaves them in the order they come, `nulls` is what the engine needs to put NULL keys first, `part` is a
    further condition, one of `parts`. `clock` is the source's: a deletion time at or after it does not count yet.
    """

    flavour: Flavour
    relation: Sql
    natives: Natives
    selection: Selection
    narrowed: bool = False
    sorted: bool = True
    nulls: str = " NULLS FIRST"
    part: Sql = _ALL
    parents: tuple[Parent, ...] = ()
    """The tables of `entity.tenant_through`, in its order."""
    clock: datetime | None = None

    @property
    def entity(self) -> Entity:
        return self.selection.entity

    def kind(self, name: str) -> ColumnType:
        """Return the catalogued type of a column of the source, else its natural one."""
        column = described(self.selection.columns, name) or described(self.entity.columns, name)
        return column.type if column else self.flavour.kind(self.natives[name]) or ColumnType.STRING

    def text(self, name: str, column: Column | None = None) -> Sql:
        """Return canonical text of a source column: as `column` describes it (pseudonymous where that says so), else raw."""
        text = self.flavour.text(self.flavour.name(name), column.type if column else self.kind(name), self.natives[name])
        if column is None or column.export != "anonymize":
            return sql("{}", text)
        inner, outer = hmac_pads(self.selection.salt)
        return self.flavour.pseudonym(text, Bind(inner), Bind(outer))

    # Which rows

    def where(self) -> Sql:
        """Return every condition of the selection, except the one on version digests."""
        owner: tuple[Sql, ...] = () if self.narrowed else (self.tenant(), *self._scope())
        wanted = map(self.condition, self.selection.where)
        return every((*owner, *wanted, *self.time(), self._live(), self.changed(reach_back=bool(self.selection.changed.back)), self.part))

    def changed(self, reach_back: bool = False) -> Sql:
        """Return the condition on change positions: the selection's span, and what lies outside every span if that is wanted.

        It may reach back before the span's start, for keys that came back.
        """
        start, end, ahead = self.selection.changed.start, self.selection.changed.end, self.selection.changed.ahead
        span = self.span(None if reach_back else start, end)
        if ahead is None:
            return span
        return either(term for term in (span, self.at_or_after(ahead), self.before(_CALENDAR_BEGINS)) if term)

    def tenant(self) -> Sql:
        """Return the condition for the tenant's rows: by a column of their own, or by one that tables lead to. No row repeats."""
        if not self.entity.tenant_through:
            name = self.entity.tenant_column
            return equality.equal(self.flavour, self.flavour.name(name), self.natives[name], self.selection.tenant)
        steps = self.entity.tenant_through
        condition = self.parents[-1].equal(steps[-1].column, self.selection.tenant)
        for number in reversed(range(len(steps))):
            child = self.parents[number - 1] if number else self
            condition = belongs(child.flavour, child.natives, steps[number].on, self.parents[number], condition)
        return condition

    def equal(self, name: str, value: str) -> Sql:
        """Return exact equality of a column of the relation with a value as it is delivered."""
        native = self.natives[name]
        if self.holds_uuids_as_text(name):
            return sql("{} = {}", self.text(name), Bind(value))
        return equality.equal(self.flavour, self.flavour.name(name), native, equality.delivered(self.flavour, native, value))

    def holds_uuids_as_text(self, name: str) -> bool:
        """Return whether a column holds UUIDs in whatever letters somebody wrote. They are delivered in one spelling."""
        is_bound = self.flavour.kind(self.natives[name]) is ColumnType.UUID and not self.flavour.dynamic
        return self.kind(name) is ColumnType.UUID and not is_bound

    def condition(self, wanted: Condition) -> Sql:
        """Return a condition of the catalog or a registration. Every value is a parameter."""
        x, itself = self.flavour.name(wanted.column), self._itself(wanted.column)
        if wanted.op in ("is null", "is not null"):
            return sql("{} {}", itself, wanted.op.upper())
        if wanted.op in ("=", "in"):
            return either(self._same(wanted.column, value) for value in wanted.values())
        if wanted.op in ("!=", "not in"):
            return every((sql("{} IS NOT NULL", itself), *(sql("NOT ({})", self._same(wanted.column, value)) for value in wanted.values())))
        native, kind, (value,) = self.natives[wanted.column], self.kind(wanted.column), wanted.values()
        term = self.flavour.order(x, kind, native) if kind is ColumnType.STRING else self._comparable(wanted.column)
        return sql("{} {} {}", term, wanted.op, self._value_of(wanted.column, value))

    def _itself(self, name: str) -> str:
        """Return what is NULL exactly where the column is: PostgreSQL tells by IS NULL whether all fields of a composite value are."""
        x = self.flavour.name(name)
        return self.flavour.by_bytes(x) if self.flavour.kind(self.natives[name]) is ColumnType.JSON else x

    def _same(self, name: str, value: Any) -> Sql:
        if self.kind(name) is ColumnType.STRING:
            return self.equal(name, str(value))
        if self.kind(name) is ColumnType.UUID:
            return self.equal(name, str(UUID(value)))
        return sql("{} = {}", self._comparable(name), self._value_of(name, value))

    def _comparable(self, name: str) -> str:
        """Return the column. A number that came as text (exact decimals of a driver) is returned as a number."""
        x = self.flavour.name(name)
        return f"CAST({x} AS DOUBLE)" if self.natives[name] == "VARCHAR" and self.kind(name) in _NUMBERS else x

    def _value_of(self, name: str, value: Any) -> Sql:
        kind, native = self.kind(name), self.natives[name]
        if kind is ColumnType.TIMESTAMP:
            return self.flavour.bind_instant(parse_timestamp(str(value)), native)
        return sql("{}", Bind(value, {ColumnType.DATE: "date", ColumnType.BOOLEAN: "boolean"}.get(kind, "")))

    def span(self, start: Any, end: Any) -> Sql:
        """Change position in `[start, end)`, in plain comparisons that an index can serve. A missing side is open."""
        terms = [self.at_or_after(start), self.before(end)]
        return every(terms) if any(terms) else Sql()

    def at_or_after(self, start: Any) -> Sql:
        if start is None:
            return Sql()
        change, *deletion = self.change_columns()
        return either([self.reaches(change, start), *(every((self.reaches(name, start), self._is_past(name))) for name in deletion)])

    def before(self, end: Any) -> Sql:
        if end is None:
            return Sql()
        change, *deletion = self.change_columns()
        return every([self.precedes(change, end), *(either((self._is_pending(name), self.precedes(name, end))) for name in deletion)])

    def reaches(self, name: str, value: Any) -> Sql:
        """The column is at or after a value. The number behind the greatest of a type is none of that type, so the one before is bound."""
        op, limit = (">", value - 1) if isinstance(value, int) else (">=", value)
        return sql(f"{{}} {op} {{}}", self.flavour.name(name), self._bound(name, limit))

    def precedes(self, name: str, value: Any) -> Sql:
        """The column is before a value."""
        op, limit = ("<=", value - 1) if isinstance(value, int) else ("<", value)
        return sql(f"{{}} {op} {{}}", self.flavour.name(name), self._bound(name, limit))

    def _is_past(self, name: str) -> Sql:
        return self.precedes(name, self.clock) if self.clock else Sql()

    def _is_pending(self, name: str) -> Sql:
        """Return the condition that a time is absent or not past yet."""
        none = sql("{} IS NULL", self.flavour.name(name))
        return either((none, self.reaches(name, self.clock))) if self.clock else none

    def change_columns(self) -> tuple[str, ...]:
        """Return the columns whose greatest value is the change position. A deletion time counts only beside a change time."""
        change, deleted = self.entity.changes.column, self.entity.deleted_column
        if not change:
            raise PermanentError("it declares no change column", where=self.entity.id, next_step="Set changes.column in the catalog")
        both = deleted and deleted != change and all(self.flavour.kind(self.natives[name]) in _INSTANTS for name in (change, deleted))
        return (change, deleted) if both else (change,)

    def position(self) -> Sql:
        """Return canonical text of the change position; NULL when the entity has none."""
        if not self.entity.changes.column:
            return sql("NULL")
        names = self.change_columns()
        if len(names) == 1:
            return self.text(names[0])
        a, b = (self.flavour.instant(self.flavour.name(name), self.natives[name]) for name in names)
        texts = (self.flavour.text(x, ColumnType.TIMESTAMP, self.flavour.naive) for x in (a, b))
        return sql("CASE WHEN {} OR {} >= {} THEN {} ELSE {} END", self._is_pending(names[1]), a, b, *texts)

    def _bound(self, name: str, value: Any) -> Sql:
        """Return a limit of the change position; a datetime only ever meets a time column."""
        if not isinstance(value, datetime):
            return sql("{}", Bind(value))
        if self.flavour.kind(self.natives[name]) not in _INSTANTS:
            what = f"the change column {name} is {self.natives[name]}, which cannot be cut by a time"
            counts = self.flavour.kind(self.natives[name]) is ColumnType.INTEGER and self.natives[name] != "oid"
            cast = "Name a column that holds a time or, for append, an integer; a view or query can cast it"
            step = "Ask for a full load instead" if counts else cast
            raise PermanentError(what, where=self.entity.id, code="no_change_time", next_step=step)
        return self.flavour.bind_instant(value, self.natives[name])

    def _scope(self) -> list[Sql]:
        """Return one condition per level; a level the entity does not have holds none of its rows."""
        columns: dict[str, str] = {str(level): name for level, name in self.entity.scopes.items()}
        return [
            either(self.equal(columns[level], value) for value in values) if level in columns else sql("1 = 0")
            for level, values in self.selection.scope.items()
        ]

    def time(self) -> list[Sql]:
        """Return the selection's own range of the entity's time column."""
        name, asked = self.entity.time_column, self.selection
        if not name or not (asked.time_from or asked.time_to or asked.time_cut):
            return []
        x, native = self.flavour.name(name), self.natives[name]
        low, high = (edge and self._day(edge) for edge in (asked.time_from, asked.time_to))
        terms = [
            sql("{} >= {}", x, self.flavour.bind_instant(low, native)) if low else Sql(),
            sql("{} < {}", x, self.flavour.bind_instant(high, native)) if high else Sql(),
        ]
        if cut := asked.time_cut:
            first, second = (self.flavour.bind_instant(self._day(instant), native) for instant in cut)
            terms.append(either((sql("{} IS NULL", x), sql("{} < {}", x, first), sql("{} >= {}", x, second))))
        return terms

    def _day(self, value: datetime) -> datetime:
        """Return an edge of a range of time as the column compares: for a date, the first day that begins (in the zone) from then on."""
        zone = self.selection.zone
        if zone is None or self.flavour.kind(self.natives[self.entity.time_column]) is not ColumnType.DATE:
            return value
        return first_day(value, zone)

    def changes_by_time(self) -> bool:
        """Return whether the change column holds times."""
        return self.flavour.kind(self.natives.get(self.entity.changes.column, "")) in _INSTANTS

    def _live(self) -> Sql:
        """Return the condition for live rows: their deletion time is not past and their state is not deleted. An unknown state is live."""
        name, state = self.entity.deleted_column, self.entity.deleted_when
        if not self.selection.live_only or not (name or state):
            return Sql()
        if state:
            return sql("CASE WHEN {} THEN 1 ELSE 0 END = 0", self.condition(state))
        is_time = self.flavour.kind(self.natives[name]) in _INSTANTS
        return self._is_pending(name) if is_time else sql("{} IS NULL", self._itself(name))

    # What of them

    def fields(self, columns: Iterable[tuple[str, ColumnType, bool]], delimiter: str) -> list[str]:
        """CSV fields over aliases of `rows`, given as (alias, type, pseudonymous), with the delimiters between them."""
        pieces: list[str] = []
        for alias, kind, hidden in columns:
            quotable = _may_hold(delimiter) or (kind in _QUOTABLE and not hidden)
            pieces += [self.flavour.literal(delimiter), self.flavour.quoted(alias, delimiter) if quotable else alias]
        return pieces[1:]

    def digest(self) -> Sql:
        """`canonical.row_digest` over the aliases of `rows`."""
        keys = [(f"k{i}", self.kind(name), False) for i, name in enumerate(self.entity.key)]
        columns = [(alias, column.type, column.export == "anonymize") for alias, column, _ in self._digested()]
        fields = self.fields([*keys, ("p", ColumnType.TIMESTAMP, False), *columns], ",")
        return self.flavour.sha16(self.flavour.concat([*fields, self.flavour.literal("\n")]))

    def key_digest(self) -> Sql:
        """`canonical.key_digest` over the aliases of `rows`."""
        columns = [(f"b{i}", column.type, column.export == "anonymize") for i, (_, column) in enumerate(self._key_columns())]
        return self.flavour.sha16(self.flavour.concat([*self.fields(columns, ","), self.flavour.literal("\n")]))

    def _key_columns(self) -> list[tuple[str, Column]]:
        return [(name, self.entity.columns[self.entity.exported(name) or name]) for name in self.entity.key]

    def _digested(self) -> list[tuple[str, Column, str]]:
        """Return a digest's columns as (alias, column, what it reads). An alias is c0.. if the file holds the same text, else d0.."""
        shown = {(source, column.type, column.export): f"c{i}" for i, (source, column) in enumerate(_read(self.selection.columns))}
        known = self.selection.changed.known_columns
        columns = _read(self.selection.columns if known is None else known)
        return [(shown.get((source, column.type, column.export), f"d{i}"), column, source) for i, (source, column) in enumerate(columns)]

    def rows(self, digests: bool = False, extra: Sql | None = None) -> Sql:
        """Return the selected rows: canonical texts (c0..) and sort terms (o0..).

        Where digests are asked for also raw keys (k0..), change position (p) and what else is digested (d0..).
        """
        wanted = [sql("{} AS c{}", self.text(source, column), str(i)) for i, (source, column) in enumerate(_read(self.selection.columns))]
        wanted += [sql("{} AS o{}", self._sort_value(name), str(i)) for i, name in enumerate(self.entity.key)]
        back = self.selection.changed.back
        if digests:
            wanted += [sql("{} AS k{}", self.text(name), str(i)) for i, name in enumerate(self.entity.key)]
            wanted += [sql("{} AS {}", self.text(name, column), alias) for alias, column, name in self._digested() if alias[0] == "d"]
            wanted.append(sql("{} AS p", self.position()))
        if back:
            wanted += [sql("{} AS b{}", self.text(name, column), str(i)) for i, (name, column) in enumerate(self._key_columns())]
            fresh = sql("1 = 0") if self.selection.changed.only_back else self.changed() or sql("1 = 1")
            wanted.append(sql("CASE WHEN {} THEN 1 ELSE 0 END AS fresh", fresh))
        if extra:
            wanted.append(extra)
        inner = sql("SELECT {} FROM {} WHERE {}", join(", ", wanted), self.relation, self.where())
        return sql("SELECT * FROM ({}) AS r WHERE fresh = 1 OR {}", inner, self.flavour.among(self.key_digest(), back)) if back else inner

    def stored(self) -> Sql:
        """Return the selected rows with all their columns as they are stored, in key order."""
        terms = ", ".join(f"{self._sort_value(name)}{self.nulls}" for name in self.entity.key)
        return sql("SELECT * FROM {} WHERE {} ORDER BY {}", self.relation, self.where(), terms)

    def csv(self, style: FileStyle) -> Sql:
        """Return one text column `line`: whole records with their line end, in key order. If known versions are left out, also `digest`."""
        columns = [(f"c{i}", column.type, column.export == "anonymize") for i, column in enumerate(self.selection.columns.values())]
        line = self.flavour.concat([*self.fields(columns, style.delimiter), self.flavour.literal(style.line_end)])
        if self.selection.changed.known is None:
            return self.ordered(sql("SELECT {} AS line{} FROM ({}) AS t", line, self._sort_aliases(), self.rows()), "line")
        rows = sql("SELECT {} AS line, {} AS digest{} FROM ({}) AS t", line, self.digest(), self._sort_aliases(), self.rows(digests=True))
        return self.ordered(rows, "line, digest")

    def digests(self) -> Sql:
        """Return one binary column `digest`."""
        return sql("SELECT {} AS digest FROM ({}) AS t", self.digest(), self.rows(digests=True))

    def first_keys(self) -> Sql:
        """Return one column `o0`: what the rows are sorted by first, in no order."""
        return sql("SELECT {} AS o0 FROM {} WHERE {}", self._sort_value(self.entity.key[0]), self.relation, self.where())

    def parts(self, cuts: list[Any], name: str = "") -> list[Sql]:
        """Return conditions that part the rows at values of a key's column, the first one by default. Each row meets exactly one."""
        name = name or self.entity.key[0]
        x, native = self._sort_value(name), self.natives[name]
        kind = "VARCHAR" if x != self.flavour.name(name) else native
        bounds = [Bind(cut, kind) for cut in cuts]
        below = [sql("{} < {}", x, bound) for bound in bounds]
        first, *others = [*below, Sql()]
        return [
            either((sql("{} IS NULL", x), first)) if first else Sql(),
            *(every((sql("{} >= {}", x, bound), end)) for bound, end in zip(bounds, others, strict=True)),
        ]

    def count(self) -> Sql:
        rows = sql("({}) AS t", self.rows()) if self.selection.changed.back else sql("{} WHERE {}", self.relation, self.where())
        return sql("SELECT count(*) FROM {}", rows)

    def least_id(self) -> Sql:
        return sql("SELECT min({}) FROM {} WHERE {}", self.flavour.name(self.entity.changes.column), self.relation, self.where())

    def greatest_id(self) -> Sql:
        """Return the statement for the id that an extent ends with: that of all rows, or of the tenant's if each counts for itself."""
        x = self.flavour.name(self.entity.changes.column)
        return sql("SELECT max({}) FROM {}{}", x, self.relation, sql(" WHERE {}", self.tenant()) if counts_by_tenant(self.entity) else "")

    def values(self, most: int) -> Sql:
        """Return different texts of the selection's only column, not NULL, in order."""
        [(name, _)] = _read(self.selection.columns)
        there = every((self.where(), sql("{} IS NOT NULL", self._itself(name))))
        text = sql("{}", self._sort_value(name)) if self.kind(name) is ColumnType.STRING else self.text(name)
        return sql("SELECT DISTINCT {} AS c0 FROM {} WHERE {} ORDER BY c0 LIMIT {}", text, self.relation, there, str(most))

    def without(self, names: Iterable[str], among: Sql) -> Sql:
        """Return the statement that counts the rows with NULL in one of these columns."""
        missing = either(sql("{} IS NULL", self._itself(name)) for name in names)
        return sql("SELECT count(*) FROM {} WHERE {} AND {}", self.relation, among, missing)

    def respells_key(self) -> bool:
        """Return whether different values of a column of the key may be delivered as the same text."""
        return any(map(self.holds_uuids_as_text, self.entity.key))

    def tells(self, name: str) -> Sql:
        """Return what tells a value of the key from others once it is delivered."""
        return self.text(name) if self.holds_uuids_as_text(name) else sql("{}", self._sort_value(name))

    def repeated_key(self) -> Sql:
        """Return the statement that counts the keys of selected rows that more than one row has, as they are delivered. The other row may
        have changed outside of the span that is read.
        """
        keys = ", ".join(f"o{i}" for i, _ in enumerate(self.entity.key))
        terms = join(", ", (sql("{} AS o{}", self.tells(name), str(i)) for i, name in enumerate(self.entity.key)))
        whole = replace(self, selection=replace(self.selection, changed=ChangeSpan())).where()
        if self.changed():
            key = join(", ", map(self._looked_up, self.entity.key))
            whole = sql("{} AND ({}) IN (SELECT {} FROM {} WHERE {})", whole, key, key, self.relation, self.where())
        rows = sql("SELECT {} FROM {} WHERE {}", terms, self.relation, whole)
        return sql("SELECT count(*) FROM (SELECT count(*) AS n FROM ({}) AS t GROUP BY {} HAVING count(*) > 1) AS d", rows, keys)

    def _looked_up(self, name: str) -> Sql:
        """Return what finds the rows with a value of the key, and maybe more of them: the column itself where an index may serve that."""
        is_plain = self.kind(name) is ColumnType.STRING and self.flavour.kind(self.natives[name]) in _OF_ONE_TEXT
        return sql("{}", self.flavour.name(name)) if is_plain and not self.flavour.dynamic else self.tells(name)

    def disorder(self) -> Sql:
        """Return the statement that yields a row if the stored rows are not in strictly rising key order. If they are, keys are unique."""
        keys = range(len(self.entity.key))
        terms = join(", ", (sql("{} AS o{}", self._sort_value(name), str(i)) for i, name in enumerate(self.entity.key)))
        rows = sql("SELECT {} FROM {} WHERE {}", terms, self.relation, self.where())
        before = ", ".join(f"lag(o{i}) OVER () AS b{i}" for i in keys)
        rising = " OR ".join(" AND ".join([*(f"o{j} = b{j}" for j in range(i)), f"o{i} > b{i}"]) for i in keys)
        numbered = sql("SELECT *, {}, row_number() OVER () AS n FROM ({}) AS t", before, rows)
        return sql("SELECT 1 FROM ({}) AS w WHERE n > 1 AND NOT coalesce({}, false) LIMIT 1", numbered, rising)

    def ordered(self, rows: Sql, wanted: str | Sql) -> Sql:
        """`wanted` of the rows, which hold the sort terms o0.., in key order."""
        if not self.sorted:
            return sql("SELECT {} FROM ({}) AS s", wanted, rows)
        terms = ", ".join(f"o{i}{self.nulls}" for i, _ in enumerate(self.entity.key))
        return sql("SELECT {} FROM ({}) AS s ORDER BY {}", wanted, rows, terms)

    def _sort_value(self, name: str) -> str:
        return self.flavour.order(self.flavour.name(name), self.kind(name), self.natives[name])

    def _sort_aliases(self) -> str:
        return "".join(f", o{i}" for i, _ in enumerate(self.entity.key)) if self.sorted else ""


def with_ids(x: str, relation: Sql, ids: Iterable[int]) -> Sql:
    """Return the statement that counts the rows with one of these ids, whoever's they are."""
    return sql("SELECT count(*) FROM {} WHERE {} IN ({})", relation, x, join(", ", (sql("{}", Bind(value)) for value in ids)))


def counts_by_tenant(entity: Entity) -> bool:
    """Return whether each tenant numbers its rows for itself: what else tells rows apart may be the same for two tenants."""
    return entity.tenant_column in entity.key


def within_tenant(entity: Entity) -> list[str]:
    """Return the columns of the key that tell rows of one tenant apart: its own id is the same in all of them."""
    return [name for name in entity.key if name != entity.tenant_column] or list(entity.key)


def _read(columns: Mapping[str, Column]) -> list[tuple[str, Column]]:
    """Return the columns in their order, each with the column of the source that it reads."""
    return [(column.source(name), column) for name, column in columns.items()]


def _may_hold(delimiter: str) -> bool:
    """Return whether numbers, times, base64 or hex could hold this delimiter."""
    return delimiter.isalnum() or delimiter in _PLAIN_CHARACTERS
