"""Day manifests. Each lists once, under a number, what is complete on a date, and comes with its signature and checksums."""

from __future__ import annotations

import hashlib
import logging
from datetime import date, datetime

from sqlalchemy import Connection

from waybill import layout
from waybill.canonical import optional_timestamp_text
from waybill.deliveries.manifests import manifest_sha256, target_of_attempt
from waybill.deliveries.publishing import feed
from waybill.deliveries.publishing.renaming import publish_document
from waybill.deliveries.publishing.signing import publish_signature, signature_of
from waybill.destinations import Profile, Session
from waybill.errors import ConflictError, WaybillError, located_at
from waybill.files.manifest import day_document, listed
from waybill.installation import PRODUCED_BY, Installation
from waybill.ledger import days, deliveries, streams
from waybill.ledger.database.engine import new_id
from waybill.ledger.days import Day
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.facts import FileFacts
from waybill.ledger.registrations import Registered
from waybill.states import DeliveryStatus
from waybill_consumer.verification import sums

_log = logging.getLogger(__name__)


def publish_listings(installation: Installation, tenant: str) -> list[str]:
    """Close the days that are complete, by their manifests, then write the feed and the README if they are wanted. Returns the paths.

    It is safe to call this at any time, also twice at once.
    """
    with located_at(f"tenant {tenant}, day manifest"):
        registered = installation.registered(tenant)
        closed = _close_days(installation, registered)
    with located_at(f"tenant {tenant}, feed"):
        return closed + _write_feed(installation, registered)


def _write_feed(installation: Installation, registered: Registered) -> list[str]:
    """Write the feed. An error that holds up deliveries also holds up the feed; the next run completes it."""
    try:
        return feed.write_feed(installation, registered)
    except WaybillError as error:
        with installation.ledger.read() as connection:
            if not deliveries.listed(connection, registered.tenant, status=DeliveryStatus.OPEN, limit=1):
                raise
        _log.warning("the feed of %s is not written yet: %s", registered.tenant, error)
        return []


def _close_days(installation: Installation, registered: Registered) -> list[str]:
    tenant = registered.tenant
    with installation.ledger.begin() as connection:
        for export_date in days.unlisted_dates(connection, tenant):
            if complete := _complete(connection, installation, registered, export_date):
                _freeze_day(connection, tenant, export_date, complete, installation.now())
        waiting = days.unpublished(connection, tenant)
    if not waiting:
        return []
    with installation.session(registered) as session:
        return [_publish_day(installation, registered, session, day) for day in waiting]


def _complete(connection: Connection, installation: Installation, registered: Registered, export_date: str) -> list[Delivery]:
    """Return what is committed on the date, or nothing unless all of it is there: nothing of the date is open, and every active stream has
    reached the boundary of its own frequency on that date.
    """
    if days.count_open(connection, registered.tenant, export_date):
        return []
    here = days.committed(connection, registered.tenant, export_date)
    boundary = max(delivery.planned_to for delivery in here)
    delivered = {delivery.entity for delivery in here}
    registration, catalog = registered.registration, installation.configuration.catalog
    is_complete = all(
        stream.entity in delivered
        or (
            stream.watermark is not None
            and stream.watermark >= registration.frequency_of(stream.entity, catalog).floor(boundary, registration.zone)
        )
        for stream in streams.active(connection, registered.tenant)
    )
    return here if is_complete else []


def _freeze_day(connection: Connection, tenant: str, export_date: str, listed: list[Delivery], now: datetime) -> None:
    adopted = deliveries.adopted_of(connection, listed)
    number = days.next_number(connection, tenant, export_date)
    entries = [_day_entry(delivery, adopted[delivery.id]) for delivery in listed]
    document = day_document(tenant, date.fromisoformat(export_date), number, entries, PRODUCED_BY)
    days.freeze(
        connection,
        Day(tenant, export_date, number, hashlib.sha256(document).hexdigest(), document, now, None),
        [delivery.id for delivery in listed],
    )


def _day_entry(delivery: Delivery, attempt: Attempt) -> dict[str, object]:
    folder = layout.day_folder(delivery.tenant, date.fromisoformat(delivery.export_date))
    target = target_of_attempt(delivery, attempt)

    def file_entry(file: FileFacts) -> FileFacts:
        return {**file, "path": f"{target.folder}/{file['path']}".removeprefix(f"{folder}/")}

    return {
        "entity": delivery.entity,
        "delivery_id": delivery.id,
        "kind": delivery.kind,
        "generation": delivery.generation,
        "sequence": delivery.sequence,
        "window": {"from": optional_timestamp_text(delivery.window_from), "to": optional_timestamp_text(delivery.window_to)},
        "manifest": target.manifest.removeprefix(f"{folder}/"),
        "manifest_sha256": manifest_sha256(delivery, attempt),
        "files": [file_entry(file) for file in attempt.files],
        **({"deletes": file_entry(attempt.deletes)} if attempt.deletes else {}),
        "rows": attempt.rows,
        "bytes": attempt.bytes,
        "sha256": attempt.sha256,
    }


def _publish_day(installation: Installation, registered: Registered, session: Session, day: Day) -> str:
    folder = layout.day_folder(day.tenant, date.fromisoformat(day.export_date))
    name = layout.day_manifest_name(day.number)
    path = f"{folder}/{name}"
    documents = {path: day.document}
    if feed.landing_of(installation, registered).sha256sums:
        documents = {f"{folder}/{sums.name(day.number)}": sums.sums(day.document, name), **documents}
    session.prepare(folder)
    blind = session.profile is Profile.DROPBOX
    signer = installation.signer(day.tenant)
    if signer:
        text = signature_of(installation.ledger, signer, day.tenant, day.document, installation.now())
        if blind:
            documents = {layout.signature(path): text, **documents}
        else:
            publish_signature(installation.ledger, session, day.tenant, path, text, new_id())
    for place, document in () if blind else documents.items():
        try:
            publish_document(session, place, document, new_id())
        except ConflictError as error:
            if listed(session.read(path) or b""):
                wrote = "Another ledger wrote that list, or this one before it was restored"
                error.next_step = f"{wrote}. {way_out(day.tenant)}"
            raise
    with installation.ledger.begin() as connection:
        days.mark_published(connection, day, installation.now())
    if blind:  # A second try could not see that the first succeeded, and would fail for ever. So this is sent at most once.
        for place, document in documents.items():
            session.upload(place, [document])
    return path


def way_out(tenant: str) -> str:
    """Return what to do about deliveries that the ledger does not know. Reconciling with another installation mixes the rows of both."""
    other = "If another installation delivers there, as a test system with the same registrations, give this one another root first"
    return f"If the ledger was restored or lost, run: waybill reconcile {tenant}. {other}"
