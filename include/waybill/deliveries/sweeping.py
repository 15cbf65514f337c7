"""Sweeps a tenant's folder at its destination: hidden files of dead attempts, delivered files whose retention is over, and signatures that
are left without what they sign.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from waybill import layout
from waybill.deliveries.manifests import manifest_sha256, target_of_attempt
from waybill.destinations import Item, Session
from waybill.errors import ConflictError, PermanentError
from waybill.ledger import Ledger, deliveries, signatures, upkeep
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.states import DeliveryStatus
from waybill_consumer.manifest import SUFFIX
from waybill_consumer.verification import sums


@dataclass(frozen=True)
class DestinationUpkeep:
    """The number of things removed, and the old files left alone because they are not what was delivered."""

    parts: int = 0
    files: int = 0
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """A hidden file is dead if nothing has changed in it for `dead_after`. The retention of files committed before `keep_from` is over."""

    now: datetime
    dead_after: timedelta
    keep_from: datetime | None


@dataclass(frozen=True)
class _Leftover:
    """A hidden file, a hidden folder with its files, or a signature without its manifest."""

    path: str
    attempt: str
    modified: datetime | None


def sweep(ledger: Ledger, session: Session, tenant: str, limits: Limits) -> DestinationUpkeep:
    """Walk through the tenant's folder once. Only a file with Waybill's own name, or with a hash that the ledger knows, is removed."""
    root = layout.tenant_folder(tenant)
    hidden: list[_Leftover] = []
    strays: list[_Leftover] = []
    files, foreign = 0, []
    for date, items in _by_date(session.walk(root), root):
        hidden += _hidden(items)
        strays += _stray_signatures(ledger, session, tenant, date, items)
        if date and limits.keep_from:
            visible = {item.path for item in items if not item.is_folder and "/." not in item.path}
            removed, left = _retire(ledger, session, tenant, date, visible, limits.keep_from)
            files += removed
            foreign += left
    return DestinationUpkeep(_remove_dead(ledger, session, root, [*hidden, *strays], limits), files, tuple(foreign))


def _by_date(items: Iterable[Item], root: str) -> Iterator[tuple[str, list[Item]]]:
    """Yield the files under each export date, oldest date first. Files under no date come with an empty date."""
    day = re.compile(re.escape(root) + r"/(\d{4})/(\d\d)/(\d\d)/")
    date, gathered = "", list[Item]()
    for item in items:
        found = day.match(item.path)
        here = "-".join(found.groups()) if found else ""
        if here != date and gathered:
            yield date, gathered
            gathered = []
        date = here
        gathered.append(item)
    if gathered:
        yield date, gathered


def _hidden(items: list[Item]) -> Iterator[_Leftover]:
    """Yield Waybill's own unfinished files. A folder of parts is as young as its youngest file."""
    for item in items:
        above, _, name = item.path.rpartition("/")
        if layout.is_hidden(name) and "/." not in above:
            inside = [inner.modified for inner in items if inner.path.startswith(f"{item.path}/") and inner.modified]
            known = [*inside, *([item.modified] if item.modified else [])]
            yield _Leftover(item.path, layout.attempt_of(name), max(known, default=None))


def _stray_signatures(ledger: Ledger, session: Session, tenant: str, date: str, items: list[Item]) -> Iterator[_Leftover]:
    """Yield signatures of Waybill's own that never get a manifest beside them, because their delivery was abandoned between the two."""
    visible = {item.path: item for item in items if not item.is_folder and "/." not in item.path}
    ending = layout.signature(SUFFIX)
    alone = [path for path in visible if path.endswith(ending) and path.removesuffix(ending) + SUFFIX not in visible]
    if not alone:
        return
    with ledger.read() as connection:
        ended = [delivery for delivery in upkeep.of_date(connection, tenant, date) if delivery.status == DeliveryStatus.ABANDONED]
        attempts = [(delivery, attempt) for delivery in ended for attempt in deliveries.attempts(connection, delivery.id)]
        owners = {layout.signature(target_of_attempt(delivery, attempt).manifest): attempt.id for delivery, attempt in attempts}
        ours = [path for path in alone if path in owners and signatures.is_own(connection, tenant, session.read(path) or b"")]
    for path in ours:
        yield _Leftover(path, owners[path], visible[path].modified)


