"""What one extraction reads, as a value: which entity, whose rows, which changes. Sources turn it into their own query language."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from waybill.configuration.catalog import Entity
from waybill.configuration.values.columns import Column
from waybill.configuration.values.conditions import Condition


@dataclass(frozen=True)
class ChangeSpan:
    """A half-open span `[start, end)` of an entity's change position. None leaves that side open.

    `start` and `end` are aware datetimes (lookback, horizon, append by time), ints (append by id) or PostgreSQL snapshot texts (snapshot).
    The change position of a row is the later of its change column and its deletion time, so a deletion that forgot to touch the change
    column is still found. A deletion time counts once it is past.

    `ahead` adds the rows that no span reaches: those with a position at or after that instant, and those before the calendar begins
    (`-infinity`). With `ahead` alone, only they are read. Rows whose version digest is among `known` are left out.

    What a delivery reads, with an example for each mode, `d4` and `d5` being the ends of the last window and of this one:

    | mode | span | and with it |
    |---|---|---|
    | any, a full load | `ChangeSpan()`: every row | |
    | `full` | `ChangeSpan()` | |
    | `lookback` | `ChangeSpan(d4, d5)`, or `(d4 - lookback, d5)` if versions came late | `known` for the second, `ahead` if rows are |
    | `horizon` | `ChangeSpan(d4, d5)`, where `d5` lies before every open transaction | `ahead` if rows are |
    | `append` by time | as `lookback` | |
    | `append` by id | `ChangeSpan(42, 58)`: 57 is the newest id, 41 was | `known`, as above |
    | `snapshot` | `ChangeSpan("700:720:703", "731:731:")`: what became visible in between | |

    Where keys are compared, `back` adds the rows of keys that came back, in every mode.
    """

    start: Any = None
    end: Any = None
    ahead: datetime | None = None
    back: tuple[bytes, ...] = ()
    """Digests of keys (`canonical.key_digest`). Their rows are read wherever they are before `end`."""
    only_back: bool = False
    """Whether the rows of `back` are the only ones."""
    known: Container[bytes] | None = field(default=None, compare=False, repr=False)
    known_columns: Mapping[str, Column] | None = None
    """The columns that the digests in `known` were computed with. None stands for those of the selection."""


@dataclass(frozen=True)
class Selection:
    """Rows of one entity that belong to one tenant. The tenant predicate is always there, and every value is a bind parameter.

    `tenant` is the tenant's id in the data (`sourceTenant` of its registration).
    """

    entity: Entity
    tenant: str
    columns: Mapping[str, Column]
    changed: ChangeSpan = field(default_factory=ChangeSpan)
    salt: bytes = field(default=b"", repr=False)
    scope: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    time_from: datetime | None = None
    time_to: datetime | None = None
    zone: tzinfo | None = None
    """The zone in which the days of a time column begin, if it is a date. None stands for UTC."""
    time_cut: tuple[datetime, datetime] | None = None
    """Leaves out rows with a time in `[first, second)`."""
    live_only: bool = False
    """Leaves out deleted rows (on-demand exports)."""
    where: tuple[Condition, ...] = ()
    """What else the tenant's registration asks of a row."""
    in_key_order: bool = True
    """False if the order of the rows does not matter. No source then sorts."""


@dataclass(frozen=True)
class Extent:
    """How far a delivery may read in one snapshot.

    `end` is the window's end as an instant. `position` is the opaque, JSON-able place where the next extraction starts. `short` says in a
    sentence why the end is before the planned boundary. `remarks` says what else of the source the manifest's note should tell. `lost` says
    why the position of the stream is no longer valid, so that a new generation must start.
    """

    end: datetime
    changed: ChangeSpan
    position: Any = None
    short: str = ""
    remarks: str = ""
    lost: str = ""


Block = tuple["bytes | memoryview", int]
"""Whole records, and their number."""


@dataclass(frozen=True)
class FileStyle:
    """How files are written. `line_end` is LF or CR LF. `compression` is none, gzip or zstd, for text; Parquet is compressed inside.

    `format` is csv, ndjson or parquet. A deletes file is CSV whatever the format.
    """

    delimiter: str = ","
    line_end: str = "\n"
    bom: bool = False
    compression: str = "none"
    max_rows_per_file: int | None = None
    format: str = "csv"
    encrypted: bool = False
    """Whether the files are encrypted to the consumer's key."""

    @property
    def records(self) -> FileStyle:
        """Return how sources are asked for records.

        It is the style itself for CSV, and a plain one for other formats, which are made of the records.
        """
        return self if self.format == "csv" else FileStyle(max_rows_per_file=self.max_rows_per_file)


def first_day(value: datetime, zone: tzinfo) -> datetime:
    """Return the first day that begins at or after an instant in a zone, as dates compare: by the midnight in UTC of the same name."""
    day = (value - timedelta(microseconds=1)).astimezone(zone).date() + timedelta(days=1)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
