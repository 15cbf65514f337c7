"""The tables of on-demand exports. One active request per slot, no duplicates, one request per key: unique indexes, not code."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from waybill.ledger.tables import Instant, metadata

__all__ = ["metadata"]

ACTIVE = text("slot IS NOT NULL AND status IN ('pending', 'running')")
MAIL_WAITS = text("mail IS NOT NULL AND mail_sent_at IS NULL")
STANDING = text("fingerprint IS NOT NULL AND status IN ('pending', 'running', 'done')")

export_request = Table(
    "export_request",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("tenants", JSON, nullable=False),
    Column("export_type", String(200)),
    Column("scope", JSON, nullable=False),
    Column("project", String(200)),
    Column("entities", JSON, nullable=False),
    Column("range_from", Instant),
    Column("range_to", Instant),
    Column("range_asked", JSON, nullable=False),
    Column("formats", JSON, nullable=False),
    Column("submission", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("progress", Integer, nullable=False),
    Column("rows", BigInteger),
    Column("bytes", BigInteger),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("error_advice", Text),
    Column("requested_by", String(255), nullable=False),
    Column("requester_name", String(255), nullable=False),
    Column("email", String(320), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("expires_at", Instant),
    Column("heartbeat_at", Instant),
    Column("downloaded_at", Instant),
    Column("attempt", Integer, nullable=False),
    Column("worker", String(255), nullable=False),
    Column("resubmitted_from", String(32)),
    Column("template", String(32), index=True),
    Column("idempotency_key", String(255)),
    Column("body_hash", String(64), nullable=False),
    Column("slot", String(255)),
    Column("fingerprint", String(64)),
    Column("archive", String(512)),
    Column("sha256", String(64)),
    Column("mail", String(16)),
    Column("mail_due_at", Instant),
    Column("mail_claimed_at", Instant),
    Column("mail_sent_at", Instant),
    Column("mail_tries", Integer, nullable=False),
    Index("uq_export_request_active", "tenant", "slot", unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE),
    Index("uq_export_request_standing", "tenant", "fingerprint", unique=True, sqlite_where=STANDING, postgresql_where=STANDING),
    Index("uq_export_request_key", "tenant", "requested_by", "idempotency_key", unique=True),
    Index("ix_export_request_listed", "tenant", "id"),
    Index("ix_export_request_status", "status", "due_at"),
    Index("ix_export_request_mail", "mail_due_at", sqlite_where=MAIL_WAITS, postgresql_where=MAIL_WAITS),
)

export_file = Table(
    "export_file",
    metadata,
    Column("request", String(32), ForeignKey("export_request.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant", String(63), primary_key=True),
    Column("entity", String(63), primary_key=True),
    Column("format", String(16), primary_key=True),
    Column("path", String(512), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
)

export_template = Table(
    "export_template",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("frequency", String(16), nullable=False),
    Column("submission", JSON, nullable=False),
    Column("requested_by", String(255), nullable=False),
    Column("requester_name", String(255), nullable=False),
    Column("email", String(320), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("note", Text, nullable=False),
    Index("ix_export_template_next", "next_at"),
)

link_key = Table(
    "link_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("secret", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
)
