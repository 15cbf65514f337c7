"""The fulfilment protocol: one export request becomes one archive, or a failed request, never half of either.

CLAIM     pending -> running, a conditional update; from here on a pulse tells the ledger that this attempt lives
EXTRACT   one snapshot per source, cut at the time the request was made; every format is written in one pass, files are closed and hashed
PACK      zip64 archive with manifest and README, under a hidden name, made durable
PUBLISH   rename into place under a name of this attempt, then running -> done: whoever loses that update removes its own archive
MAIL      the outbox was filled by the same update; sending is somebody else's work
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from waybill import private
from waybill.configuration.catalog import Entity
from waybill.configuration.policy import ExportPolicy
from waybill.configuration.registration import Registration
from waybill.configuration.selection import ChangeSpan, Selection
from waybill.destinations.archives import Archives, archive_name
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.formats import SUFFIXES, TYPED, open_writer
from waybill.formats.base import Writer, WriterOptions, Written, disk_errors, give_up
from waybill.language import tell
from waybill.ledger import Ledger
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportFile, ExportRequest, Failure
from waybill.requests.fulfilment import packing
from waybill.requests.fulfilment.heartbeat import AttemptLost, Heartbeat
from waybill.requests.fulfilment.packing import Part
from waybill.requests.lifecycle import FAILURES, failure, written_progress
from waybill.requests.submission import Scope
from waybill.sources import Snapshot, Source

RETRIES = (1.0, 5.0, 15.0)
"""Seconds to wait before the next try of a busy source."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportJob:
    """A claimed request with everything that its archive is made from. `salts` and `registrations` are by tenant."""

    request: ExportRequest
    export_policy: ExportPolicy
    entities: tuple[Entity, ...]
    salts: Mapping[str, bytes]
    registrations: Mapping[str, Registration]
    produced_by: str

    @property
    def zone(self) -> str:
        """Return the zone of the request's dates."""
        return self.registrations[self.request.tenant].zone.key

    @property
    def filters(self) -> dict[str, tuple[str, ...]]:
        """Return the scope as conditions on scope columns."""
        return Scope.model_validate(self.request.scope).filters()

    @property
    def where(self) -> str:
        return f"tenant {self.request.tenant}, export {self.request.id}"


@dataclass(frozen=True)
class Resources:
    """What a worker fulfils a request with. `mail` names the mail that success or failure owes, if any."""

    ledger: Ledger
    source: Callable[[str], Source]
    archives: Archives
    spool: Path
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    mail: Callable[[str], str | None]


def fulfil(job: ExportJob, resources: Resources) -> ExportRequest | None:
    """Carry a claimed request to `done` or `failed`. Returns None if it was cancelled, deleted or given up meanwhile. Then nothing is left
    of it.

    A WaybillError ends in `failed`, and the failed request is returned. Any other error is kept as `internal` and raised again.
    """
    request = job.request
    folder = resources.spool / f"{request.id}.{request.attempt}"
    name = archive_name(request.tenant, request.id, request.attempt)
    unfinished: Path | None = None
    pulse = Heartbeat(resources.ledger, request, job.export_policy.heartbeat, resources.now)
    try:
        unfinished = resources.archives.unfinished(name, folder)
        with pulse:
            parts, looks = _extract(job, resources, folder, pulse), job.export_policy.page
            size, sha256 = packing.pack(job.request, job.entities, parts, unfinished, pulse, job.produced_by, job.zone, looks.scope_labels)
            pulse.check()
            resources.archives.publish(unfinished, name)
        return _settle(job, resources, parts, name, size, sha256)
    except AttemptLost:
        log.warning("%s: %s Attempt %s stops here and leaves no archive.", job.where, _why_lost(resources, request), request.attempt)
        try:
            resources.archives.remove(name)
        except WaybillError as error:  # no request names it, so nobody is served from it, and other requests are waiting
            log.warning("%s: %s Housekeeping removes %s a day later.", job.where, error, name)
        return None
    except WaybillError as error:
        log.warning("%s: %s", job.where, error)
        return _fail(resources, request, failure_of(error))
    except BaseException:
        _fail(resources, request, failure("internal"))
        raise
    finally:
        if unfinished is not None:
            give_up(unfinished)
        shutil.rmtree(folder, ignore_errors=True)


def _why_lost(resources: Resources, request: ExportRequest) -> str:
    """Return what happened to a request while a worker had it, for the worker's log."""
    with resources.ledger.begin() as connection:
        now = requests.get(connection, request.id)
    if now is None:
        return tell("lost.deleted")
    return tell("lost.stalled") if now.error_code == "stalled" else tell("lost.ended", status=now.status)


def _settle(job: ExportJob, resources: Resources, parts: list[Part], name: str, size: int, sha256: str) -> ExportRequest | None:
    """Move the request from running to done. If the attempt is no longer the running one, its archive is removed."""
    request, now = job.request, resources.now()
    files = [ExportFile(p.tenant, p.entity.id, p.format, p.path, p.written.rows, p.written.bytes, p.written.sha256) for p in parts]
    values = {
        "rows": packing.total_rows(parts),
        "bytes": size,
        "sha256": sha256,
        "archive": name,
        "expires_at": now + job.export_policy.archive_life,
    }
    with resources.ledger.begin() as connection:
        done = requests.publish(connection, request, files, values, resources.mail("ready"), now)
        settled = requests.get(connection, request.id)
    if not done:
        raise AttemptLost
    return settled


def _fail(resources: Resources, request: ExportRequest, why: Failure) -> ExportRequest | None:
    with resources.ledger.begin() as connection:
        requests.fail(connection, request, why, resources.mail("failed"), resources.now())
        return requests.get(connection, request.id)


def failure_of(error: WaybillError) -> Failure:
    """Return what a person reads: what failed and what to do, with a code of requests.

    The source's own message may name hosts, logins and tables, which a tenant must not see. Only the log holds it.
    """
    if error.code in FAILURES:
        return failure(error.code)  # the error's own next step is for whoever runs the house
    if error.code == "row_limit_format":
        what = f"{error.where}: {error.what}" if error.where else error.what
        return Failure("row_limit_format", what, error.next_step or tell("failures.row_limit_format_advice"))
    if error.code.startswith(("storage", "spool", "ledger")):
        return failure("internal", "_storage")
    return failure("source_unavailable", "_busy" if isinstance(error, TransientError) else "")


def _extract(job: ExportJob, resources: Resources, folder: Path, pulse: Heartbeat) -> list[Part]:
    """Return all files of the archive. A busy source is tried a few times before the request fails."""
    for wait in (*RETRIES, None):
        shutil.rmtree(folder, ignore_errors=True)
        with disk_errors(folder):
            private.make_folder(folder)
        try:
            return _extract_once(job, resources, folder, pulse)
        except TransientError as error:
            if wait is None or error.code.startswith(("storage", "ledger")):
                raise
            pulse.check()
            resources.sleep(wait)
    raise AssertionError  # the last wait is None


