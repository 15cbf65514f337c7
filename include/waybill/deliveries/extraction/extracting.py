"""EXTRACT: one snapshot of the source becomes the spool files of one attempt, and the facts that the ledger records about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any, cast

from waybill.configuration.catalog import Mode
from waybill.configuration.selection import ChangeSpan, Extent, Selection, first_day
from waybill.deliveries.extraction import landmarks
from waybill.deliveries.extraction.columns import altered, arranged
from waybill.deliveries.extraction.encrypting import encrypting
from waybill.deliveries.extraction.other_formats import other_format
from waybill.deliveries.extraction.row_versions import Remembered, changes_by_date, earliest, is_imported, to_remember, unrepeated
from waybill.deliveries.generations import NewGenerationNeeded
from waybill.deliveries.job import DeliveryJob, Extracted, Known
from waybill.deliveries.key_changes.changes import FoundKeys, with_key_changes
from waybill.errors import PermanentError, TransientError
from waybill.files.source_types import Native, natives_of
from waybill.formats.csv import WrittenFile, write_csv, write_side_by_side
from waybill.language import tell
from waybill.ledger.facts import Position
from waybill.registrations import filling, redefining
from waybill.sink import Sink
from waybill.sources import Snapshot, Source
from waybill.sources.definitions import NOTHING, Definition, is_renamed, source_change, took_over
from waybill.sources.drift import nobodys
from waybill.states import Purpose

_REPEATED = "The ledger was restored: rows changed shortly before this window are delivered again"


def extract(job: DeliveryJob, source: Source, new_file: Callable[[int], Sink], known: Known, progress: Callable[[int], None]) -> Extracted:
    """Read the delivery's window in one snapshot. `known` gives the digests of versions already delivered.

    Raises TransientError when the source is out of reach, its clock has not passed the boundary, or a transaction holds the window back;
    PermanentError when the source's shape no longer fits the catalog; NewGenerationNeeded.
    """
    columns, version = arranged(job.stream.columns, job.stream.schema_version, job.entity.columns)
    if job.delivery.purpose == Purpose.SCHEDULE and (why := filling.needs_full_load(job.stream, job.entity)):
        raise NewGenerationNeeded(why)
    with source.snapshot([job.entity]) as snapshot:
        extent = _extent(job, snapshot)
        selection = Selection(job.entity, job.source_tenant, columns, _changed(extent), job.salt, where=job.conditions)
        selection = _window_of(job, snapshot, selection)
        repeats, remembered = False, Remembered([])
        snapshot.check(selection)
        natives = natives_of(snapshot, job.entity)
        found = _checked_definition(job, snapshot, selection) | _places(job, snapshot, selection, extent)
        if job.delivery.purpose == Purpose.SCHEDULE:
            selection, repeats = unrepeated(job.stream, snapshot, selection, known)
        selection, keys = _with_keys(job, snapshot, selection)
        files = _written(job, snapshot, selection, new_file, progress)
        if job.delivery.purpose == Purpose.SCHEDULE:
            remembered = to_remember(job.stream, snapshot, selection, extent, known)
        start, position = _positions(job, extent, remembered, found)
        notes = extent.short, extent.remarks, _repeated(job, repeats), _new_columns(job), _came_back(keys), _without_rows(selection, files)
        return Extracted(
            end=extent.end,
            position_from=start,
            position_to=position,
            snapshot_time=snapshot.taken_at,
            columns=columns,
            schema_version=_schema_version(job, version, natives),
            files=files,
            digests=remembered.blobs,
            digests_from=remembered.digests_from,
            note="; ".join(note for note in notes if note),
            may_repeat=repeats,
            key_changes=keys,
            source_rows=_source_rows(selection, snapshot, keys),
            natives=natives,
            exact=_is_exact(job, selection),
            range_column=job.entity.time_column if selection.time_to else job.entity.changes.column,
        )


def _window_of(job: DeliveryJob, snapshot: Snapshot, selection: Selection) -> Selection:
    if job.delivery.purpose != Purpose.BACKFILL:
        return selection
    return within(snapshot, selection, job.delivery.window_from, job.delivery.planned_to, job.zone)


def _schema_version(job: DeliveryJob, catalogued: int, natives: Mapping[str, Native]) -> int:
    """Return the version by the catalog, or the next one if only the source holds the columns otherwise."""
    was = job.stream.schema_version
    return was + 1 if catalogued == was and altered(job.stream.columns, natives) else catalogued


def _changed(extent: Extent) -> ChangeSpan:
    """Return the span to read. A full delivery reads every visible row, also rows past the window's end."""
    return ChangeSpan() if extent.changed.start is None else extent.changed


