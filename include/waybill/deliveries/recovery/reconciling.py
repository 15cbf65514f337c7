"""Reconciles a tenant after its ledger was restored from an older backup. What the destination holds and can prove is the truth.

A manifest restores its delivery if its files agree with it or were collected. A manifest does not name the versions that the delivery's
look back had seen, so the next delta repeats the rows of one look back, and its own manifest says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from waybill import layout
from waybill.canonical import timestamp_text
from waybill.deliveries.comparison.comparing import Difference, compare
from waybill.deliveries.generations import unseen_number
from waybill.deliveries.manifests import OPTIONAL_FACTS, manifest_bytes
from waybill.destinations import Item, Session
from waybill.errors import PermanentError
from waybill.files import manifest
from waybill.files.manifest import listed
from waybill.installation import Installation
from waybill.ledger import deliveries, registrations, signatures, streams
from waybill.ledger.database.engine import new_id
from waybill.ledger.days import Day
from waybill.ledger.delivered import restoring
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.facts import Facts, Position
from waybill.ledger.registrations import Registered
from waybill.ledger.streams import Stream
from waybill.registrations.filling import source_of
from waybill.states import DeliveryStatus, GenerationReason, Kind, Purpose
from waybill_consumer.chain import Remark
from waybill_consumer.manifest import DAY_MANIFEST, SUFFIX, Manifest
from waybill_consumer.signatures import Wrong
from waybill_consumer.signatures import signer as checked
from waybill_consumer.verification import DATA
from waybill_consumer.verification.recount import dialect_of, recount


@dataclass
class Reconciled:
    """The result. `imported` are manifests that restored a delivery. `problems` need a person, and `differences` name a repair."""

    imported: list[str] = field(default_factory=list)
    problems: list[Remark] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        remarks = {name: [remark._asdict() for remark in getattr(self, name)] for name in ("problems", "notes")}
        return {"imported": self.imported, **remarks, "differences": [difference.as_json() for difference in self.differences]}


@dataclass(frozen=True)
class _Found:
    """A manifest at the destination, and its bytes."""

    path: str
    data: bytes
    manifest: Manifest


def reconcile(
    installation: Installation,
    tenant: str,
    *,
    actor: str,
    unsigned: bool = False,
    progress: Callable[[str], None] = lambda path: None,
) -> Reconciled:
    """Import the deliveries that the ledger does not know, then compare the source with its deliveries.

    Each import is one transaction, in the order of the chain. If the tenant's manifests are signed, a manifest without a signature, or with
    a key that the connection does not hold, needs a person's decision: it is imported only with `unsigned`.

    It is safe to call this again. Raises PermanentError for an unknown tenant, and TransientError if the destination or the source is out
    of reach.
    """
    registered = installation.registered(tenant)
    done = Reconciled()
    with installation.session(registered) as session:
        items = [item for item in session.walk(layout.tenant_folder(tenant)) if not item.is_folder and "/." not in item.path]
        work = _Import(installation, registered, session, {item.path for item in items}, done, actor, unsigned=unsigned)
        stopped: set[tuple[str, int]] = set()
        for found in sorted(work.forgotten(items, progress), key=_order):
            stream = (found.manifest.entity, found.manifest.generation)
            if stream not in stopped and not work.bring_back(found):
                stopped.add(stream)
        work.report_orphans()
        work.bring_back_days(items)
        work.begin_generations(items)
        done.differences = compare(installation, registered, session, progress)
    return done


def _order(found: _Found) -> tuple[str, int, bool, int, str]:
    """Return the sort key of the import: chain by chain, and each repetition after its original."""
    published = found.manifest
    return published.entity, published.generation, published.redelivers is not None, published.sequence, published.delivery_id


class _Import:
    def __init__(
        self,
        installation: Installation,
        registered: Registered,
        session: Session,
        paths: set[str],
        done: Reconciled,
        actor: str,
        *,
        unsigned: bool,
    ) -> None:
        self._installation = installation
        self._registered = registered
        self._session = session
        self._paths = paths
        self._done = done
        self._actor = actor
        self._unsigned = unsigned
        self._listed: set[str] = set()
        self._refused: set[str] = set()

    def _problem(self, path: str, what: str) -> bool:
        self._done.problems.append(Remark(path, what))
        return False

    def forgotten(self, items: list[Item], progress: Callable[[str], None]) -> Iterator[_Found]:
        """Yield the manifests of deliveries that are not committed in the ledger."""
        with self._installation.ledger.read() as connection:
            known = restoring.states(connection, self._registered.tenant)
        for item in items:
            if not item.path.endswith(SUFFIX):
                continue
            progress(item.path)
            try:
                data = self._session.read(item.path) or b""
                published = manifest.parse(data, "")
            except PermanentError as error:
                self._problem(item.path, error.what)
                continue
            folder = item.path.rpartition("/")[0]
            self._listed |= {f"{folder}/{file.path}" for file in published.all_files}
            if known.get(published.delivery_id) == DeliveryStatus.COMMITTED:
                continue
            if published.tenant != self._registered.tenant:
                self._problem(item.path, f"is of tenant {published.tenant}, and does not belong here")
            elif not (known.get(published.delivery_id) == DeliveryStatus.OPEN and self._recorded(published)):
                yield _Found(item.path, data, published)

    def _recorded(self, published: Manifest) -> bool:
        """Return whether the ledger holds an attempt with these bytes. The next run adopts it, so nothing has to be restored."""
        with self._installation.ledger.read() as connection:
            return any(attempt.sha256 == published.sha256 for attempt in deliveries.attempts(connection, published.delivery_id))

    def bring_back(self, found: _Found) -> bool:
        """Import one delivery. Returns False if it contradicts its files or the ledger. The chain stops there."""
        place = layout.place_of(found.path)
        if place is None:
            return self._problem(found.path, "does not stand where Waybill puts manifests")
        if not self._files_agree(found):
            return False
        try:
            signature = self._signature(found.path, found.data)
        except Wrong as error:
            return self._problem(found.path, error.what)
        now = self._installation.now()
        with self._installation.ledger.begin() as connection:
            published = found.manifest
            stream = restoring.stream_for(connection, published.tenant, published.entity, published.generation, now)
            version = self._registered.version
            adopted = self._attempt(found, now)
            back = _delivery(published, stream, place, adopted, version, now)
            blocking = restoring.in_the_way(connection, back)
            if settled := [other for other in blocking if other.status == DeliveryStatus.COMMITTED]:
                return self._problem(
                    found.path, f"the ledger holds another delivery in its place: {settled[0].id}. Start over: {self._anew(published)}"
                )
            if wrong := _breaks_chain(published, stream) if back.purpose == Purpose.SCHEDULE else "":
                return self._problem(found.path, f"{wrong}. Start over: {self._anew(published)}")
            for other in blocking:
                restoring.forget(connection, other.id)
            restoring.bring_back(connection, back, adopted)
            if signature is not None:
                signatures.record(connection, adopted.facts["manifest_sha256"], signature, published.tenant, now)
            detail = {"delivery": published.delivery_id, "sequence": published.sequence, "replaced": [other.id for other in blocking]}
            registrations.note(connection, published.tenant, self._actor, "reconcile", detail, now)
        self._done.imported.append(found.path)
        self._note_oddities(found, stream, back)
        return True

    def _signature(self, path: str, document: bytes) -> bytes | None:
        """Return the signature beside a document. Raises Wrong if it belongs to other bytes, or if it does not count."""
        signature = self._session.read(layout.signature(path)) if layout.signature(path) in self._paths else None
        key = None if signature is None else checked(document, signature)
        signer = self._installation.signer(self._registered.tenant)
        if signer is None or key in signer.public:
            return signature
        by = f"is signed by {key.fingerprint}, which the connection {signer.connection} does not hold" if key else "is not signed"
        if not self._unsigned:
            own = f"if it is from before that key, run `waybill reconcile {self._registered.tenant} --unsigned`"
            raise Wrong(f"{by}, while the tenant's manifests are. Ask who put it there; {own}")
        self._done.notes.append(Remark(path, by, is_problem=False))
        return signature

    def _anew(self, published: Manifest) -> str:
        return f"waybill run {published.tenant} --entity {published.entity} --full-load"

    def _files_agree(self, found: _Found) -> bool:
        """Return whether every file that still exists is what the manifest says. A file that is gone was collected."""
        folder, published = found.path.rpartition("/")[0], found.manifest
        for file in published.all_files:
            path = f"{folder}/{file.path}"
            if path not in self._paths:
                self._done.notes.append(Remark(path, "was collected", is_problem=False))
                continue
            seen = recount(
                self._session.blocks(path), dialect_of(file, published.csv), len(published.header(file)), published.stored_as(file)
            )
            if (seen.sha256, seen.rows) != (file.sha256, None if published.encryption else file.rows):
                return self._problem(path, "is not what its manifest says. Ask who changed it, move it away, and reconcile again")
        return True

    def _attempt(self, found: _Found, now: datetime) -> Attempt:
        published = found.manifest
        entity = self._installation.catalog.entity(published.entity)
        changes = entity.changes if entity else None
        # Where the catalog finds changes in another way by now, an unknown column makes the next delivery start a new generation.
        column = changes.column if changes and changes.mode.value == published.mode else ""
        position: Position = {"mode": published.mode, "column": column}
        exports = {known.source(name): known.export for name, known in entity.columns.items()} if entity else {}
        at, columns = published.facts["position"], published.facts["columns"]
        return Attempt(
            id=new_id(),
            delivery=published.delivery_id,
            window_to=published.end,
            position_from=None if at.get("from") is None else position | {"at": at["from"]},
            position_to=None
            if at.get("to") is None
            else position | {"at": at["to"], "imported": True, "inexact": not published.facts["window"].get("exact")},
            snapshot_time=published.snapshot_time,
            schema_version=published.facts["schema_version"],
            columns=[known | {"export": exports.get(source_of(known), "yes")} for known in columns],
            facts=_facts(found),
            files=published.facts["files"],
            rows=published.rows,
            bytes=published.bytes,
            sha256=published.sha256,
            possible_duplicate=published.possible_duplicate,
            note=published.facts.get("note", ""),
            digests_from=None,
            recorded_at=now,
            publishing_at=now,
        )

    def _note_oddities(self, found: _Found, stream: Stream, back: Delivery) -> None:
        published = found.manifest
        if back.purpose == Purpose.SCHEDULE and published.sequence > stream.sequence + 1:
            missing = f"sequence {stream.sequence + 1} to {published.sequence - 1}"
            what = f"{missing} was collected with its manifests: this one names it as delivered"
            self._done.notes.append(Remark(found.path, what, is_problem=False))
        with self._installation.ledger.read() as connection:
            kept = deliveries.get(connection, back.id)
            adopted = next(known for known in deliveries.attempts(connection, back.id) if known.id == back.adopted)
        if kept is not None and manifest_bytes(kept, adopted) != found.data:
            self._done.notes.append(Remark(found.path, "its manifest is not spelt as this version spells it", is_problem=False))

    def report_orphans(self) -> None:
        """Report data that no manifest lists and no attempt explains: the backup is older than its attempt, and its manifest never came.

        If the ledger knows its delivery, somebody has taken the manifest alone.
        """
        with self._installation.ledger.read() as connection:
            explained = restoring.unfinished(connection, self._registered.tenant) | self._listed
            alone = sorted(path for path in self._paths - explained if DATA.match(path.rpartition("/")[2]))
            known = restoring.committed_files(connection, self._registered.tenant) if alone else {}
        for path in alone:
            if path in known:
                what = f"its manifest is gone. If the consumer has not loaded it, run: waybill redeliver {known[path]}"
                self._done.notes.append(Remark(path, what, is_problem=False))
            else:
                self._problem(path, "no manifest lists it, and the ledger does not know it. Move it away and run again")

    def bring_back_days(self, items: list[Item]) -> None:
        """Import the day manifests, so that the next one of a date gets the next number."""
        now = self._installation.now()
        with self._installation.ledger.read() as connection:
            known = restoring.published_days(connection, self._registered.tenant)
        for item in items:
            place = _day_of(item.path)
            if place is None:
                continue
            data = self._session.read(item.path) or b""
            day = Day(self._registered.tenant, *place, hashlib.sha256(data).hexdigest(), data, now, now)
            try:
                signature = self._signature(item.path, data)
            except Wrong as error:
                if day.sha256 not in known:  # else it is from before the key
                    self._refused.add(item.path)
                    self._problem(item.path, error.what)
                continue
            with self._installation.ledger.begin() as connection:
                kept = restoring.bring_back_day(connection, day, [entry.delivery_id for entry in listed(data)])
                if kept and signature is not None:
                    signatures.record(connection, day.sha256, signature, day.tenant, now)
            if not kept:
                self._problem(item.path, "the ledger holds another day manifest of that number")

    def begin_generations(self, items: list[Item]) -> None:
        """Ask for a full load if a day manifest lists more than a stream's last delivery: the consumer collected that with its manifest."""
        now = self._installation.now()
        for item in items:
            if _day_of(item.path) is None or item.path in self._refused:
                continue
            folder, entries = item.path.rpartition("/")[0], listed(self._session.read(item.path) or b"")
            with self._installation.ledger.begin() as connection:
                for stream in streams.active(connection, self._registered.tenant):
                    gone = [entry for entry in entries if entry.entity == stream.entity and f"{folder}/{entry.manifest}" not in self._paths]
                    if any((entry.generation, entry.sequence) > (stream.generation, stream.sequence) for entry in gone):
                        reason, least = GenerationReason.MANIFESTS_COLLECTED, unseen_number(now)
                        registrations.begin_generation(connection, stream.tenant, stream.entity, reason, now, least=least)
                        what = f"lists deliveries of {stream.entity} whose manifests were collected: it begins a new generation"
                        self._done.notes.append(Remark(item.path, what, is_problem=False))


