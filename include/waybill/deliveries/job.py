"""A delivery as an object of work: everything that it is made from, what reading it gives, and the function that reads."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from waybill.configuration.catalog import Entity
from waybill.configuration.selection import FileStyle
from waybill.configuration.values.columns import Column
from waybill.configuration.values.conditions import Condition
from waybill.deliveries.key_changes.changes import FoundKeys, KeyStore, Repeated
from waybill.files.source_types import Native
from waybill.formats.csv import WrittenFile
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.facts import Facts, Position
from waybill.ledger.streams import Stream
from waybill.pgp import Recipient
from waybill.sink import Sink
from waybill.sources import Source


@dataclass(frozen=True)
class DeliveryJob:
    """One delivery with everything it is made from. `file_style` belongs to the registration version under which it was planned."""

    delivery: Delivery
    stream: Stream
    entity: Entity
    file_style: FileStyle
    salt: bytes
    produced_by: str
    source_tenant: str
    """The tenant's id in the data."""
    conditions: tuple[Condition, ...] = ()
    """The registration's own conditions on a row."""
    key_store: KeyStore | None = None
    """The place of the stream's delivered keys. None for an entity that does not compare keys."""

    recipient: Recipient | None = None
    """The receiver the files are encrypted to. None if they are not encrypted, or if a redelivery repeats encrypted bytes."""

    zone: tzinfo = UTC
    """The tenant's zone."""

    source_connections: int = 1
    """The number of connections that read the source at the same time. With more than one, the files are parts."""

    @property
    def in_parts(self) -> bool:
        return becomes_parts(self.file_style, self.source_connections)

    @property
    def where(self) -> str:
        return f"tenant {self.delivery.tenant}, entity {self.delivery.entity}, delivery {self.delivery.id}"


def becomes_parts(style: FileStyle, source_connections: int) -> bool:
    """Return whether the data of a delivery that is not recorded yet becomes parts, which have a folder of their own."""
    return style.max_rows_per_file is not None or source_connections > 1


def is_in_parts(attempt: Attempt) -> bool:
    """Return whether a recorded attempt's data files are parts."""
    return any(str(file["path"]).startswith(f"{attempt.facts['stem']}-0001.") for file in attempt.files)


def source_connections(delivery: Delivery, streams: int, recorded: Attempt | None = None) -> int:
    """Return how many connections read the source at the same time. `streams` is the number in the catalog, for what reads all rows.

    It may have changed since an attempt was recorded. Whether there are parts is then decided.
    """
    wanted = streams if delivery.reads_all else 1
    if recorded is None:
        return wanted
    return max(wanted, 2) if is_in_parts(recorded) else 1


@dataclass(frozen=True)
class Extracted:
    """The result of a reading: the window's true end, positions, columns, files, and digests that a later look back must not repeat."""

    end: datetime
    position_from: Position | None
    position_to: Position | None
    snapshot_time: datetime
    columns: dict[str, Column]
    schema_version: int
    files: list[WrittenFile]
    digests: list[bytes]
    digests_from: datetime | None
    note: str
    may_repeat: bool
    key_changes: FoundKeys | Repeated | None = None
    """The keys that were delivered, and the keys that are gone. None if the entity does not compare keys."""
    source_rows: int | None = None
    natives: Mapping[str, Native] = field(default_factory=dict)
    """The source's own type of each column."""
    exact: bool = True
    """True if no row lies outside the window, except rows that were committed late."""
    range_column: str = ""
    """The source column that a backfill's range refers to."""
    facts: Facts | None = None
    """The facts for the manifest, if the entity as it is catalogued now would give others."""


Known = Callable[[], Container[bytes]]
"""Reads the digests of the versions that the last delivery held."""

Read = Callable[[DeliveryJob, Source, Callable[[int], Sink], Known, Callable[[int], None]], Extracted]
"""A function that produces the bytes of a delivery: `extract`, or one that repeats bytes delivered before."""
