"""One export request, its files and why it failed, as the ledger keeps them. The rules that read them are in `waybill.requests`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict


class Status(StrEnum):
    """The states of a request.

    `pending` -claim-> `running` -publish-> `done` -expires-> `expired`; `running` or `pending` end in `failed` or `cancelled`.
    """

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


RangeAsked = TypedDict("RangeAsked", {"preset": str, "from": str | None, "to": str | None}, total=False)
"""A range as it was asked for. A preset has its dates beside it, frozen at that time."""

ACTIVE = (Status.PENDING, Status.RUNNING)


@dataclass(frozen=True)
class Failure:
    """Why a request failed: a code, one sentence, and what to do. Never a stack trace, a secret or a row."""

    code: str
    message: str
    advice: str = ""


@dataclass(frozen=True)
class ExportFile:
    """The rows of one entity in one format. Formats that hold all entities in one file repeat its path, bytes and hash per entity."""

    tenant: str
    entity: str
    format: str
    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One request as the ledger keeps it.

    `status` is the stored one: `shown` tells what it is now. `slot` is what one active request at a time may hold, None where policy sets
    no limit. `roles` are those of the requester's token, None when another authority than policy's role table decides. `tenants` are those
    the export covers, more than one for an organization only. `due_at` is when it may start. `rows` counts records, `bytes` the archive;
    both are None until done. A new request leaves out what has a default.
    """

    id: str
    tenant: str
    tenants: list[str]
    export_type: str | None
    scope: dict[str, Any]
    project: str | None
    entities: list[str]
    range_from: datetime | None
    range_to: datetime | None
    range_asked: RangeAsked
    formats: list[str]
    submission: dict[str, Any]
    status: str
    progress: int
    rows: int | None = None
    bytes: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_advice: str | None = None
    requested_by: str
    requester_name: str
    email: str
    roles: list[str] | None
    created_at: datetime
    due_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    heartbeat_at: datetime | None = None
    downloaded_at: datetime | None = None
    attempt: int
    worker: str
    resubmitted_from: str | None
    template: str | None
    idempotency_key: str | None
    body_hash: str
    slot: str | None = None
    fingerprint: str | None = None
    archive: str | None = None
    sha256: str | None = None
    mail: str | None = None
    mail_due_at: datetime | None = None
    mail_claimed_at: datetime | None = None
    mail_sent_at: datetime | None = None
    mail_tries: int

    def shown(self, now: datetime) -> str:
        """Return the state as of `now`. A done request counts as expired from the instant `expires_at`, even before housekeeping has
        looked.

        The state is one of `Status`, or the unchanged word of a newer version of Waybill.
        """
        if self.status == Status.DONE and self.expires_at is not None and self.expires_at <= now:
            return Status.EXPIRED
        return Status(self.status) if self.status in tuple(Status) else self.status

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE
