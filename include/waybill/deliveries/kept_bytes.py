"""Finds the bytes of a committed delivery where they still are, and repeats them for a redelivery."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import zstandard

from waybill.canonical import timestamp_text
from waybill.deliveries.extraction.columns import from_json
from waybill.deliveries.job import DeliveryJob, Extracted, Known, Read
from waybill.deliveries.key_changes import changes
from waybill.deliveries.key_changes.changes import Repeated
from waybill.deliveries.manifests import format_of, style_of, target_of_attempt
from waybill.destinations import Session
from waybill.destinations.resend_store import Kept, KeptInFolder
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.files.manifest import csv_of
from waybill.files.records import texts_of
from waybill.formats.csv import WrittenFile
from waybill.installation import Installation
from waybill.ledger import Ledger, deliveries
from waybill.ledger.delivered import keys as recorded_keys
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.facts import FileFacts
from waybill.sink import Plain, Sink
from waybill.sources import Source
from waybill.states import DeliveryStatus

_log = logging.getLogger(__name__)

Blocks = Callable[[], Iterable[bytes]]


def repetition_of(installation: Installation, session: Session, job: DeliveryJob) -> tuple[DeliveryJob, Read]:
    """Return what the protocol needs for a redelivery: the original's bytes, facts and file style. The catalog of today does not matter.

    Raises BytesGone if the bytes are gone, and then abandons the redelivery. A committed redelivery needs no bytes.
    """
    with installation.ledger.read() as connection:
        found = deliveries.family(connection, job.delivery.redelivers or "")
        adopted = deliveries.adopted_of(connection, found)
    attempt = adopted[found[0].id]
    try:
        files = [] if job.delivery.status == DeliveryStatus.COMMITTED else find_bytes(installation, session, found, adopted)
    except BytesGone as error:
        with installation.ledger.begin() as connection:
            deliveries.abandon(connection, job.delivery.id, error.what)
        raise
    gone = attempt.deletes
    keys = changes.repeated(job.stream, job.delivery, gone, files[-1]) if gone and files else None
    if keys:
        _record_again(installation.ledger, job.delivery, keys)
    return replace(job, file_style=style_of(attempt)), _repeat(attempt, files, keys)


def _record_again(ledger: Ledger, delivery: Delivery, keys: Repeated) -> None:
    """Record the deletes file of earlier tries once more where a ledger has lost it: what is visible could not be completed without it."""
    with ledger.read() as connection:
        tries = deliveries.attempts(connection, delivery.id)
        lost = [each.id for each in tries if each.deletes and recorded_keys.of_attempt(connection, each.id) is None]
    if lost:
        pieces = [zstandard.compress(block) for block in keys.blocks()]
        with ledger.begin() as connection:
            for each in lost:
                recorded_keys.record(connection, each, keys.change, {"file": pieces})


def find_bytes(installation: Installation, session: Session, family: list[Delivery], adopted: dict[str, Attempt]) -> list[Blocks]:
    """Return a reader for each file of the original, the deletes file last: from the kept bytes, or else from the destination.

    The bytes of a worker that was killed before it kept them are in its spool until housekeeping does so.

    The hash of each file has been checked. Raises BytesGone if a file is in neither place, and the error of a place that cannot be read if
    no other place has the file.
    """
    found: list[Blocks] = []
    unread: list[WaybillError] = []
    for file, places in _places(installation, session, family, adopted, unread):
        intact = next((place for place in places if _hash(place, unread) == file["sha256"]), None)
        if intact is None:
            raise unread[0] if unread else bytes_gone(family[0])
        found.append(intact)
    return found


def require_bytes(installation: Installation, session: Session, family: list[Delivery], adopted: dict[str, Attempt]) -> None:
    """Raise as `find_bytes` does if nothing is left of a file of the original. Nothing is read before the bytes are repeated."""
    unread: list[WaybillError] = []
    for _, places in _places(installation, session, family, adopted, unread):
        if next(places, None) is None:
            raise unread[0] if unread else bytes_gone(family[0])


def _places(
    installation: Installation, session: Session, family: list[Delivery], adopted: dict[str, Attempt], unread: list[WaybillError]
) -> Iterator[tuple[FileFacts, Iterator[Blocks]]]:
    """Yield each file of the original with the places where its bytes may be, those of our own store first.

    Why a store cannot be read goes into `unread`, because the bytes may be in another place.
    """
    wanted = adopted[family[0].id].all_files
    committed = [delivery for delivery in family if delivery.id in adopted and delivery.status == DeliveryStatus.COMMITTED]
    for number, file in enumerate(wanted):
        yield (
            file,
            chain(_stored(installation, committed, adopted, number, len(wanted), unread), _delivered(session, committed, adopted, number)),
        )


def shows_commit(kept: Kept | None, delivery: Delivery) -> bool:
    """Return whether bytes of an open delivery are kept. They are since its COMMIT, so the ledger is from before that."""
    if kept is None or delivery.begun_at is None:
        return False
    try:
        return bool(kept.files(delivery.id))
    except (PermanentError, TransientError) as error:
        _log.warning("whether bytes of delivery %s are kept is not known: %s", delivery.id, error)
        return False


class BytesGone(PermanentError):
    """The bytes of a delivery are neither kept nor still at the destination."""

    code = "bytes_gone"


def bytes_gone(original: Delivery) -> BytesGone:
    """Return the error for a delivery whose bytes are gone. Its next step names the remaining repair."""
    if original.window_from is None or original.window_to is None:
        step = f"Deliver it anew: waybill run {original.tenant} --entity {original.entity} --full-load"
    else:
        span = f"--from {timestamp_text(original.window_from)} --to {timestamp_text(original.window_to)}"
        step = f"Deliver the range anew: waybill backfill {original.tenant} {original.entity} {span}"
    what = f"the bytes of delivery {original.id} are kept neither in the archive nor at the destination"
    return BytesGone(what, next_step=step)


def _stored(
    installation: Installation,
    family: list[Delivery],
    adopted: dict[str, Attempt],
    number: int,
    count: int,
    unread: list[WaybillError],
) -> Iterator[Blocks]:
    spools = KeptInFolder(installation.settings.spool_dir)
    for delivery in family:
        for files in (_files(installation.kept, delivery.id, unread), _files(spools, adopted[delivery.id].id, unread)):
            if len(files) == count:
                yield files[number]


def _files(store: Kept | None, name: str, unread: list[WaybillError]) -> Sequence[Blocks]:
    try:
        return store.files(name) if store else []
    except (PermanentError, TransientError) as error:
        unread.append(error)
        return []


def _delivered(session: Session, family: list[Delivery], adopted: dict[str, Attempt], number: int) -> Iterator[Blocks]:
    for delivery in family:
        attempt = adopted[delivery.id]
        file = attempt.all_files[number]
        path = f"{target_of_attempt(delivery, attempt).folder}/{file['path']}"
        if session.size(path) == file["bytes"]:
            yield _remote(session, path)


def delivered_texts(attempt: Attempt, blocks: Iterable[bytes]) -> Iterator[list[str]]:
    """Yield the records of one data file of an attempt, as the texts that CSV would hold."""
    columns = {column["name"]: column["type"] for column in attempt.facts["columns"]}
    typed = [(column["name"], columns[column["name"]]) for column in attempt.columns]
    return texts_of(blocks, csv_of(attempt.facts["csv"]), format_of(attempt), typed)


def _remote(session: Session, path: str) -> Blocks:
    return lambda: session.blocks(path)


def _hash(place: Blocks, unread: list[WaybillError]) -> str:
    digest = hashlib.sha256()
    try:
        for block in place():
            digest.update(block)
    except (PermanentError, TransientError) as error:
        unread.append(error)
        return ""
    return digest.hexdigest()


def _repeat(attempt: Attempt, files: list[Blocks], keys: Repeated | None) -> Read:
    def read(
        job: DeliveryJob,
        source: Source,
        new_file: Callable[[int], Sink],
        known: Known,
        progress: Callable[[int], None],
    ) -> Extracted:
        pairs = zip(attempt.files, files[: len(attempt.files)], strict=True)
        written = [_copy(number, file, blocks, new_file) for number, (file, blocks) in enumerate(pairs, 1)]
        progress(attempt.rows)
        return Extracted(
            end=attempt.window_to,
            position_from=attempt.position_from,
            position_to=attempt.position_to,
            snapshot_time=attempt.snapshot_time,
            columns=from_json(attempt.columns),
            schema_version=attempt.schema_version,
            files=written,
            digests=[],
            digests_from=None,
            note=attempt.note,
            may_repeat=True,
            key_changes=keys,
            facts=attempt.facts,
        )

    return read


def _copy(number: int, file: FileFacts, blocks: Blocks, new_file: Callable[[int], Sink]) -> WrittenFile:
    sink = new_file(number)
    for block in blocks():
        sink.write(block)
    sink.finish()
    if sink.sha256 != file["sha256"]:
        raise TransientError("the kept bytes changed while they were read", next_step="Try again", code="verify")
    plain = Plain(file["plain_bytes"], file["plain_sha256"]) if "plain_sha256" in file else None
    return WrittenFile(number, file["rows"], sink.bytes, sink.sha256, plain)