def _remove_dead(ledger: Ledger, session: Session, root: str, leftovers: list[_Leftover], limits: Limits) -> int:
    if not leftovers:
        return 0
    with ledger.read() as connection:
        owners = upkeep.owners(connection, [leftover.attempt for leftover in leftovers])
    before = _server_now(session, root, limits.now) - limits.dead_after
    removed = 0
    for leftover in leftovers:
        owner = owners.get(leftover.attempt)
        # A worker may go on with a recorded attempt for a day, and then take a day for it.
        finished = owner is None or not owner.may_be_needed(limits.now - 2 * limits.dead_after)
        age = leftover.modified or began_at(leftover.attempt)
        if finished and age is not None and age < before:
            session.remove(leftover.path)
            removed += 1
    return removed


def _server_now(session: Session, root: str, now: datetime) -> datetime:
    """Return the server's clock, read from the time of a file written just now. Returns `now` if that is impossible."""
    own = layout.hidden(f"{root}/waybill-clock", uuid4().hex)
    with suppress(PermanentError, ConflictError):
        session.prepare(own)
        try:
            session.upload(f"{own}/now", [b""])
            return next((item.modified for item in session.walk(own) if item.modified), now)
        finally:
            session.remove(own)
    return now


def began_at(attempt: str) -> datetime | None:
    """Return when an attempt began, read from its id (a UUIDv7). None for other ids."""
    if attempt[12] != "7":
        return None
    with suppress(ValueError):  # such an id can name a year after 9999
        return datetime.fromtimestamp((int(attempt, 16) >> 80) / 1000, UTC)
    return None


def _retire(ledger: Ledger, session: Session, tenant: str, date: str, visible: set[str], keep_from: datetime) -> tuple[int, list[str]]:
    """Remove a whole date once the retention of all its files is over. The day manifest goes first, so no listed file is ever missing."""
    with ledger.read() as connection:
        planned = [delivery for delivery in upkeep.of_date(connection, tenant, date) if delivery.status != DeliveryStatus.ABANDONED]
        adopted = deliveries.adopted_of(connection, planned)
        days = upkeep.days_of(connection, tenant, date)
        hashes = {delivery.id: manifest_sha256(delivery, adopted[delivery.id]) for delivery in planned if delivery.id in adopted}
        signed = signatures.of(connection, [*hashes.values(), *(day.sha256 for day in days)])
    if not planned or any(delivery.committed_at is None or delivery.committed_at >= keep_from for delivery in planned):
        return 0, []
    folder = f"{layout.tenant_folder(tenant)}/{date.replace('-', '/')}"
    removed, foreign = 0, []
    for day in reversed(days):
        name = layout.day_manifest_name(day.number)
        beside = ((sums.name(day.number), sums.sums(day.document, name)), (layout.signature(name), signed.get(day.sha256)))
        for path, document in ((name, day.document), *beside):
            if f"{folder}/{path}" in visible:
                same = session.read(f"{folder}/{path}") == document
                removed += _removed(session, f"{folder}/{path}") if same else 0
                foreign += [] if same else [f"{folder}/{path}"]
    for delivery in planned:
        sha256 = hashes[delivery.id]
        gone, left = _retire_delivery(session, delivery, adopted[delivery.id], visible, sha256, signed.get(sha256))
        removed, foreign = removed + gone, foreign + left
    return removed, foreign


def _retire_delivery(
    session: Session, delivery: Delivery, attempt: Attempt, visible: set[str], sha256: str, signature: bytes | None
) -> tuple[int, list[str]]:
    """Remove a delivery's files, unless one of them is not what was published. `sha256` and `signature` belong to its manifest."""
    target = target_of_attempt(delivery, attempt)
    files = {f"{target.folder}/{file['path']}": file["sha256"] for file in attempt.all_files}
    here = [path for path in files if path in visible]
    foreign = [path for path in here if session.sha256(path) != files[path]]
    if target.manifest in visible and hashlib.sha256(session.read(target.manifest) or b"").hexdigest() != sha256:
        foreign.append(target.manifest)
    beside = layout.signature(target.manifest)
    if beside in visible and session.read(beside) != signature:
        foreign.append(beside)
    if foreign:
        return 0, foreign
    mine = [path for path in (target.manifest, beside) if path in visible] + here
    return sum(_removed(session, path) for path in mine), []


def _removed(session: Session, path: str) -> int:
    session.remove(path)
    return 1
