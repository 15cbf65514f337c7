"""Describes deliveries as plain data in the manifest's words, and rehearses a destination (`probe`). The ledger keeps the result."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypedDict

from waybill import layout
from waybill.canonical import optional_timestamp_text, timestamp_text
from waybill.configuration.registration import FolderDestination, S3Destination, SftpDestination
from waybill.configuration.selection import FileStyle
from waybill.deliveries.publishing.manifests import target_of, target_of_attempt
from waybill.deliveries.reports.causes import words_for_outsiders
from waybill.destinations import Probe
from waybill.errors import ConflictError, PermanentError, TransientError, WaybillError
from waybill.installation import Installation
from waybill.language import table, tell
from waybill.ledger import deliveries, destinations
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.ledger.destinations import FailedRehearsal
from waybill.ledger.facts import FileFacts

_PLAIN = FileStyle()


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


def describe(delivery: Delivery, attempt: Attempt | None = None, style: FileStyle = _PLAIN, source_connections: int = 1) -> Described:
    """Describe a delivery.

    Before a delivery has files, `style` and the number of the entity's `source_connections` decide their names. For a delivery in parts,
    `path` is the folder of the parts.
    """
    parts = style.max_rows_per_file is not None or (source_connections > 1 and delivery.reads_all)
    target = target_of_attempt(delivery, attempt) if attempt else target_of(delivery, style, parts=parts)
    path = f"{target.folder}/{attempt.files[0]['path']}" if attempt and len(attempt.files) == 1 else target.data
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
        "path": target.folder if (len(attempt.files) > 1 if attempt else parts) else path,
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
        adopted = deliveries.adopted_of(connection, list(deliveries.several(connection, [delivery.id]).values()))
    path = describe(delivery, adopted.get(delivery.id))["path"]
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
        adopted = deliveries.adopted_of(connection, found)
    return [describe(delivery, adopted.get(delivery.id)) for delivery in found]


def committed_since(installation: Installation, tenant: str, first: str) -> list[Described]:
    """Return the tenant's committed scheduled deliveries from the delivery `first` on, oldest first."""
    with installation.ledger.read() as connection:
        found = deliveries.committed_since(connection, tenant, first)
        adopted = deliveries.adopted_of(connection, found)
    return [describe(delivery, adopted.get(delivery.id)) for delivery in found]


def committed(installation: Installation, tenant: str, ids: Collection[str], since: datetime | None = None) -> list[Described]:
    """Return these committed deliveries, oldest first. With `since`, also later ones that no day manifest lists yet."""
    with installation.ledger.read() as connection:
        found = deliveries.several(connection, list(ids)) if ids else {}
        found |= {delivery.id: delivery for delivery in deliveries.unlisted_since(connection, tenant, since)} if since else {}
        adopted = deliveries.adopted_of(connection, found.values())
    return [describe(delivery, adopted.get(delivery.id)) for _, delivery in sorted(found.items())]


ADVICE = table("profiles")
"""What a profile means and what to do about it, by its name."""


def probe(installation: Installation, tenant: str) -> Probe:
    """Rehearse below the tenant's folder and keep the result. The next deliveries work as the result allows.

    Raises PermanentError, TransientError or ConflictError if the destination cannot be used. The ledger keeps the reason beside the last
    good result.
    """
    registered = installation.registered(tenant)
    place = installation.destination_spec(registered).model_dump(mode="json")
    try:
        with installation.session(registered) as session:
            found = session.probe(layout.tenant_folder(tenant))
    except (PermanentError, TransientError, ConflictError) as error:
        with installation.ledger.begin() as connection:
            destinations.store_failed_probe(connection, tenant, _failure(error, place), installation.now())
        raise
    with installation.ledger.begin() as connection:
        destinations.store_probe(connection, tenant, {**as_json(found), "destination": place}, installation.now())
    return found


def login_keys(installation: Installation, tenant: str) -> list[dict[str, Any]]:
    """Return the public keys of the tenant's SFTP connection, in the order they are tried, and which one the last rehearsal used.

    If the tenant's manifests are signed, the keys that verify them follow.

    This also works for a tenant whose file is not applied yet, because its consumer needs the key first. Raises PermanentError if there is
    no key to hand over: the manifests are not signed, and the destination is no SFTP server or its connection holds no key.
    """
    from waybill.destinations.sftp.keys import public_keys

    file = installation.configuration.file_of(tenant)
    registration = file.registration if file else installation.registered(tenant).registration
    spec = registration.destination or installation.configuration.policy.destination
    signing = _signing_keys(installation, tenant)
    if not isinstance(spec, SftpDestination):
        if signing:
            return signing
        raise PermanentError(tell("call.no_login_key", tenant=tenant, kind=spec.kind), code="no_key")
    with installation.ledger.read() as connection:
        kept = destinations.last_probe(connection, tenant)
    used = (kept.found or {}).get("login_key", "") if kept else ""
    try:
        keys = public_keys(installation.connections(spec.connection))
    except PermanentError as error:
        if not signing or error.code != "no_key":
            raise
        keys = []
    login = [{**key, "connection": spec.connection, "use": "login", "in_use": key["fingerprint"] in used.split()} for key in keys]
    return login + signing


def _signing_keys(installation: Installation, tenant: str) -> list[dict[str, Any]]:
    """Return the public keys of whoever signs the tenant's manifests, the one in use first."""
    signer = installation.signer(tenant)
    if signer is None:
        return []
    return [
        {
            "public_key": key.line,
            "fingerprint": key.fingerprint,
            "connection": signer.connection,
            "use": "signing",
            "in_use": number == 0,
            "allowed_signers": key.allowed_signers,
        }
        for number, key in enumerate(signer.public)
    ]


def as_json(found: Probe) -> dict[str, Any]:
    """Return the result of a rehearsal as it is kept and shown, with advice."""
    facts = asdict(found)
    return {**facts, "profile": found.profile.value, "steps": [list(step) for step in found.steps], "advice": ADVICE[found.profile.value]}


def _failure(error: WaybillError, destination: dict[str, Any]) -> FailedRehearsal:
    message = str(error).removesuffix(error.next_step).rstrip() if error.next_step else str(error)
    return {"code": error.code, "what": message, "next_step": error.next_step, "destination": destination}
