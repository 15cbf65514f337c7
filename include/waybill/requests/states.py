"""The rules of one export request: its labels, its progress, when it has stalled, and the words of refusals."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from waybill.configuration.policy import ExportPolicy
from waybill.errors import PermanentError
from waybill.language import table, tell
from waybill.ledger.on_demand.request_records import ExportRequest, Failure, Status


def label(export_policy: ExportPolicy, status: str, progress: int) -> str:
    """The state in the words of policy; page, mail and API all ask here. A state policy has no word for is its own."""
    words = str(getattr(export_policy.labels, status, status))
    return words.replace("{progress}", str(progress))


def name_of(export_policy: ExportPolicy, status: Status) -> str:
    """The label of a state in general, without the percentage of a particular request."""
    words: str = getattr(export_policy.labels, status.value)
    return re.sub(r"\s*\(?\{progress\}\s*%?\)?", "", words).strip() or words


def needs_support(request: ExportRequest, export_policy: ExportPolicy, now: datetime) -> bool:
    """Whether a running request has taken so long that people should be told whom to ask."""
    waiting = export_policy.support_after
    return (
        waiting is not None and request.status == Status.RUNNING and request.started_at is not None and request.started_at + waiting <= now
    )


def stalled(request: ExportRequest, stall_after: timedelta, now: datetime) -> bool:
    """Whether a running request has gone without a sign of life for the whole stall time."""
    seen = request.heartbeat_at or request.started_at
    return request.status == Status.RUNNING and seen is not None and seen + stall_after <= now


def advice(request: ExportRequest, export_policy: ExportPolicy) -> str:
    """What to do about a failed request, and whom to tell if it fails again: the house's support address where policy names one."""
    if request.error_code in YOURS:
        return request.error_advice or ""
    contact, words = export_policy.support_contact, export_policy.words
    whom = tell("mail.contact", words, contact=contact) if contact else tell("mail.operator", words)
    return " ".join(part for part in (request.error_advice, whom) if part)


YOURS = ("permission_revoked", "unknown_scope", "row_limit_format")
"""Failures that whoever asked can mend, by asking otherwise; nobody else needs to hear of them."""


FAILURES = ("stalled", "permission_revoked", "storage_full", "internal")
"""Codes of failures with words of their own, whatever the error said that led to them."""


def failure(code: str, because: str = "") -> Failure:
    """Why a request failed, in words of the language file. `because` tells two causes of one code apart, such as `internal_storage`."""
    key = f"{code}{because}"
    return Failure(code, tell(f"failures.{key}"), tell(f"failures.{key}_advice"))


WRITING, PACKING = 90, 99
"""Per cent reached when all rows are written, and when the archive is whole; 100 comes with done alone."""


def written_progress(rows: int, expected: int) -> int:
    """Per cent after `rows` of about `expected` rows were written."""
    return WRITING if expected <= 0 else min(WRITING, rows * WRITING // expected)


def packed_progress(packed: int, size: int) -> int:
    """Per cent after `packed` of `size` bytes were put into the archive."""
    return PACKING if size <= 0 else min(PACKING, WRITING + packed * (PACKING - WRITING) // size)


SENTENCES = table("refusals")
"""What each refusal says, by its code."""


class Refused(PermanentError):
    """A call about an export request that cannot be served. `retry_after` says when it may be tried again."""

    def __init__(self, code: str, sentence: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(sentence or SENTENCES[code], code=code)
        self.retry_after = retry_after


def refused(code: str, **more: timedelta | None) -> Refused:
    """The refusal of that code in its own words."""
    return Refused(code, retry_after=more.get("retry_after"))
