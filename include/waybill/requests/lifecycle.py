"""The rules of one export request: its labels, its progress, when it has stalled, and the sentences of refusals."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from waybill.configuration.policy import ExportPolicy
from waybill.errors import Finding, PermanentError
from waybill.language import table, tell
from waybill.ledger.on_demand.request_records import ExportRequest, Failure, Status


def label(export_policy: ExportPolicy, status: str, progress: int) -> str:
    """Return the label of a state from policy, for page, mail and API. A state without a label is its own."""
    words = str(getattr(export_policy.labels, status, status))
    return words.replace("{progress}", str(progress))


def name_of(export_policy: ExportPolicy, status: Status) -> str:
    """Return the label of a state without the percentage of a particular request."""
    words: str = getattr(export_policy.labels, status.value)
    return re.sub(r"\s*\(?\{progress\}\s*%?\)?", "", words).strip() or words


def needs_support(request: ExportRequest, export_policy: ExportPolicy, now: datetime) -> bool:
    """Return whether a running request has taken so long that the page names the support."""
    waiting = export_policy.support_after
    return (
        waiting is not None and request.status == Status.RUNNING and request.started_at is not None and request.started_at + waiting <= now
    )


def stalled(request: ExportRequest, stall_after: timedelta, now: datetime) -> bool:
    """Return whether a running request has had no sign of life for the whole stall time."""
    seen = request.heartbeat_at or request.started_at
    return request.status == Status.RUNNING and seen is not None and seen + stall_after <= now


def advice(request: ExportRequest, export_policy: ExportPolicy) -> str:
    """Return what to do about a failed request, and whom to tell if it fails again: policy's support address if it names one."""
    if request.error_code in YOURS:
        return request.error_advice or ""
    contact = export_policy.support_contact
    whom = tell("mail.contact", contact=contact) if contact else tell("mail.operator")
    return " ".join(part for part in (request.error_advice, whom) if part)


YOURS = ("permission_revoked", "unknown_scope", "no_longer_offered", "row_limit_format")
"""Failures that the requester can mend with another request. Nobody else needs to hear of them."""


FAILURES = ("stalled", "permission_revoked", "storage_full", "internal")
"""Codes of failures with words of their own, whatever the error said that led to them."""


def failure(code: str, because: str = "") -> Failure:
    """Return why a request failed, in words of the language file.

    `because` tells two causes of one code apart, such as `internal_storage`.
    """
    key = f"{code}{because}"
    return Failure(code, tell(f"failures.{key}"), tell(f"failures.{key}_advice"))


def failed_by(code: str, findings: Iterable[Finding]) -> Failure:
    """Return what is wrong with a request as the reason why it failed."""
    words = "; ".join(found.reason for found in findings)
    return Failure(code, f"{words[:1].upper()}{words[1:]}.", tell(f"failures.{code}_advice"))


WRITING, PACKING = 90, 99
"""Per cent after all rows are written, and after the archive is complete. Only `done` has 100."""


def written_progress(rows: int, expected: int) -> int:
    """Return the progress in per cent after `rows` of about `expected` rows were written."""
    return WRITING if expected <= 0 else min(WRITING, rows * WRITING // expected)


def packed_progress(packed: int, size: int) -> int:
    """Return the progress in per cent after `packed` of `size` bytes were put into the archive."""
    return PACKING if size <= 0 else min(PACKING, WRITING + packed * (PACKING - WRITING) // size)


SENTENCES = table("refusals")
"""The sentence of each refusal, by its code."""


class Refused(PermanentError):
    """A call about an export request that cannot be served. `retry_after` says when it may be tried again."""

    def __init__(self, code: str, sentence: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(sentence or SENTENCES[code], code=code)
        self.retry_after = retry_after


class LinkExpired(Refused):
    """A link whose time is over while its archive is still there: another link leads to it."""

    def __init__(self) -> None:
        super().__init__("expired", SENTENCES["link_expired"])
