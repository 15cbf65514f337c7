"""What every source can do. It makes two promises: each extraction sees one snapshot, and the same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from waybill.configuration.catalog import Entity
from waybill.configuration.selection import Block, Extent, FileStyle, Selection
from waybill.sources.definitions import Definition
from waybill.sources.sql import Flavour

if TYPE_CHECKING:
    import pyarrow as pa  # importing it takes a third of a second, which tasks without a source save

AGAIN = "See whether it is up and can be reached from here; a scheduled run tries again by itself"
"""The next step after a source did not answer."""


class Slice(Protocol):
    """Some rows of a selection. They are read over their own connection, in their own thread."""

    def csv(self, style: FileStyle) -> Iterator[Block]:
        """See `Snapshot.csv`."""
        ...

    def stop(self) -> None:
        """End `csv`, which then raises. May be called from another thread."""
        ...


class Snapshot(Protocol):
    """One consistent, read-only view of a source. Not thread-safe. All methods see the same rows."""

    clock: datetime
    """The source's own clock when the snapshot was opened, in aware UTC."""

    taken_at: datetime
    """Up to when the snapshot shows what was written, in aware UTC: the source's clock, or less on a standby or a replica that lags."""

    def columns(self, entity: Entity) -> dict[str, str]:
        """Return the relation's columns and native types, in the relation's order.

        Raises PermanentError when the relation is missing or unreadable.
        """
        ...

    def binding(self, entity: Entity) -> dict[str, str]:
        """Return `columns`, with an empty type if the declared type does not restrict values, as in SQLite."""
        ...

    def flavour_of(self, entity: Entity) -> Flavour:
        """Return how the engine spells the relation's values, and what its native types are."""
        ...

    counts_cheaply: bool
    """True if counting a tenant's rows costs next to nothing."""

    def never_null(self, entity: Entity) -> frozenset[str] | None:
        """Return the relation's columns that the source keeps free of NULL. None if it does not say."""
        ...

    def narrowed(self, entity: Entity) -> str:
        """Return why the connection may not see every row of the entity. Empty if nothing says so."""
        ...

    def check(self, selection: Selection) -> None:
        """Refuse a selection that would lose or duplicate rows.

        Raises PermanentError for: a needed column that is missing (`schema_drift`, naming a likely rename), a column whose native type
        cannot hold its catalogued type (`schema_drift`), a change column with NULLs among the tenant's rows (`change_column_null`), a key
        with NULLs (`key_null`) among the selected rows, or one that is not unique (`key_not_unique`) among all of the tenant's.
        """
        ...

    def extent(self, entity: Entity, tenant: str, start: Any, end: datetime) -> Extent:
        """Return how far to read. `start` is the stream's last position (None: full load), `end` the planned boundary (docs/protocol.md).

        The window's end never lies past the source's clock. Raises PermanentError when the mode is not safe here (standby, missing rights).
        """
        ...

    def heaps(self, entity: Entity) -> list[int]:
        """Return the numbers of the tables that store the relation's rows, if the source tells them."""
        ...

    def passed_over(self, selection: Selection, start: Any, before: Collection[int]) -> str:
        """Return why the last delivery did not see rows below `start`, if `heaps` were `before` then. The text is empty if nothing says so.

        A partition may have been attached, or a table swapped in, with rows it already had.
        """
        ...

    def definition(self, selection: Selection) -> Definition:
        """Return what gives the tenant's rows their values, as far as the source tells. `source_change` compares two of them."""
        ...

    def csv(self, selection: Selection, style: FileStyle) -> Iterator[Block]:
        """Yield canonical CSV without header, in blocks of whole records with their record count, ordered by the key (bytewise for text).
        It is not compressed.

        No block crosses a multiple of `style.max_rows_per_file` records, so that a file can end there.
        """
        ...

    def slices(self, selection: Selection, most: int) -> AbstractContextManager[list[Slice]]:
        """Return up to `most` slices that hold each selected row once and see the same snapshot.

        A source that cannot be split gives one.
        """
        ...

    def changes_by_time(self, selection: Selection) -> bool:
        """Return whether the entity's change column holds times."""
        ...

    def digests(self, selection: Selection) -> Iterator[list[bytes]]:
        """Yield the 16 byte version digests of the selected rows, in batches.

        A digest is the truncated SHA-256 of key, change position and canonical row, and does not depend on the CSV dialect.
        """
        ...

    def batches(self, selection: Selection, typed: bool = True) -> Iterator[pa.RecordBatch]:
        """Yield the selected rows as Arrow, ordered by the key. Columns have the catalogued types, and anonymized columns are already
        replaced.

        Without `typed`, a number stays text if an Arrow type does not hold every value of the native type (NaN in a numeric, 39 digits).
        With it, such a value raises PermanentError `row_limit_format`.
        """
        ...

    def count(self, selection: Selection) -> int:
        """Return how many rows the selection holds."""
        ...

    def least_id(self, selection: Selection) -> int | None:
        """Return the least id that the selected rows have in a change column of ids. None without rows."""
        ...

    def has_ids(self, entity: Entity, ids: Sequence[int]) -> bool:
        """Return whether the relation holds a row with one of these ids in its change column, whoever's row it is."""
        ...

    def values(self, selection: Selection, most: int) -> list[str]:
        """Return up to `most` different values of the selection's only column as canonical text, in order and without NULL."""
        ...

    def interrupt(self) -> None:
        """End the statement that is running, as far as the driver can. Only this may be called from another thread."""
        ...


@dataclass(frozen=True)
class Rows:
    """A stream over all rows of a selection in a snapshot."""

    snapshot: Snapshot
    selection: Selection

    def csv(self, style: FileStyle) -> Iterator[Block]:
        yield from self.snapshot.csv(self.selection, style)

    def stop(self) -> None:
        self.snapshot.interrupt()


class Source(Protocol):
    """A place rows come from."""

    def snapshot(self, entities: Iterable[Entity] = ()) -> AbstractContextManager[Snapshot]:
        """Open one. What `entities` read is held against replacement before the snapshot is taken, where a source needs that: a snapshot
        older than a TRUNCATE, a rewrite or a swap by renaming would see an empty table. Name every entity that is read from it.

        Raises TransientError when the source cannot be reached or is busy, PermanentError when it refuses the login.
        """
        ...
