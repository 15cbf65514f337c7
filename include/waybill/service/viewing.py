"""Facts for people and programs: deliveries with their attempts, as plain data with the manifest's words."""

from __future__ import annotations

from typing import Any

from waybill.documents import placed, target_of
from waybill.ledger import deliveries
from waybill.ledger.deliveries import Attempt, Delivery
from waybill.manifest import instant
from waybill.service.estate import Estate


def describe(one: Delivery, attempt: Attempt | None = None) -> dict[str, Any]:
    """A delivery as JSON. `path` and `manifest` are below the destination's root; counts are null until it is committed."""
    target = placed(one, attempt) if attempt else target_of(one, compression="none", parts=False)
    path = f"{target.folder}/{attempt.files[0]['path']}" if attempt and len(attempt.files) == 1 else target.data
    return {
        "delivery_id": one.id,
        "tenant": one.tenant,
        "entity": one.entity,
        "generation": one.generation,
        "sequence": one.sequence,
        "purpose": one.purpose,
        "kind": one.kind,
        "status": one.status,
        "window": {"from": instant(one.window_from), "to": instant(one.window_to or one.planned_to)},
        "export_date": one.export_date,
        "path": target.folder if attempt and len(attempt.files) > 1 else path,
        "manifest": target.manifest,
        "rows": attempt.rows if attempt else None,
        "bytes": attempt.bytes if attempt else None,
        "sha256": attempt.sha256 if attempt else None,
        "files": attempt.files if attempt else [],
        "possible_duplicate": attempt.possible_duplicate if attempt else None,
        "note": one.note,
        "error": one.error or None,
        "error_code": one.error_code or None,
        "failures": one.failures,
        "created_at": instant(one.created_at),
        "committed_at": instant(one.committed_at),
    }


def listed(
    estate: Estate, tenant: str | None = None, *, entity: str = "", status: str = "", limit: int = 1000, before: str = ""
) -> list[dict[str, Any]]:
    """Deliveries, newest first. Raises PermanentError for an unknown tenant."""
    if tenant is not None:
        estate.registered(tenant)
    with estate.ledger.begin() as connection:
        found = deliveries.listed(connection, tenant, entity=entity, status=status, limit=limit, before=before)
        adopted = deliveries.adopted_of(connection, found)
    return [describe(one, adopted.get(one.id)) for one in found]
