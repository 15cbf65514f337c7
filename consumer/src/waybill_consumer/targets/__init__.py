"""The databases that a copy is kept in. `Target` is all that `load` asks of one, and `open_target` finds it by the scheme of a URL.

In: a database URL, and deliveries in their order. Out: tables that hold what the deliveries say. `postgres`, `duckdb` and `sqlite` each
keep that promise for one database, with the statements in `sql`, the files in `data`, and the values in `values`.

Another database joins in by an entry point in the group `waybill_consumer.targets`, named like the scheme of its URLs: a function that
takes the URL and the schema ("" for none) and returns a context manager of a `Target`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from waybill_consumer.errors import Refused
from waybill_consumer.manifest import Column
from waybill_consumer.targets.data import DataFile

__all__ = ["Applied", "DataFile", "Shape", "Target", "Widen", "former", "open_target"]


class Shape(NamedTuple):
    """What a table holds. Without a key its rows cannot be told apart, so they are only appended or replaced."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def former(old: Sequence[Column], new: Sequence[Column]) -> dict[str, str]:
    """Map each existing column to what it was called before. One that reads the same column at the sender's source was renamed.

    What was remembered before sources were is known by its name.
    """
    found: dict[str, str] = {}
    left = list(old)
    rules: tuple[Callable[[Column, Column], bool], ...] = (
        lambda was, now: was.name == now.name and was.source in ("", now.source),
        lambda was, now: (was.source or was.name) == now.source,
        lambda was, now: was.name == now.name,
    )
    for is_same in rules:
        for now in new:
            was = next((column for column in left if now.name not in found and is_same(column, now)), None)
            if was is not None:
                found[now.name] = was.name
                left.remove(was)
    return found


class Applied(NamedTuple):
    """A delivery as the database remembers it. `result` is `applied`, or `superseded` if newer rows were there already.

    `content` is the delivery that these rows come from: that of the original for a redelivery.
    """

    delivery_id: str
    content: str
    tenant: str
    entity: str
    generation: int
    sequence: int
    kind: str
    snapshot_time: str
    window_to: str
    rows: int
    result: str


class Widen(Exception):
    """Values do not fit into their columns, or the rows not into memory. Nothing was kept, and it fits when it is done again.

    `columns` are those that can hold the values.
    """

    def __init__(self, *columns: Column) -> None:
        self.columns = columns
        super().__init__(", ".join(column.name for column in columns))


class Target(Protocol):
    """A database. Everything between `prepare` and the end happens inside `transaction`, which keeps all of it or nothing."""

    def transaction(self) -> AbstractContextManager[None]:
        """Allow one at a time of all who load into the same schema. Raises Unreachable if the database does not answer."""
        ...

    def prepare(self) -> None:
        """Make the tables of the target's memory if they are missing."""
        ...

    def tenants(self) -> list[str]:
        """Whose deliveries the database remembers; none before `prepare`."""
        ...

    def applied(self, tenant: str) -> list[Applied]: ...
    def is_applied(self, content: str) -> bool: ...
    def remember(self, step: Applied) -> None: ...

    def shape(self, entity: str) -> tuple[str, Shape] | None:
        """Return whose the entity's table is and what it holds, as `reshape` last set it, or None if there is none."""
        ...

    def check(self, entity: str) -> None:
        """Raises Refused where the entity's table, or a column of it, was taken away."""
        ...

    def reshape(self, tenant: str, entity: str, old: Shape | None, new: Shape, *, emptied: bool) -> None:
        """Make or change the entity's table. `emptied` allows losing its rows, because they are replaced next. `former` names renamed
        columns.
        """
        ...

    def replace(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        """Make the table hold the rows of the files and no other. It may raise Widen, and so may the next two."""
        ...

    def upsert(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None:
        """Insert rows, or change those with the same key."""
        ...

    def append(self, entity: str, shape: Shape, files: Sequence[DataFile]) -> None: ...

    def delete(self, entity: str, shape: Shape, file: DataFile) -> None:
        """Delete the rows whose keys a file lists. Its last column is not part of the key."""
        ...


def open_target(url: str, schema: str) -> AbstractContextManager[Target]:
    """Return the database that a URL names. Raises Refused for one that nobody knows."""
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme in ("postgresql", "postgres"):
        from waybill_consumer.targets.postgres import postgres_target

        return postgres_target(url, schema)
    if scheme == "duckdb":
        from waybill_consumer.targets.duckdb import duckdb_target

        return duckdb_target(_path(url), schema)
    if scheme == "sqlite":
        from waybill_consumer.targets.sqlite import sqlite_target

        return sqlite_target(_path(url), schema)
    from importlib.metadata import entry_points  # costs as much as half of this package

    for entry_point in entry_points(group="waybill_consumer.targets", name=scheme):
        found: AbstractContextManager[Target] = entry_point.load()(url, schema)
        return found
    known = "postgresql://user@host/database, duckdb:FILE or sqlite:FILE"
    raise Refused(f"{scheme}: is no database this program knows", next_step=f"Write {known}")


def _path(url: str) -> str:
    """Return the file in `duckdb:FILE`. `duckdb:///FILE`, as some programs write it, is the same."""
    rest = url.partition(":")[2]
    path = rest[3:] if rest.startswith("///") else rest
    if not path:
        raise Refused(f"{url} names no file", next_step=f"Write {url.partition(':')[0]}:FILE")
    return path
