"""Estimates the size of a full load: rows are counted at the source, bytes come from earlier files of the same entity."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from time import monotonic

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity
from waybill.configuration.registration import Registration
from waybill.configuration.selection import Selection
from waybill.errors import UNEXPECTED, WaybillError, counted
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import deliveries
from waybill.sources import Snapshot, drift

PATIENCE = 10.0
"""The seconds that a look may take. A count that is not ready by then stays unknown."""
PATIENCE_OF_A_TERMINAL = 120.0
"""The same, where nobody waits for a page."""

SAMPLES = 5
"""As many streams are looked at for what a row of an entity weighs."""

log = logging.getLogger(__name__)
_COUNTERS = ThreadPoolExecutor(2, thread_name_prefix="estimate")

_WIDTHS = {
    ColumnType.STRING: 18,
    ColumnType.INTEGER: 6,
    ColumnType.DECIMAL: 8,
    ColumnType.FLOAT: 12,
    ColumnType.BOOLEAN: 5,
    ColumnType.DATE: 10,
    ColumnType.TIMESTAMP: 27,
    ColumnType.UUID: 36,
    ColumnType.JSON: 80,
    ColumnType.BINARY: 64,
}


@dataclass(frozen=True)
class Estimate:
    """One entity's full load, uncompressed. None if it is unknown after `PATIENCE`. `note` then says why.

    Beside a number `note` says what may keep the connection from seeing every row, or that no row is the tenant's.
    """

    entity: str
    rows: int | None = None
    bytes: int | None = None
    note: str = ""


def estimate(
    installation: Installation, tenant: str, registration: Registration, entities: Collection[str], patience: float = PATIENCE
) -> list[Estimate]:
    """Return what the first full loads of these entities would hold now. It never raises for a source that is away."""
    catalogued = [entity for name in entities if (entity := installation.catalog.entity(name))]
    found = {entity.id: Estimate(entity.id, note=tell("call.slow_count")) for entity in catalogued}
    by_source: dict[str, list[Entity]] = {}
    for entity in catalogued:
        by_source.setdefault(entity.source, []).append(entity)
    running: list[Snapshot] = []
    counting = [  # each in the words of whoever asks
        _COUNTERS.submit(copy_context().run, _count, installation, tenant, registration, source, asked, found, running)
        for source, asked in by_source.items()
    ]
    _, late = wait(counting, timeout=patience)
    counted_in_time = [found[entity.id] for entity in catalogued]
    for future in late:
        future.cancel()
    for snapshot in list(running):  # nobody waits for it any more, and a process would not end before it
        snapshot.interrupt()
    return counted_in_time


def size_of(installation: Installation, wanted: Mapping[str, Collection[str]], patience: float) -> str:
    """Return the size of the first full loads of tenants with a file, in words.

    The text is empty if there are none. It takes at most `patience` in all.
    """
    files, until = installation.configuration.tenants, monotonic() + patience
    found = [
        size
        for tenant, entities in wanted.items()
        for size in estimate(installation, tenant, files[tenant].registration, entities, max(0.0, until - monotonic()))
    ]
    if not found:
        return ""
    known = [estimate for estimate in found if estimate.rows is not None]
    rows, size = sum(estimate.rows or 0 for estimate in known), sum(estimate.bytes or 0 for estimate in known)
    sizes = "; ".join(
        [
            f"about {counted(rows, 'row')}, {counted(size, 'byte')} uncompressed",
            *dict.fromkeys(f"{estimate.entity}: {estimate.note}" for estimate in known if estimate.note),
        ]
    )
    uncounted = Counter(estimate.note for estimate in found if estimate.rows is None)
    return "; ".join([sizes, *(f"{counted(number, 'entity')} not counted: {why}" for why, number in uncounted.items())])


def _count(
    installation: Installation,
    tenant: str,
    registration: Registration,
    source: str,
    asked: list[Entity],
    found: dict[str, Estimate],
    running: list[Snapshot],
) -> None:
    try:
        with installation.source(source).snapshot(asked) as snapshot, _listed(running, snapshot):
            for entity in asked:
                source_tenant, where = registration.reads(tenant, entity)
                seen = registration.sees(entity)
                rows = snapshot.count(Selection(seen, source_tenant, seen.columns, where=where))
                notes = snapshot.narrowed(entity), "" if rows or where else drift.nobodys(source_tenant)
                size = round(rows * _width(installation, tenant, seen))
                found[entity.id] = Estimate(entity.id, rows, size, "; ".join(filter(None, notes)))
    except Exception as error:  # nobody asks for what a thread of the pool raises
        code = error.code if isinstance(error, WaybillError) else UNEXPECTED
        if code == UNEXPECTED:
            log.exception("the rows of %s were not counted", source)
        # A preview must not fail because a source does. The delivery reports the error in full.
        for entity in asked:
            if found[entity.id].rows is None:
                found[entity.id] = Estimate(entity.id, note=tell("call.no_count", code=code))


@contextmanager
def _listed(running: list[Snapshot], snapshot: Snapshot) -> Iterator[None]:
    running.append(snapshot)
    try:
        yield
    finally:
        running.remove(snapshot)


def _width(installation: Installation, tenant: str, entity: Entity) -> float:
    """Return the bytes of one record.

    They are measured on the entity's latest files, this tenant's first, or else guessed from the types.
    """
    with installation.ledger.read() as connection:
        for whose in (tenant, None):
            latest = deliveries.latest_of_entity(connection, entity.id, whose, SAMPLES)
            attempts = [attempt for attempt in latest if attempt.rows and attempt.facts["csv"]["compression"] == "none"]
            if attempts:
                return sum(attempt.bytes for attempt in attempts) / sum(attempt.rows for attempt in attempts)
    return sum(_WIDTHS[column.type] for column in entity.columns.values()) + len(entity.columns)
