"""EXTRACT: one snapshot of the source becomes the spool files of one attempt, and the facts that are recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Column, Entity, Mode
from waybill.configuration.conditions import Condition
from waybill.configuration.selection import Changed, Dialect, Extent, Selection
from waybill.deliveries import deletes
from waybill.deliveries.deletes import Found, Keys, KeysLost, Repeated
from waybill.errors import PermanentError, TransientError
from waybill.files.natives import Native, natives
from waybill.formats.csv import Sink, Written, write_csv
from waybill.ledger.deliveries import Delivery
from waybill.ledger.streams import Stream
from waybill.registrations import filling
from waybill.registrations.filling import FILLED_FROM
from waybill.sources import Snapshot, Source

_BLOB = 4096 * 16
_REPEATED = "The ledger was restored: rows changed shortly before this window are delivered again"


@dataclass(frozen=True)
class Task:
    """One delivery with everything it is made from. `dialect` is that of the registration version the delivery was planned under."""

    delivery: Delivery
    stream: Stream
    entity: Entity
    dialect: Dialect
    salt: bytes
    produced_by: str
    source_tenant: str
    """The tenant's id in the data."""
    conditions: tuple[Condition, ...] = ()
    """What else the registration asks of a row."""
    keys: Keys | None = None
    """Where the stream's delivered keys are kept, for an entity that compares them."""

    @property
    def where(self) -> str:
        return f"tenant {self.delivery.tenant}, entity {self.delivery.entity}, delivery {self.delivery.id}"


@dataclass(frozen=True)
class Extracted:
    """What was read: the window's true end, positions, columns, files, and the digests of versions a late look back must not repeat."""

    end: datetime
    position_from: Any
    position_to: Any
    snapshot_time: datetime
    columns: dict[str, Column]
    schema_version: int
    files: list[Written]
    digests: list[bytes]
    digests_from: datetime | None
    note: str
    may_repeat: bool
    keys: Found | Repeated | None = None
    """What became of keys: those delivered, and those that are gone."""
    source_rows: int | None = None
    natives: Mapping[str, Native] = field(default_factory=dict)
    """What the source tells of each column."""
    facts: dict[str, Any] | None = None
    """What the manifest is to say when that is not told by the entity as it is catalogued now."""


Read = Callable[[Task, Source, Callable[[int], Sink], Callable[[], set[bytes]], Callable[[int], None]], Extracted]
"""How a delivery's bytes come about: `extract`, or something that repeats bytes delivered before."""


class PositionLost(TransientError):
    """The source can no longer tell what changed since the last delivery (a failover): a new generation must start."""

    code = "position_lost"


def extract(
    task: Task, source: Source, new_file: Callable[[int], Sink], known: Callable[[], set[bytes]], progress: Callable[[int], None]
) -> Extracted:
    """Read the delivery's window in one snapshot. `known` gives the digests of versions already delivered.

    Raises TransientError when the source is out of reach, its clock has not passed the boundary, or a transaction holds the window back;
    PermanentError when the source's shape no longer fits the catalog; PositionLost.
    """
    columns, version = arranged(task.stream.columns, task.stream.schema_version, task.entity.columns)
    if task.delivery.purpose == "schedule" and (why := filling.needs_full_load(task.stream, task.entity)):
        raise PositionLost(why)
    with source.snapshot([task.entity]) as snapshot:
        extent = _extent(task, snapshot)
        selection = Selection(task.entity, task.source_tenant, columns, extent.changed, task.salt, where=task.conditions)
        if task.delivery.purpose == "backfill":
            selection = within(selection, task.delivery.window_from, task.delivery.planned_to)
        snapshot.check(selection)
        selection, repeats = _with_late_rows(task, snapshot, selection, known)
        selection, keys = _with_keys(task, snapshot, selection)
        files = write_csv(snapshot.csv(selection, task.dialect), columns, task.dialect, new_file, progress)
        looks_back = task.delivery.purpose == "schedule" and _looks_back(task.entity, extent)
        since = extent.end - task.entity.changes.lookback if looks_back else None
        recent = replace(selection, changed=Changed(start=since, end=extent.end))
        digests = _blobs(snapshot.digests(recent)) if looks_back else []
        start, position = _positions(task, extent)
        notes = extent.short, _REPEATED if repeats and _is_imported(task.stream) else "", _new_columns(task)
        note = "; ".join(one for one in notes if one)
        return Extracted(
            extent.end,
            start,
            position,
            snapshot.taken_at,
            columns,
            version,
            files,
            digests,
            since,
            note,
            repeats,
            keys,
            _source_rows(selection, snapshot, keys),
            natives(snapshot, task.entity),
        )