def _written(
    job: DeliveryJob, snapshot: Snapshot, selection: Selection, new_file: Callable[[int], Sink], progress: Callable[[int], None]
) -> list[WrittenFile]:
    columns, style = selection.columns, job.file_style
    front = other_format(style, selection, snapshot.binding(job.entity)) if style.format != "csv" else None
    with encrypting(job.recipient, new_file) as sinks:
        if job.source_connections < 2:
            return sinks.measured(write_csv(snapshot.csv(selection, style.records), columns, style, sinks.new_file, progress, front))
        with snapshot.slices(selection, job.source_connections) as slices:
            readers = [(one.csv(style.records), one.stop) for one in slices]
            return sinks.measured(write_side_by_side(readers, columns, style, sinks.new_file, progress, front))


def _repeated(job: DeliveryJob, repeats: bool) -> str:
    return _REPEATED if repeats and is_imported(job.stream) else ""


def _new_columns(job: DeliveryJob) -> str:
    return filling.kept_empty(filling.new_columns(job.stream, job.entity)) if job.delivery.purpose == Purpose.SCHEDULE else ""


def _came_back(keys: FoundKeys | None) -> str:
    """Return a note on rows that no change position tells of: whoever knows the source finds out what changes them."""
    return tell("compared.back", keys.back) if keys and keys.back else ""


def _without_rows(selection: Selection, files: list[WrittenFile]) -> str:
    """Return a note for a full load that found nothing: consumers cannot tell a tenant without rows from a misspelt one."""
    ends = selection.changed.start, selection.changed.end, selection.time_from, selection.time_to
    is_whole = all(end is None for end in ends) and not selection.where
    return nobodys(selection.tenant) if is_whole and not any(file.rows for file in files) else ""


def _with_keys(job: DeliveryJob, snapshot: Snapshot, selection: Selection) -> tuple[Selection, FoundKeys | None]:
    """Return the selection with rows that came back added, and what the delivery reports about keys.

    Raises NewGenerationNeeded if the ledger does not know which keys were delivered.
    """
    if job.key_store is None:
        return selection, None
    return with_key_changes(job.key_store, job.delivery, job.stream, job.entity, snapshot, selection)


def _source_rows(selection: Selection, snapshot: Snapshot, keys: FoundKeys | None) -> int | None:
    """Return how many rows of the entity the tenant has in the snapshot. None if counting would cost a scan that nobody asked for."""
    if keys is not None and keys.rows is not None:
        return keys.rows
    if not (snapshot.counts_cheaply or selection.entity.source_rows):
        return None
    return snapshot.count(replace(selection, changed=ChangeSpan(), time_from=None, time_to=None))


def _is_exact(job: DeliveryJob, selection: Selection) -> bool:
    by_time = isinstance(selection.changed.start, datetime) and selection.changed.ahead is None
    return by_time or job.delivery.purpose == Purpose.BACKFILL


def _heaps(job: DeliveryJob, snapshot: Snapshot, selection: Selection) -> Position:
    """Return the tables that store the rows now, in the form that the position keeps.

    Raises NewGenerationNeeded if one of them holds rows that the last delivery could not see.
    """
    before, changed = (job.stream.position or {}).get("heaps"), selection.changed
    if job.delivery.purpose == Purpose.SCHEDULE and before is not None and changed.start is not None:
        start = earliest(selection.entity, changed, snapshot.columns(selection.entity))
        if lost := snapshot.passed_over(selection, start, before):
            raise NewGenerationNeeded(lost)
    heaps = snapshot.heaps(selection.entity)
    return {"heaps": heaps} if heaps else {}


def _places(job: DeliveryJob, snapshot: Snapshot, selection: Selection, extent: Extent) -> Position:
    """Return where the rows are, so that the next delivery finds out whether others took their places. Raises NewGenerationNeeded."""
    return _heaps(job, snapshot, selection) | _landmarks(job, snapshot, selection, extent)


