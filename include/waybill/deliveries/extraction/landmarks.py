"""Finds out that a source gives ids out again, which `append` by id does not see: it looks for rows above the last id.

A table may be emptied, count from 1 again (TRUNCATE ... RESTART IDENTITY, AUTO_INCREMENT, a sequence that is set back), and pass the last
delivered id before the next delivery. So a stream keeps landmarks: a few delivered rows, spread over the ids, by their digests. If their
ids are taken and none of these rows is what it was, the rows below the last id are others now.

Rows that are gone show nothing, because old rows are cleared away while ids go on. One row that is as it was shows that ids were not given
out again. So a row that an application still works on after its delivery is no sign either, unless all the landmarks are such rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waybill.configuration.selection import ChangeSpan, Selection
from waybill.configuration.values.columns import sources
from waybill.configuration.values.conditions import Condition
from waybill.deliveries.extraction.columns import from_json
from waybill.deliveries.generations import NewGenerationNeeded
from waybill.ledger.facts import Landmarks
from waybill.ledger.streams import Stream
from waybill.sources import Snapshot
from waybill.sources.query import counts_by_tenant

_MOST = 8


def checked(stream: Stream, snapshot: Snapshot, selection: Selection) -> Landmarks | None:
    """Return the landmarks that the next delivery looks at, or None if the span of the selection is not one of ids.

    Raises NewGenerationNeeded if ids were given out again since the last delivery.
    """
    start, end = selection.changed.start, selection.changed.end
    if not isinstance(end, int):
        return None
    before = (stream.position or {}).get("landmarks")
    if start is None or before is None:
        return _chosen(snapshot, selection, end if start is None else start)
    columns = from_json(stream.columns or [])
    if set(sources(columns)) <= snapshot.columns(selection.entity).keys():  # a digest covers the columns that the row was delivered with
        _require_known(snapshot, replace(selection, columns=columns), before)
    now = _digests(snapshot, selection, before["ids"])
    if 2 * len(now) < len(before["ids"]) or not now:
        return _chosen(snapshot, selection, start)
    return {"ids": before["ids"], "digests": now}


def _require_known(snapshot: Snapshot, selection: Selection, before: Landmarks) -> None:
    known, ids = set(before["digests"]), before["ids"]
    if not known or known.intersection(_digests(snapshot, selection, ids)):
        return
    entity = selection.entity
    if snapshot.count(_among(selection, ids)) if counts_by_tenant(entity) else snapshot.has_ids(entity, ids):
        raise NewGenerationNeeded(f"{entity.changes.column} gives ids out again: the rows that were delivered by them are others now")


def _chosen(snapshot: Snapshot, selection: Selection, end: int) -> Landmarks:
    """Return rows before `end`, spread over the ids."""
    ids: dict[int, None] = {}
    place: int | None = None
    for number in range(1, _MOST + 1):
        found = snapshot.least_id(replace(selection, changed=ChangeSpan(place, end)))
        if found is None:
            break
        ids[found] = None
        least = next(iter(ids))
        place = max(found + 1, least + (end - least) * number // _MOST)
    return {"ids": list(ids), "digests": _digests(snapshot, selection, list(ids))}


def _digests(snapshot: Snapshot, selection: Selection, ids: Sequence[int]) -> list[str]:
    """Return the digests of the tenant's rows with these ids."""
    if not ids:
        return []
    return sorted(digest.hex() for batch in snapshot.digests(_among(selection, ids)) for digest in batch)


def _among(selection: Selection, ids: Sequence[int]) -> Selection:
    among = Condition(column=selection.entity.changes.column, op="in", value=tuple(ids))
    return replace(selection, changed=ChangeSpan(), where=(*selection.where, among), in_key_order=False)