def _new_columns(task: Task) -> str:
    return filling.told(filling.new_columns(task.stream, task.entity)) if task.delivery.purpose == "schedule" else ""


def _with_keys(task: Task, snapshot: Snapshot, selection: Selection) -> tuple[Selection, Found | None]:
    """The selection with rows that came back, and what the delivery tells of keys.

    Raises PositionLost when it is not known which keys were delivered.
    """
    if task.keys is None:
        return selection, None
    try:
        return deletes.look(task.keys, task.delivery, task.stream, task.entity, snapshot, selection)
    except KeysLost as lost:
        raise PositionLost(lost.reason) from lost


def _source_rows(selection: Selection, snapshot: Snapshot, keys: Found | None) -> int | None:
    """The tenant's rows of the entity in the snapshot, where counting them costs next to nothing or is asked for."""
    if keys is not None and keys.rows is not None:
        return keys.rows
    if not (snapshot.counts_cheaply or selection.entity.source_rows):
        return None
    return snapshot.count(replace(selection, changed=Changed(), time_from=None, time_to=None))


def _positions(task: Task, extent: Extent) -> tuple[Any, Any]:
    """Where the extraction began and ended, as the stream keeps it; a backfill moves no stream."""
    if task.delivery.purpose == "backfill":
        return None, None
    changes = task.entity.changes
    return task.stream.position, {"mode": changes.mode.value, "column": changes.column, "at": extent.position}


def _extent(task: Task, snapshot: Snapshot) -> Extent:
    delivery = task.delivery
    if snapshot.taken_at < delivery.planned_to:
        raise TransientError(
            f"the source's clock reads {snapshot.taken_at.isoformat()}, before the window's end {delivery.planned_to.isoformat()}",
            next_step="Check the clocks, or run again later",
            code="source_clock",
        )
    if delivery.purpose == "backfill":
        return Extent(delivery.planned_to, Changed())
    extent = snapshot.extent(task.entity, task.source_tenant, _position(task), delivery.planned_to)
    if extent.lost:
        raise PositionLost(extent.lost)
    if delivery.window_from is not None and extent.end <= delivery.window_from:
        raise TransientError(
            extent.short or "nothing can be read safely yet",
            next_step="It is delivered by the next run after that; nothing is lost",
            code="held_back",
        )
    return extent


def within(selection: Selection, start: datetime | None, end: datetime) -> Selection:
    """The rows of a backfill: those whose change position lies in `[start, end)`, or whose time column does where that position is no time.

    Raises PermanentError when the entity has neither.
    """
    entity = selection.entity
    if changes_by_time(entity):
        return replace(selection, changed=Changed(start, end))
    if entity.time_column:
        return replace(selection, changed=Changed(), time_from=start, time_to=end)
    raise PermanentError(
        f"mode {entity.changes.mode} knows no times, and no time_column says which rows belong to a range",
        where=entity.id,
        next_step=f"Set entities.{entity.id}.time_column in the catalog, or start over with a full load",
        code="no_change_time",
    )


def range_column(entity: Entity) -> str:
    """The column that the range of a backfill is about."""
    return entity.changes.column if changes_by_time(entity) else entity.time_column


def changes_by_time(entity: Entity) -> bool:
    """Whether the entity's change position is a time, as far as the catalog tells."""
    if entity.changes.mode is Mode.APPEND:
        column = entity.columns.get(entity.changes.column)
        return column.type in (ColumnType.TIMESTAMP, ColumnType.DATE) if column else not entity.time_column
    return entity.changes.mode in (Mode.LOOKBACK, Mode.HORIZON)


