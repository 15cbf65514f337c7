"""The delivery protocol (docs/protocol.md section 3), steps 2 to 10, from top to bottom. Step 1, PLAN, is in `planning`.

Data becomes visible by one rename, which never overwrites. The ledger records everything before that, so any worker can finish a delivery
with the same result, even one that others believed dead. Correctness needs no lock, lease or clock; `resuming` saves work by them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from waybill import layout
from waybill.deliveries import kept_bytes, stopping
from waybill.deliveries.extraction import deletes_file
from waybill.deliveries.extraction.columns import as_json
from waybill.deliveries.extraction.encrypting import file_facts
from waybill.deliveries.extraction.extracting import extract
from waybill.deliveries.generations import CollectedUncommitted
from waybill.deliveries.job import DeliveryJob, Extracted, Read
from waybill.deliveries.manifests import facts_of, manifest_bytes, manifest_sha256, target_of, target_of_attempt
from waybill.deliveries.publishing import deletes, renaming, resuming
from waybill.deliveries.publishing.renaming import publish_document, require_published
from waybill.deliveries.publishing.resuming import Claim
from waybill.deliveries.publishing.signing import publish_signature, signature_of
from waybill.deliveries.publishing.upload import SpoolFile, Uploads
from waybill.destinations import Profile, Session
from waybill.destinations.resend_store import Kept
from waybill.errors import ConflictError, PermanentError, TransientError, WaybillError
from waybill.files.signing import Signer
from waybill.layout import Target
from waybill.ledger import Ledger, deliveries
from waybill.ledger.database.engine import new_id
from waybill.ledger.database.failures import set_back
from waybill.ledger.delivered import keys
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.facts import Facts
from waybill.registrations import filling
from waybill.sources import Source
from waybill.states import DeliveryStatus, Purpose
from waybill_consumer.manifest import package_hash

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """What a worker delivers with. `progress` receives the number of rows read so far. `on_commit` runs in the transaction that commits."""

    ledger: Ledger
    source: Source
    session: Session
    spool_dir: Path
    kept: Kept | None
    now: Callable[[], datetime]
    signer: Signer | None = None
    progress: Callable[[int], None] = lambda rows: None
    on_commit: Callable[[Connection, Delivery, Attempt], None] = lambda connection, delivery, adopted: None

    @property
    def blind(self) -> bool:
        """Return whether the destination is a drop box.

        Nobody can rename, list or read there, so every name is unique and no name is hidden.
        """
        return self.session.profile is Profile.DROPBOX


@dataclass(frozen=True)
class Outcome:
    """`status`: committed, verified (committed before, and the file is right) or collected (committed before, and the consumer took it)."""

    delivery: str
    status: str
    rows: int
    bytes: int
    sha256: str


def deliver_one(job: DeliveryJob, resources: Resources, read: Read = extract) -> Outcome:
    """Extract (or `read`), upload, verify, publish and commit one delivery. A delivery that is committed already is only verified.

    It is safe to call this again at any time. Raises TransientError, PermanentError or ConflictError. What was done until then stays valid,
    and the next call goes on from there.
    """
    job = resuming.as_begun(job, resources.ledger)
    if job.delivery.status != DeliveryStatus.OPEN:
        return _deliver(job, resources, read, Claim(new_id()))
    with resuming.claim(job, resources.ledger, resources.spool_dir, resources.now, blind=resources.blind) as claim:
        return _deliver(job, resources, read, claim)


def _deliver(job: DeliveryJob, resources: Resources, read: Read, claim: Claim) -> Outcome:
    target = target_of(job.delivery, job.file_style, parts=job.in_parts, unique=claim.token if resources.blind else "")
    run = _AttemptRun(job, resources, target, claim)
    if job.delivery.status == DeliveryStatus.COMMITTED:
        return run.verify()
    keeps_spool = False
    try:
        adopted = run.adopt_published() or run.publish(run.extract(read))
        run.publish_deletes(adopted)
        run.write_manifest(adopted)
        run.commit(adopted)
        keeps_spool = not run.keep_bytes(adopted)  # housekeeping keeps them later, from this spool
        return Outcome(job.delivery.id, DeliveryStatus.COMMITTED, adopted.rows, adopted.bytes, adopted.sha256)
    except _Overtaken:
        run.withdraw()
        return run.verify()
    except (TransientError, PermanentError) as error:
        if stopping.is_asked_to_stop() or isinstance(error, PermanentError):  # no try goes on from it, and each would leave a copy
            with suppress(WaybillError):
                run.withdraw()
        else:
            keeps_spool = claim.resumable and error.code != "verify"
        raise
    finally:
        if not keeps_spool:
            run.clean()


class _Overtaken(Exception):
    """Another worker has committed the delivery. The consumer may have collected its file by now, so the file must not come back."""


@dataclass(frozen=True)
class _AttemptRun:
    """One attempt at one delivery."""

    job: DeliveryJob
    resources: Resources
    target: Target
    claim: Claim

    @property
    def token(self) -> str:
        """Return the id in the name of everything that this attempt writes, so that two workers never share a file."""
        return self.claim.token

    @property
    def spool(self) -> Path:
        return self.resources.spool_dir / self.token

    @property
    def _is_hidden_folder(self) -> bool:
        """Return whether parts are sent into a hidden folder, whose one rename shows all of them."""
        return self.target.in_parts and not self.resources.blind

    def prepare(self) -> None:
        """Make the folder. The ledger knows before that a folder may be there: `recovery.stale_ledger` asks who made it."""
        if self.job.delivery.begun_at is None:
            with self.resources.ledger.begin() as connection:
                deliveries.begin(connection, self.job.delivery.id, self.resources.now())
        folder = self.target.folder
        self.resources.session.prepare(folder.rpartition("/")[0] if self._is_hidden_folder else folder)

    def final(self, name: str) -> str:
        return f"{self.target.folder}/{name}"

    @property
    def hidden(self) -> str:
        """Return the hidden name of this attempt's upload: a file, or a folder for parts."""
        return layout.hidden(self.target.appears, self.token)

    def adopt_published(self) -> Attempt | None:
        """LOOK and ADOPT: return the recorded attempt whose bytes have the final name, or None if the name is free.

        Raises ConflictError for bytes that no attempt of this delivery recorded.
        """
        if self.resources.blind:
            return None
        session = self.resources.session
        first = self.final(self.target.name(1))
        seen = session.sha256(first)
        if seen is None:
            return self._collected(first)
        with self.resources.ledger.read() as connection:
            recorded = deliveries.attempts(connection, self.job.delivery.id)
        equal = [
            attempt
            for attempt in recorded
            if attempt.files[0]["sha256"] == seen
            and all(session.sha256(self.final(file["path"])) == file["sha256"] for file in attempt.files[1:])
        ]
        if equal:
            return self._adopt(equal[-1])
        raise ConflictError(
            f"{first} exists and is not a file of this delivery (its SHA-256 begins {seen[:12]})",
            where=session.label,
            next_step="Nothing was touched. If the ledger was restored from a backup run `waybill reconcile`; "
            "else move the foreign file away and run again",
            code="foreign_file",
        )

    def _adopt(self, preferred: Attempt) -> Attempt:
        """Choose one of several attempts with the same bytes. The ledger holds the choice, so every worker makes the same one."""
        with self.resources.ledger.begin() as connection:
            return deliveries.adopt(connection, preferred)

    def _collected(self, first: str) -> Attempt | None:
        """Return the attempt whose manifest is there while its data is gone: the consumer was faster than COMMIT.

        A restored ledger may know that attempt as recorded only. Another worker may have published and adopted between our look at the data
        and our look at the ledger. Its data is there now.

        Raises CollectedUncommitted if both are gone: a consumer that loaded them skips the same id, and would miss what changed since. No
        later delivery relies on a repair, so that is made again, and says that it may repeat rows.
        """
        with self.resources.ledger.read() as connection:
            current = deliveries.get(connection, self.job.delivery.id)
            recorded = deliveries.attempts(connection, self.job.delivery.id)
        seen = self.resources.session.read(self.target.manifest) if recorded else None
        if found := next((attempt for attempt in recorded if manifest_bytes(self.job.delivery, attempt) == seen), None):
            return self._adopt(found)
        adopted = next((attempt for attempt in recorded if current and attempt.id == current.adopted), None)
        if adopted is None and not kept_bytes.shows_commit(self.resources.kept, self.job.delivery):
            return None
        if self.resources.session.sha256(first) is not None:
            return self.adopt_published()
        if self.job.delivery.purpose == Purpose.SCHEDULE:
            raise CollectedUncommitted("a delivery was collected before the ledger had noted that it was complete")
        if adopted is not None:
            with self.resources.ledger.begin() as connection:
                deliveries.forget_adopted(connection, self.job.delivery.id, adopted.id)
        return None

    def extract(self, read: Read) -> Attempt:
        """EXTRACT, UPLOAD and RECORD: sending starts while the source is still being read. Nothing is visible yet.

        A drop box shows bytes as they arrive, so nothing is sent there before RECORD.
        """
        self.prepare()
        if self._is_hidden_folder:
            self.resources.session.prepare(self.hidden)
        with Uploads(
            self.resources.session, self._spool_path, self._upload_name, hold=self.resources.blind, at_once=self.job.source_connections
        ) as uploads:
            if self.claim.before is not None:
                return self._go_on(self.claim.before, uploads)

            def progress(rows: int) -> None:
                uploads.check()  # a refused upload also ends the extraction
                self.resources.progress(rows)

            attempt = self._record(read(self.job, self.resources.source, uploads.new_file, self._known_digests, progress))
            if self.resources.blind:
                self._still_open(attempt)
            self.claim.is_recorded = True
            uploads.finish()
        return attempt

    def _go_on(self, recorded: Attempt, uploads: Uploads) -> Attempt:
        """Finish the attempt of an earlier process that had read and recorded everything: send the parts that had not arrived."""
        self.claim.is_recorded = True
        for number, file in enumerate(recorded.files, 1):
            uploads.go_on(number, file)
        uploads.finish()
        return recorded

    def _spool_path(self, number: int) -> Path:
        return self.spool / self.target.part(number)

    def _upload_name(self, number: int) -> str:
        if self.resources.blind:
            return self.final(self.target.name(number))
        return f"{self.hidden}/{self.target.part(number)}" if self.target.in_parts else self.hidden

    def _known_digests(self) -> Container[bytes]:
        with self.resources.ledger.read() as connection:
            return deliveries.known_digests(connection, self.job.stream.id)

    def _record(self, extracted: Extracted) -> Attempt:
        """RECORD: write the attempt into the ledger, in one transaction, before any byte can become visible."""
        job = self.job
        filled_from = filling.filled_from(job.stream, job.entity, extracted.columns, job.delivery.sequence)
        facts = (extracted.facts or facts_of(job, extracted, filled_from) | self._manifest_before()).copy()
        facts.pop("manifest_sha256", None)  # a redelivery has the facts of another manifest
        gone, spooled = None, self.spool / self.target.deletes.rpartition("/")[2]
        if extracted.key_changes:
            gone = deletes_file.write(extracted.key_changes, spooled, SpoolFile, job.file_style, job.recipient)
        if gone or (job.key_store and extracted.facts is None):
            facts["deletes"] = gone
        if self.claim.made_of:
            facts["made_of"] = self.claim.made_of
        facts |= {"folder": self.target.folder, "stem": self.target.stem}
        with self.resources.ledger.begin() as connection:
            earlier = deliveries.attempts(connection, job.delivery.id)
            new = Attempt(
                id=self.token,
                delivery=job.delivery.id,
                window_to=extracted.end,
                position_from=extracted.position_from,
                position_to=extracted.position_to,
                snapshot_time=extracted.snapshot_time,
                schema_version=extracted.schema_version,
                columns=as_json(extracted.columns, filled_from, extracted.natives),
                facts=facts,
                files=[file_facts(self.target.name(file.number), file) for file in extracted.files],
                rows=sum(file.rows for file in extracted.files),
                bytes=sum(file.bytes for file in extracted.files),
                sha256=package_hash([file.sha256 for file in extracted.files]),
                # An earlier attempt may have published its file, and the consumer may have collected it.
                possible_duplicate=extracted.may_repeat or any(attempt.publishing_at for attempt in earlier),
                note=extracted.note,
                digests_from=extracted.digests_from,
                recorded_at=self.resources.now(),
            )
            recorded = deliveries.record(connection, new, job.stream.id, extracted.digests)
            if extracted.key_changes:
                keys.record(connection, self.token, extracted.key_changes.change, extracted.key_changes.blobs(spooled if gone else None))
            return recorded

    def _manifest_before(self) -> Facts:
        """Return the hash of the manifest before this one. A signed manifest vouches for it, even if its own key has leaked since."""
        delivery = self.job.delivery
        if self.resources.signer is None or delivery.purpose != Purpose.SCHEDULE or delivery.previous_sequence is None:
            return {}
        with self.resources.ledger.read() as connection:
            before = deliveries.scheduled(connection, delivery.stream, delivery.previous_sequence)
            adopted = deliveries.adopted_of(connection, [before]) if before else {}
        return {"previous_manifest_sha256": manifest_sha256(before, adopted[before.id])} if before else {}

    def publish(self, attempt: Attempt) -> Attempt:
        """PUBLISH: rename once, without overwriting. If another worker was faster, adopt its attempt."""
        session = self.resources.session
        if self.resources.blind:
            return self._adopt(attempt)
        self._still_open(attempt)

        def check_renamed() -> Attempt:
            names = {self._upload_name(at): self.final(file["path"]) for at, file in enumerate(attempt.files, 1)}
            require_published(session, names, {self.final(file["path"]): file["bytes"] for file in attempt.files})
            return self._adopt(attempt)

        final = self.target.appears
        try:
            adopted = renaming.publish(session, self.hidden, final, check_renamed=check_renamed, find_ours=self.adopt_published)
        except TransientError:
            self._still_open()  # another worker may have committed, and the consumer may have collected everything
            raise
        if adopted is None and self.target.in_parts and session.entries(final):
            step = "Nothing was touched. Move it away and run again"
            raise ConflictError(f"{final} holds files, and none of this delivery", where=session.label, next_step=step, code="foreign_file")
        if adopted is None:
            raise TransientError(
                f"{final} was there and is gone again", where=session.label, next_step="The next run delivers it again", code="vanished"
            )
        return adopted

    def _still_open(self, publishing: Attempt | None = None) -> None:
        """Note that `publishing` may become visible from now on. Raises _Overtaken if the delivery is no longer open."""
        with self.resources.ledger.begin() as connection:
            current = deliveries.get(connection, self.job.delivery.id)
            if current is None or current.status != DeliveryStatus.OPEN:
                raise _Overtaken
            if publishing is not None:
                deliveries.mark_publishing(connection, publishing.id, self.resources.now())

    def publish_deletes(self, adopted: Attempt) -> None:
        """Publish the keys that are gone: after the data, and before the manifest that lists them."""
        if adopted.deletes is None or self._is_delivered(adopted):
            return
        self._still_open()
        deletes.publish(self.resources.ledger, self.resources.session, self.job.delivery, adopted, self.target, self.token)

    def _is_delivered(self, adopted: Attempt) -> bool:
        """Return whether the manifest is there. The files it lists came before it, and the consumer may have collected them."""
        return not self.resources.blind and self.resources.session.read(self.target.manifest) == manifest_bytes(self.job.delivery, adopted)

    def write_manifest(self, adopted: Attempt) -> None:
        """MANIFEST: publish it after the data and after its signature. Its bytes depend only on the delivery and the adopted attempt."""
        self._still_open()
        manifest, session = manifest_bytes(self.job.delivery, adopted), self.resources.session
        text = self._signature(manifest)
        if self.resources.blind:
            if text is not None:
                session.upload(layout.signature(self.target.manifest), [text])
            session.upload(self.target.manifest, [manifest])
            return
        data = self.final(adopted.files[0]["path"]) if adopted.files else ""
        if text is not None and not self._is_delivered(adopted):
            tenant = self.job.delivery.tenant
            publish_signature(self.resources.ledger, session, tenant, self.target.manifest, text, self.token, data)
        publish_document(session, self.target.manifest, manifest, self.token, data)

    def _signature(self, manifest: bytes) -> bytes | None:
        signer, ledger = self.resources.signer, self.resources.ledger
        return signature_of(ledger, signer, self.job.delivery.tenant, manifest, self.resources.now()) if signer else None

    def commit(self, adopted: Attempt) -> None:
        """COMMIT: compare and set. If another worker committed the same attempt first, nothing is left to do."""
        with self.resources.ledger.begin() as connection:
            if deliveries.commit(connection, self.job.delivery, adopted, self.resources.now()):
                self.resources.on_commit(connection, self.job.delivery, adopted)
                return
            current = deliveries.get(connection, self.job.delivery.id)
        if current is None or current.status != DeliveryStatus.COMMITTED or current.adopted != adopted.id:
            raise _Overtaken

    def withdraw(self) -> None:
        """Remove what this attempt uploaded and nobody saw."""
        if not self.resources.blind:
            self.resources.session.remove(self.hidden)

    def verify(self) -> Outcome:
        """Check a committed delivery, and change nothing. Its files are right, or they are gone because the consumer collected them."""
        with self.resources.ledger.read() as connection:
            current = deliveries.get(connection, self.job.delivery.id)
            if current is None:
                raise set_back(self.job.where)
            if current.status != DeliveryStatus.COMMITTED:
                what, step = f"the delivery was {current.status} meanwhile", "Look at the tenant's deliveries"
                raise ConflictError(what, where=self.job.where, next_step=step, code="overtaken")
            adopted = deliveries.adopted_of(connection, [current])[current.id]
        self.keep_bytes(adopted)
        folder = target_of_attempt(current, adopted).folder  # the adopted attempt may have another layout than this one
        hashes = [(file, self.resources.session.sha256(f"{folder}/{file['path']}")) for file in adopted.all_files]
        wrong = [file["path"] for file, seen in hashes if seen not in (None, file["sha256"])]
        if wrong:
            raise ConflictError(
                f"{', '.join(wrong)} in {folder} is not what was delivered",
                where=self.resources.session.label,
                next_step="Ask who changed it; `waybill redeliver` sends the right bytes again",
                code="changed_file",
            )
        status = "collected" if any(seen is None for _, seen in hashes) else "verified"
        return Outcome(self.job.delivery.id, status, adopted.rows, adopted.bytes, adopted.sha256)

    def keep_bytes(self, adopted: Attempt) -> bool:
        """Keep the delivered bytes for redelivery, if this attempt delivered them. Returns False if the store does not take them now."""
        if self.resources.kept is None or adopted.id != self.token or not self.spool.exists():
            return True
        try:
            self.resources.kept.keep(self.job.delivery.id, self.spool)
        except (PermanentError, TransientError) as error:
            _log.warning("the bytes of delivery %s are not kept yet: %s", self.job.delivery.id, error)
            return False
        return True

    def clean(self) -> None:
        """CLEAN: remove this attempt's spool. Housekeeping removes the parts that dead attempts left at the destination."""
        shutil.rmtree(self.spool, ignore_errors=True)