def _landmarks(job: DeliveryJob, snapshot: Snapshot, selection: Selection, extent: Extent) -> Position:
    """Return the rows that show whether ids are given out again, in the form that the position keeps.

    Raises NewGenerationNeeded if they were since the last delivery.
    """
    if job.delivery.purpose != Purpose.SCHEDULE:
        return {}
    found = landmarks.checked(job.stream, snapshot, replace(selection, changed=extent.changed))
    return {"landmarks": found} if found else {}


def _checked_definition(job: DeliveryJob, snapshot: Snapshot, selection: Selection) -> Position:
    """Return what gives the rows their values, in the form that the position keeps.

    Raises NewGenerationNeeded if unchanged rows now have other values than those that were delivered.
    """
    entity, position = job.entity, job.stream.position or {}
    if job.delivery.purpose != Purpose.SCHEDULE or entity.changes.mode is Mode.FULL:
        return {}
    before = cast(Definition, position.get("definition") or NOTHING)
    now = snapshot.definition(selection)
    why = redefining.catalog_change(job.stream, entity, lambda old, new: is_renamed(before, now, old, new))
    why = why or redefining.renamed(job.stream, entity, lambda old, new: took_over(before, now, old, new))
    if not why and "definition" in position:
        why = source_change(before, now)
    if why:
        raise NewGenerationNeeded(f"{why}: every row is delivered again")
    if timeline := now.get("timeline") or before.get("timeline"):
        now["timeline"] = timeline  # a standby in between knows none
    return {"definition": now, "reading": redefining.reading(entity)}


def _positions(job: DeliveryJob, extent: Extent, remembered: Remembered, found: Position) -> tuple[Position | None, Position | None]:
    """Return where the extraction began and ended, in the form that the stream keeps. A backfill moves no stream and has neither."""
    if job.delivery.purpose == Purpose.BACKFILL:
        return None, None
    changes = job.entity.changes
    reached: Position = {"mode": changes.mode.value, "column": changes.column, "at": extent.position}
    return job.stream.position, reached | remembered.position() | found


def _extent(job: DeliveryJob, snapshot: Snapshot) -> Extent:
    delivery = job.delivery
    if snapshot.taken_at < delivery.planned_to:
        raise TransientError(
            f"the source's clock reads {snapshot.taken_at.isoformat()}, before the window's end {delivery.planned_to.isoformat()}",
            next_step="Check the clocks, or run again later; a standby that lags shows the time it has replayed up to",
            code="source_clock",
        )
    if delivery.purpose == Purpose.BACKFILL:
        return Extent(delivery.planned_to, ChangeSpan())
    extent = snapshot.extent(job.entity, job.source_tenant, _position(job), delivery.planned_to)
    if extent.lost:
        raise NewGenerationNeeded(extent.lost)
    if delivery.window_from is not None and extent.end <= delivery.window_from:
        raise TransientError(
            extent.short or "nothing can be read safely yet",
            next_step="It is delivered by the next run after that; nothing is lost",
            code="held_back",
        )
    return extent


def within(snapshot: Snapshot, selection: Selection, start: datetime | None, end: datetime, zone: tzinfo) -> Selection:
    """Return the selection of a backfill: rows with a change time in `[start, end)`, dates as days of `zone`.

    If the snapshot says that the change position is no time, the time column decides. Raises PermanentError if the entity has neither.
    """
    entity = selection.entity
    if snapshot.changes_by_time(selection):
        if changes_by_date(entity, snapshot.columns(entity)):
            start, end = start and first_day(start, zone), first_day(end, zone)
        return replace(selection, changed=ChangeSpan(start, end))
    if entity.time_column:
        return replace(selection, changed=ChangeSpan(), time_from=start, time_to=end, zone=zone)
    raise PermanentError(
        tell("call.no_times", mode=entity.changes.mode),
        where=entity.id,
        next_step=tell("call.no_times_step", entity=entity.id),
        code="no_change_time",
    )


def _position(job: DeliveryJob) -> Any:
    """Return where the last extraction ended, in the source's own terms.

    Raises NewGenerationNeeded if the catalog now finds the entity's changes in another way.
    """
    position = job.stream.position
    if position is None:
        return None
    mode, column = position["mode"], position["column"]
    changes = job.entity.changes
    if (mode, column) != (changes.mode.value, changes.column):
        raise NewGenerationNeeded(
            f"changes are now found by {changes.mode} on {changes.column or 'no column'}, before by {mode} on {column or 'no column'}"
        )
    return position["at"]