def _day_of(path: str) -> tuple[str, int] | None:
    """Return the date and the number of a day manifest, or None for every other file."""
    *above, name = path.split("/")
    numbered, dated = DAY_MANIFEST.match(name), len(above) >= 3 and layout.date_of(*above[-3:])
    return (dated.isoformat(), int(numbered[1] or 1)) if numbered and dated else None


def _breaks_chain(published: Manifest, stream: Stream) -> str:
    """Return why a delivery cannot be the next of its stream, or nothing. A gap is no reason: the delivery proves those before it."""
    if published.sequence <= stream.sequence:
        return f"the ledger's stream is at sequence {stream.sequence} already"
    if published.sequence > stream.sequence + 1:
        return ""
    if stream.sequence and (published.previous is None or published.previous.sha256 != stream.sha256):
        return "it follows another file than the one the ledger delivered before"
    if published.start != stream.watermark:
        shown = "none" if stream.watermark is None else timestamp_text(stream.watermark)
        return f"its window does not begin at the ledger's watermark ({shown})"
    return ""


def _delivery(published: Manifest, stream: Stream, place: layout.Place, adopted: Attempt, version: int, now: datetime) -> Delivery:
    """Return a delivery as the ledger keeps it, read from its manifest. A manifest has no planned boundary, so the window's end is used."""
    planned_as = Purpose.BACKFILL if published.kind == Kind.BACKFILL else Purpose.SCHEDULE
    purpose = Purpose.REDELIVERY if published.redelivers else planned_as
    return Delivery(
        id=published.delivery_id,
        stream=stream.id,
        tenant=published.tenant,
        entity=published.entity,
        generation=published.generation,
        sequence=published.sequence,
        purpose=purpose,
        kind=published.kind,
        window_from=published.start,
        planned_to=published.end,
        window_to=published.end,
        export_date=place.day.isoformat(),
        folder=place.folder,
        stem=place.stem,
        previous_sequence=published.previous.sequence if published.previous else None,
        previous_sha256=published.previous.sha256 if published.previous else None,
        registration_version=version,
        status=DeliveryStatus.COMMITTED,
        adopted=adopted.id,
        redelivers=published.redelivers,
        note=published.facts.get("note", ""),
        error="",
        error_code="",
        failures=0,
        created_at=now,
        begun_at=now,
        committed_at=now,
        day_number=None,
        feed_number=None,
    )


def _facts(found: _Found) -> Facts:
    """Return what the manifest says beyond the ledger's columns, as an attempt freezes it."""
    raw = json.loads(found.data)
    folder, _, name = found.path.rpartition("/")
    kept = ("entity_name", "key", "tombstone_column", "columns", "csv", "produced_by")
    sometimes = {key: raw[key] for key in ("format", "tombstone_when", *OPTIONAL_FACTS) if key in raw}
    window = {name: raw["window"][name] for name in ("mode", "exact") if name in raw["window"]}
    place = {"folder": folder, "stem": name.removesuffix(SUFFIX), "manifest_sha256": hashlib.sha256(found.data).hexdigest()}
    return cast(Facts, {**{key: raw[key] for key in kept}, **sometimes, **window, **place})
