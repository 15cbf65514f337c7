"""Why a request is refused: every code with its sentence. Where a product document gives the words, they stand here as it gives them."""

from __future__ import annotations

from datetime import timedelta

from waybill.errors import PermanentError

SENTENCES = {
    "context_required": "Select an organization and tenant to view and create exports.",
    "create_denied": "You don’t have permission to create exports. Ask an organization or tenant admin.",
    "view_denied": "You don’t have permission to view exports.",
    "download_denied": "You don’t have permission to download exports.",
    "cancel_denied": "You don’t have permission to cancel this export.",
    "delete_denied": "You don’t have permission to delete this export.",
    "plan_required": "Data export is not part of your plan.",
    "not_found": "There is no such export.",
    "export_in_progress": "Another export is in progress",
    "duplicate_request": "The same export was requested already.",
    "not_ready": "The export is not ready for download yet.",
    "not_active": "The export is not active any more.",
    "not_resubmittable": "Only an export that failed, expired or was cancelled can be requested again.",
    "expired": "The export has expired. Request it again.",
    "link_expired": "The link has expired. Ask for a new one.",
    "idempotency_key_reused": "This Idempotency-Key was used before with another body.",
    "rate_limited": "Too many exports were requested in a short time.",
    "storage_unavailable": "The archive cannot be read just now. Try again later.",
}


class Refused(PermanentError):
    """A call about an export request that cannot be served. `retry_after` says when it may be tried again."""

    def __init__(self, code: str, sentence: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(sentence or SENTENCES[code], code=code)
        self.retry_after = retry_after


def refused(code: str, **more: timedelta | None) -> Refused:
    """The refusal of that code in its own words."""
    return Refused(code, retry_after=more.get("retry_after"))
