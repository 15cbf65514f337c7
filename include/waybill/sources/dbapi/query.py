"""What a database is asked for through a driver."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration.values.columns import sources
from waybill.configuration.values.conditions import Condition
from waybill.sources.dbapi import over_sqlite
from waybill.sources.dbapi.flavours import TableFlavour
from waybill.sources.query import Query, counts_by_tenant
from waybill.sources.sql import Bind, Sql, join, sql

_DAY = timedelta(days=1)


class TableQuery(Query):
    """The query for the database: exactly the tenant's rows, and spans of time as narrow as the database can compare."""

    flavour: TableFlavour

    def columns(self) -> list[str]:
        """Return every column that the second stage needs."""
        extra = [condition.column for condition in (*self.selection.where, self.entity.deleted_when) if condition]
        names = [*sources(self.selection.columns), *sources(self.selection.changed.known_columns or {}), *self.entity.key]
        return list(dict.fromkeys([*names, *self.compared(), *extra]))

    def compared(self) -> list[str]:
        """Return the columns that say when a row changed, ceased to be, or belongs to, as far as the selection looks at them."""
        timed = self.selection.time_from or self.selection.time_to or self.selection.time_cut
        names = (self.entity.changes.column, self.entity.deleted_column, self.entity.time_column if timed else "")
        return [name for name in names if name]

    def select(self, names: list[str], ordered: bool) -> Sql:
        values = (self.flavour.value(self.flavour.name(name), self.kind(name), self.natives[name]) for name in names)
        wanted = join(", ", (sql("{}", value) for value in values))
        rows = sql("SELECT {} FROM {} WHERE {}", wanted, self.relation, self.where())
        terms = ", ".join(self.flavour.order(self.flavour.name(name), self.kind(name), self.natives[name]) for name in self.entity.key)
        return sql("{} ORDER BY {}", rows, terms) if ordered else rows

    def condition(self, wanted: Condition) -> Sql:
        """What the database may compare otherwise than as it is delivered is compared where it has become what is delivered."""
        return sql("1 = 1") if wanted.values() and self._compares_otherwise(wanted.column) else super().condition(wanted)

    def _compares_otherwise(self, name: str) -> bool:
        """SQLite makes whole numbers of what a column that is declared so is given: only such a column compares as it is delivered. Nested
        values compare as texts nowhere.
        """
        kinds = {self.kind(name), self.flavour.kind(self.natives[name])}
        is_loose = self.flavour.database.dynamic and self.kind(name) is not ColumnType.STRING and kinds != {ColumnType.INTEGER}
        return is_loose or ColumnType.JSON in kinds or self.holds_uuids_as_text(name)

    def equal(self, name: str, value: str) -> Sql:
        """Return exact equality. Of a UUID in a text the digits count: it may lack its hyphens, or stand in braces."""
        if self.holds_uuids_as_text(name):
            return self.flavour.equal(self._digits(name), self.natives[name], value.replace("-", ""))
        return super().equal(name, value)

    def _digits(self, name: str) -> str:
        return f"lower(replace(replace(replace({self.flavour.name(name)}, '-', ''), '{{', ''), '}}', ''))"

    def tells(self, name: str) -> Sql:
        """SQLite keeps numbers and times as texts, of which several are delivered as the same one."""
        x, kind, natural = self.flavour.name(name), self.kind(name), self.flavour.kind(self.natives[name])
        if self.holds_uuids_as_text(name):
            return sql("{}", self._digits(name))
        if self.flavour.dynamic and kind in over_sqlite.KINDS and natural not in over_sqlite.STORED_AS_NUMBERS:
            return sql("CASE typeof({}) WHEN 'text' THEN {}({}, {}) ELSE {} END", x, over_sqlite.FUNCTION, x, Bind(kind.value), x)
        return super().tells(name)

    def _live(self) -> Sql:
        """A state that tells deletions is looked at where rows have their catalogued types."""
        return Sql() if self.entity.deleted_when else super()._live()

    def time(self) -> list[Sql]:
        return [] if self._as_text(self.entity.time_column) else super().time()

    def reaches(self, name: str, value: Any) -> Sql:
        """A time stored as text begins with its date: comparing from a day before, whatever its offset, misses nothing."""
        if not isinstance(value, datetime) or not self._as_text(name):
            return super().reaches(name, value)
        return sql("{} >= {}", self.flavour.name(name), Bind((value.astimezone(UTC) - _DAY).date().isoformat()))

    def precedes(self, name: str, value: Any) -> Sql:
        if not isinstance(value, datetime) or not self._as_text(name):
            return super().precedes(name, value)
        return sql("{} < {}", self.flavour.name(name), Bind((value.astimezone(UTC) + 2 * _DAY).date().isoformat()))

    def loose_positions(self) -> list[str]:
        """Return the columns of change positions that may hold anything else, which would still compare, and its row be passed over."""
        kinds = (ColumnType.TIMESTAMP, ColumnType.DATE)
        return [name for name in self.change_columns() if self._as_text(name) and (self.kind(name) in kinds or self.counts(name))]

    def counts(self, name: str) -> bool:
        """Return whether a column is declared to hold whole numbers."""
        return self.flavour.kind(self.natives[name]) is ColumnType.INTEGER

    def unreadable(self, name: str) -> Sql:
        """Return how many of the tenant's rows hold something else in such a column than a whole number if it is declared so, or than a
        date and time that SQLite, too, can read.
        """
        x = self.flavour.name(name)
        whole = f"CASE WHEN length({x}) > 10 AND {x} GLOB '*[+-][0-9][0-9]' THEN {x} || ':00' ELSE {x} END"
        shape = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"
        no_time = f"typeof({x}) <> 'text' OR {x} NOT GLOB '{shape}' OR julianday({whole}) IS NULL"
        strange = f"typeof({x}) <> 'integer'" if self.counts(name) else no_time
        return sql("SELECT count(*) FROM {} WHERE {} AND {} IS NOT NULL AND ({})", self.relation, self.tenant(), x, strange)

    def greatest_id(self) -> Sql:
        """In SQLite a text is greater than each number, and may be another tenant's: only whole numbers are ids."""
        found = super().greatest_id()
        if not self.flavour.dynamic:
            return found
        return sql(
            "{} {} typeof({}) = 'integer'",
            found,
            "AND" if counts_by_tenant(self.entity) else "WHERE",
            self.flavour.name(self.entity.changes.column),
        )

    def _as_text(self, name: str) -> bool:
        return bool(name) and self.flavour.database.dynamic