def _extract_once(job: ExportJob, resources: Resources, folder: Path, pulse: Heartbeat) -> list[Part]:
    parts: list[Part] = []
    by_source: dict[str, list[Entity]] = {}
    for entity in job.entities:
        by_source.setdefault(entity.source, []).append(entity)
    shares = len(by_source)
    for number, (name, entities) in enumerate(by_source.items()):
        with resources.source(name).snapshot(entities) as snapshot:
            chosen = [
                (tenant, entity, selection(job, tenant, entity, snapshot))
                for tenant in job.request.tenants
                for entity in entities
                if entity.is_offered(tenant)
            ]
            expected = 0
            for _, _, wanted in chosen:
                snapshot.check(wanted)
                expected += snapshot.count(wanted)
                pulse.check()
            seen = 0
            for tenant, _, wanted in chosen:
                before = seen
                for found in _write(job, snapshot, wanted, folder, tenant):
                    if isinstance(found, int):
                        seen = before + found
                        pulse.tell((number * 90 + written_progress(seen, expected)) // shares)
                    else:
                        parts.append(found)
    order = {entity.id: number for number, entity in enumerate(job.entities)}
    return sorted(parts, key=lambda part: (part.tenant, order[part.entity.id]))


def selection(job: ExportJob, tenant: str, entity: Entity, snapshot: Snapshot) -> Selection:
    """Return a tenant's live rows of an entity within the request's scope and range, as of the time of the request.

    If the change column is a time, it makes the cut: a row that changed later is left out, because its earlier version is gone. Otherwise
    the entity's own time column makes the cut, and an entity with neither is read as it is. Rows ahead of the source's clock and rows
    without a time were not added later, so every export without a range holds them.
    """
    request, now = job.request, snapshot.taken_at
    registration = job.registrations[tenant]
    source_tenant, where = registration.reads(tenant, entity)
    entity = registration.sees(entity)
    wanted = Selection(
        entity,
        source_tenant,
        entity.columns,
        salt=job.salts[tenant],
        scope=job.filters,
        time_from=request.range_from if entity.time_column else None,
        time_to=request.range_to if entity.time_column else None,
        zone=job.registrations.get(request.tenant, registration).zone,
        live_only=True,
        where=where,
    )
    if snapshot.changes_by_time(wanted):
        return replace(wanted, changed=ChangeSpan(end=request.created_at, ahead=max(now, request.created_at)))
    cut = (request.created_at, now) if entity.time_column and request.created_at < now else None
    return replace(wanted, time_cut=cut)


def left_out(wanted: Selection) -> Selection | None:
    """Return the rows that changed or were added between the request and its fulfilment. None if no column tells them."""
    if wanted.changed.end:
        return replace(wanted, changed=ChangeSpan(wanted.changed.end, wanted.changed.ahead))
    if wanted.time_cut is None:
        return None
    first, second = wanted.time_cut
    start = max(first, wanted.time_from or first)
    return replace(wanted, time_cut=None, time_from=start, time_to=min(second, wanted.time_to or second))


def _write(job: ExportJob, snapshot: Snapshot, wanted: Selection, folder: Path, tenant: str) -> Iterator[int | Part]:
    """Write one entity in every format in one pass. Yields the rows so far, and the finished parts at the end."""
    request, entity = job.request, wanted.entity
    inside = f"{tenant}/" if len(request.tenants) > 1 else ""
    paths = {name: f"{inside}{entity.id}{SUFFIXES[name]}" for name in request.formats}
    after = left_out(wanted)
    with _open(job, wanted, folder, paths) as writers:
        rows = 0
        for batch in snapshot.batches(wanted, typed=bool(writers.keys() & TYPED)):
            for writer in writers.values():
                writer.write(batch)
            rows += batch.num_rows
            yield rows
        changed_since = snapshot.count(after) if after else 0
        for name, writer in writers.items():
            written: Written = writer.close()
            if written.rows != rows:
                raise PermanentError(f"{name} holds {written.rows} of {rows} rows", where=entity.id, code="internal")
            yield Part(tenant, entity, name, paths[name], folder / paths[name], written, changed_since, wanted)


@contextmanager
def _open(job: ExportJob, wanted: Selection, folder: Path, paths: Mapping[str, str]) -> Iterator[dict[str, Writer]]:
    """Open a writer for each format. An error gives all of them up."""
    request, writers = job.request, dict[str, Writer]()
    export_policy = job.export_policy
    options = WriterOptions(
        request.created_at,
        export_policy.json_layout,
        export_policy.spreadsheet_guard,
        export_policy.csv_bom,
        (request.range_from, request.range_to),
        request.scope,
    )
    try:
        for name, path in paths.items():
            with disk_errors(folder / path):
                private.make_folder((folder / path).parent)
            writers[name] = open_writer(name, folder / path, wanted.entity.id, wanted.columns, options)
        yield writers
    finally:
        for writer in writers.values():
            writer.discard()
