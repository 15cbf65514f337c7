"""Describes deliveries as plain data in the manifest's words, and says where their files are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime
from typing import TypedDict

from sqlalchemy import Connection
from sqlalchemy.exc import NoResultFound

from waybill.canonical import optional_timestamp_text, timestamp_text
from waybill.configuration.registration import FolderDestination, S3Destination
from waybill.configuration.selection import FileStyle
from waybill.deliveries.job import becomes_parts, source_connections
from waybill.deliveries.manifests import style_of, target_of, target_of_attempt
from waybill.deliveries.reports.causes import words_for_outsiders
from waybill.errors import PermanentError
from waybill.installation import Installation
from waybill.layout import Target
from waybill.ledger import deliveries, registrations
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.facts import FileFacts
from waybill.states import DeliveryStatus, Purpose

_CSV = FileStyle()


class Described(TypedDict):
    """A delivery as JSON, in the manifest's words. `path` and `manifest` are below the destination's root.

    `rows`, `bytes`, `sha256` and `possible_duplicate` are None until it is committed.
    """

    delivery_id: str
    tenant: str
    entity: str
    generation: int
    sequence: int
    purpose: str
    kind: str
    status: str
    window: dict[str, str | None]
    export_date: str
    path: str
    manifest: str
    rows: int | None
    bytes: int | None
    sha256: str | None
    files: list[FileFacts]
    possible_duplicate: bool | None
    note: str
    error: str | None
    error_code: str | None
    failures: int
    created_at: str
    committed_at: str | None


def describe(installation: Installation, found: Iterable[Delivery], planned_now: FileStyle = _CSV) -> list[Described]:
    """Describe deliveries. Before one has files, the registration that it was planned under decides their names.

    `planned_now` is how the files of a delivery are written whose registration the ledger does not have yet.
    """
    found = list(found)
    with installation.ledger.read() as connection:
        adopted = deliveries.adopted_of(connection, found)
        styles = _PlannedStyles(connection, planned_now)
        planned = {delivery.id: styles.of(delivery) for delivery in found if delivery.id not in adopted}
    # Also with a catalog that is broken just now: what the ledger knows can be told.
    streams = {name: entity.streams for name, entity in installation.configuration.catalog.entities.items()}
    described = []
    for delivery in found:
        if attempt := adopted.get(delivery.id):
            described.append(_described(delivery, target_of_attempt(delivery, attempt), attempt))
        else:
            style = planned[delivery.id]
            parts = becomes_parts(style, source_connections(delivery, streams.get(delivery.entity, 1)))
            described.append(_described(delivery, target_of(delivery, style, parts=parts), None))
    return described


class _PlannedStyles:
    """How the files of deliveries will be written that have none yet."""

    def __init__(self, connection: Connection, planned_now: FileStyle) -> None:
        self._connection, self._planned_now = connection, planned_now
        self._known: dict[tuple[str, int], FileStyle] = {}

    def of(self, delivery: Delivery) -> FileStyle:
        """Return the style of the registration, or for a redelivery that of the original."""
        if delivery.redelivers:
            originals = deliveries.several(self._connection, [delivery.redelivers]).values()
            return next(map(style_of, deliveries.adopted_of(self._connection, originals).values()), self._planned_now)
        version = delivery.tenant, delivery.registration_version
        if version not in self._known:
            self._known[version] = self._planned_now
            with suppress(NoResultFound, PermanentError):  # it is only to come, or cannot be read any more
                self._known[version] = registrations.version(self._connection, *version).registration.file_style
        return self._known[version]


def _described(delivery: Delivery, target: Target, attempt: Attempt | None) -> Described:
    """Describe one delivery. For a delivery in parts, `path` is the folder of the parts, or the only part."""
    path = f"{target.folder}/{attempt.files[0]['path']}" if attempt and len(attempt.files) == 1 else target.appears
    return {
        "delivery_id": delivery.id,
        "tenant": delivery.tenant,
        "entity": delivery.entity,
        "generation": delivery.generation,
        "sequence": delivery.sequence,
        "purpose": delivery.purpose,
        "kind": delivery.kind,
        "status": delivery.status,
        "window": {
            "from": optional_timestamp_text(delivery.window_from),
            "to": optional_timestamp_text(delivery.window_to or delivery.planned_to),
        },
        "export_date": delivery.export_date,
        "path": path,
        "manifest": target.manifest,
        "rows": attempt.rows if attempt else None,
        "bytes": attempt.bytes if attempt else None,
        "sha256": attempt.sha256 if attempt else None,
        "files": attempt.files if attempt else [],
        "possible_duplicate": attempt.possible_duplicate if attempt else None,
        "note": delivery.note,
        "error": delivery.error or None,
        "error_code": delivery.error_code or None,
        "failures": delivery.failures,
        "created_at": timestamp_text(delivery.created_at),
        "committed_at": optional_timestamp_text(delivery.committed_at),
    }


def described_outside(described: Described) -> Described:
    """Return a described delivery with its error in words for people outside."""
    return {**described, "error": words_for_outsiders(described["error_code"] or "")} if described["error"] else described


def where(installation: Installation, delivery: Delivery) -> str:
    """Return where a delivered file, or the folder of its parts, is: a path of this machine or of the server, or a place in a bucket."""
    with installation.ledger.read() as connection:
        [current] = deliveries.several(connection, [delivery.id]).values()
    path = describe(installation, [current])[0]["path"]
    spec = installation.destination_spec(installation.registered(delivery.tenant))
    if isinstance(spec, FolderDestination):
        return f"{(installation.settings.base / spec.root).as_posix().rstrip('/')}{path}"
    below = f"{spec.root.strip('/')}{path}" if spec.root.strip("/") else path.removeprefix("/")
    return f"s3://{spec.bucket}/{below}" if isinstance(spec, S3Destination) else f"{spec.root.rstrip('/')}{path}"


def listed(
    installation: Installation, tenant: str | None = None, *, entity: str = "", status: str = "", limit: int = 1000, before: str = ""
) -> list[Described]:
    """Return deliveries, newest first. Raises PermanentError for an unknown tenant."""
    if tenant is not None:
        installation.registered(tenant)
    with installation.ledger.read() as connection:
        found = deliveries.listed(connection, tenant, entity=entity, status=status, limit=limit, before=before)
    return describe(installation, found)


def waiting(installation: Installation, tenant: str, entities: Collection[str]) -> list[Described]:
    """Return the tenant's scheduled deliveries of these entities that are still open."""
    found = listed(installation, tenant, status=DeliveryStatus.OPEN)
    return [delivery for delivery in found if delivery["entity"] in entities and delivery["purpose"] == Purpose.SCHEDULE]


def committed_since(installation: Installation, tenant: str, first: str) -> list[Described]:
    """Return the tenant's committed scheduled deliveries from the delivery `first` on, oldest first."""
    with installation.ledger.read() as connection:
        found = deliveries.committed_since(connection, tenant, first)
    return describe(installation, found)


def committed(installation: Installation, tenant: str, ids: Collection[str], since: datetime | None = None) -> list[Described]:
    """Return these committed deliveries, oldest first. With `since`, also later ones that no day manifest lists yet."""
    with installation.ledger.read() as connection:
        found = deliveries.several(connection, list(ids)) if ids else {}
        found |= {delivery.id: delivery for delivery in deliveries.unlisted_since(connection, tenant, since)} if since else {}
    return describe(installation, [delivery for _, delivery in sorted(found.items())])
