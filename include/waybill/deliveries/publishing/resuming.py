"""Continues an attempt that had read everything when it ended. Its files are on this machine's disk, and the parts that arrived stay.

A process locks its spool until it ends, so an attempt that is only slow is never taken over. An attempt that ended while it was reading
cannot be continued, because the snapshot of the source ended with its session.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from waybill import private
from waybill.deliveries.job import DeliveryJob, source_connections
from waybill.ledger import Ledger, deliveries
from waybill.ledger.database.engine import new_id
from waybill.ledger.deliveries import Attempt
from waybill.states import Purpose

KEPT_FOR = timedelta(days=1)
"""As long as the hidden files of a dead attempt stay at the destination."""

_log = logging.getLogger(__name__)


@dataclass
class Claim:
    """The name an attempt writes under, and what an earlier process recorded under it.

    `made_of` is empty if no later process may go on with the attempt. `is_recorded`: everything is read, and the ledger knows it.
    """

    token: str
    made_of: str = ""
    before: Attempt | None = None
    is_recorded: bool = False

    @property
    def resumable(self) -> bool:
        """Return whether a later process may go on from what is in the spool now."""
        return self.is_recorded and bool(self.made_of)


def inputs_hash(job: DeliveryJob) -> str:
    """Return a hash of what the bytes of an attempt depend on besides the source. If it has changed, the source is read again."""
    inputs = {
        "entity": job.entity.model_dump(mode="json"),
        "dialect": asdict(job.file_style),
        "tenant": job.source_tenant,
        "conditions": [repr(condition) for condition in job.conditions],
        "recipient": job.recipient.fingerprint if job.recipient else None,
        "salt": hashlib.sha256(job.salt).hexdigest(),
        "stream": job.stream.id,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def as_begun(job: DeliveryJob, ledger: Ledger) -> DeliveryJob:
    """Return the job with parts if an earlier attempt has recorded parts. Only `streams` of the catalog may have changed since then."""
    if job.file_style.max_rows_per_file is not None or not job.delivery.reads_all:
        return job
    with ledger.read() as connection:
        recorded = deliveries.attempts(connection, job.delivery.id)
    return replace(job, source_connections=source_connections(job.delivery, job.source_connections, next(iter(recorded), None)))


@contextmanager
def claim(job: DeliveryJob, ledger: Ledger, spool_dir: Path, now: Callable[[], datetime], *, blind: bool) -> Iterator[Claim]:
    """Yield an attempt of this delivery that ended on this machine and can be continued, or a new one.

    Only parts can be continued, because nobody sees them before all of them are there; a drop box shows each (`blind`). A redelivery is
    copied anew instead. The attempt's spool is locked until the block ends.
    """
    made_of = inputs_hash(job) if job.in_parts and not blind and job.delivery.purpose != Purpose.REDELIVERY else ""
    recorded: list[Attempt] = []
    if made_of:
        with ledger.read() as connection:
            recorded = deliveries.attempts(connection, job.delivery.id)
    # What may have been visible may have been collected, too: then the delivery must say that it repeats rows.
    hidden = [] if any(attempt.publishing_at for attempt in recorded) else recorded
    for attempt in reversed(hidden):
        spool = spool_dir / attempt.id
        with locked(spool) as is_ours:
            if not is_ours:
                continue
            is_same = attempt.recorded_at > now() - KEPT_FOR and attempt.facts.get("made_of") == made_of
            if is_same and _is_whole(spool, attempt):
                _log.info("going on with attempt %s, which had read everything", attempt.id)
                yield Claim(attempt.id, made_of, attempt)
                return
            shutil.rmtree(spool, ignore_errors=True)
    token = new_id()
    with suppress(OSError):  # whoever writes reports a full disk
        private.make_folder(spool_dir / token)
    with locked(spool_dir / token):
        yield Claim(token, made_of)


@contextmanager
def locked(spool: Path) -> Iterator[bool]:
    """Lock a spool folder and yield whether that succeeded.

    It fails if the folder is missing, if another process holds it, or if the file system has no locks.
    """
    try:
        descriptor = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _is_whole(spool: Path, attempt: Attempt) -> bool:
    try:
        return all((spool / file["path"]).stat().st_size == file["bytes"] for file in attempt.files)
    except OSError:
        return False