def _position(task: Task) -> Any:
    """Where the last delivery's extraction ended, in the source's own terms. Raises PositionLost when the entity's changes are found
    another way now.
    """
    if task.stream.position is None:
        return None
    mode, column, at = (task.stream.position[key] for key in ("mode", "column", "at"))
    changes = task.entity.changes
    if (mode, column) != (changes.mode.value, changes.column):
        raise PositionLost(
            f"changes are now found by {changes.mode} on {changes.column or 'no column'}, before by {mode} on {column or 'no column'}"
        )
    return at


def _looks_back(entity: Entity, extent: Extent) -> bool:
    """Digests are needed where the change position is a time that late commits can undercut."""
    by_time = entity.changes.mode is Mode.LOOKBACK or (entity.changes.mode is Mode.APPEND and isinstance(extent.changed.end, datetime))
    return by_time and bool(entity.changes.lookback)


def _with_late_rows(task: Task, snapshot: Snapshot, selection: Selection, known: Callable[[], set[bytes]]) -> tuple[Selection, bool]:
    """Add the rows that were committed late: those before the watermark, within the look back, whose version was never delivered."""
    changed, stream = selection.changed, task.stream
    if _is_imported(stream) and task.delivery.purpose == "schedule" and _looks_back(task.entity, Extent(changed.end, changed)):
        return replace(selection, changed=Changed(changed.start - task.entity.changes.lookback, changed.end)), True
    if task.delivery.purpose != "schedule" or stream.digests_from is None or not isinstance(changed.start, datetime):
        return selection, False
    overlap = max(changed.start - task.entity.changes.lookback, stream.digests_from)
    if overlap >= changed.start:
        return selection, False
    delivered_columns = from_json(stream.columns or [])
    repeats = not delivered_columns.keys() <= snapshot.columns(task.entity).keys()
    columns = selection.columns if repeats else delivered_columns  # versions are told apart by the columns they were delivered with
    look = replace(selection, columns=columns, changed=Changed(overlap, changed.start))
    delivered = known()
    late = tuple(digest for batch in snapshot.digests(look) for digest in batch if digest not in delivered)
    return replace(selection, changed=replace(changed, overlap=overlap, late=late, late_columns=columns)), repeats


def _is_imported(stream: Stream) -> bool:
    """Whether the last delivery came back from its manifest, which does not tell the versions it held (`service.reconcile`)."""
    return bool(stream.position and stream.position.get("imported"))


def _blobs(batches: Iterable[list[bytes]]) -> list[bytes]:
    blobs, pending = [], bytearray()
    for batch in batches:
        pending += b"".join(batch)
        while len(pending) >= _BLOB:
            blobs.append(bytes(pending[:_BLOB]))
            del pending[:_BLOB]
    return [*blobs, bytes(pending)] if pending else blobs


def as_json(columns: Mapping[str, Column], filled_from: Mapping[str, int]) -> list[dict[str, Any]]:
    """Columns in file order, as the ledger keeps them."""
    found: list[dict[str, Any]] = []
    for name, column in columns.items():
        found.append({"name": name, "type": column.type.value, "description": column.description, "export": column.export})
        if name in filled_from:
            found[-1][FILLED_FROM] = filled_from[name]
    return found


def from_json(columns: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    return {one["name"]: Column(type=one["type"], description=one["description"], export=one["export"]) for one in columns}


def arranged(
    delivered: Sequence[Mapping[str, Any]] | None, version: int, catalogued: Mapping[str, Column]
) -> tuple[dict[str, Column], int]:
    """The columns of the next file and its schema version.

    Columns of the last file come first, in its order; columns catalogued since are appended in catalog order. The version is raised by one
    when a name,
    a type or the anonymization of a column differs from the last file; a changed description raises nothing.
    """
    if delivered is None:
        return dict(catalogued), version
    kept = [one["name"] for one in delivered if one["name"] in catalogued]
    columns = {name: catalogued[name] for name in [*kept, *(name for name in catalogued if name not in kept)]}
    before = [(one["name"], one["type"], one["export"]) for one in delivered]
    return columns, version + (before != [(name, column.type.value, column.export) for name, column in columns.items()])
