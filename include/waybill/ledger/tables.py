"""The tables of the ledger. Constraints, not code, guarantee uniqueness."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant with microseconds. SQLite keeps no zone, so the value is stored naive there and comes back aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the ledger takes aware instants only")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if not isinstance(value, datetime):  # PostgreSQL's infinity, or a year that Python has not
            raise ValueError("an instant that cannot be read")
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class InData(FunctionElement[str]):
    """The id in the data that a registration names: its `sourceTenant`, else its `copyOf`. NULL where it is the tenant's own.

    Written without parameters, so that both databases see that the index which migration 0012 makes of it answers a query. SQLite takes any
    text as JSON: a registration that is none must fail neither the index nor the queries of others.
    """

    type = String()
    inherit_cache = True


class CopyOf(FunctionElement[str]):
    """The tenant that a registration names as its original, or NULL. Written as `InData` is, for an index of its own."""

    type = String()
    inherit_cache = True


@compiles(InData, "sqlite")
def _in_data_sqlite(*_: Any, **__: Any) -> str:
    return "CASE WHEN json_valid(body) THEN coalesce(json_extract(body, '$.sourceTenant'), json_extract(body, '$.copyOf')) END"


@compiles(InData, "postgresql")
def _in_data_postgres(*_: Any, **__: Any) -> str:
    return "coalesce(json_extract_path_text(body, 'sourceTenant'), json_extract_path_text(body, 'copyOf'))"


@compiles(CopyOf, "sqlite")
def _copy_of_sqlite(*_: Any, **__: Any) -> str:
    return "CASE WHEN json_valid(body) THEN json_extract(body, '$.copyOf') END"


@compiles(CopyOf, "postgresql")
def _copy_of_postgres(*_: Any, **__: Any) -> str:
    return "json_extract_path_text(body, 'copyOf')"


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _at(name: str, *, required: bool = False) -> Column[Any]:
    return Column(name, Instant, nullable=not required)


tenant = Table(
    "tenant",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("probe", JSON),
    _at("probed_at"),
)

registration = Table(
    "registration",
    metadata,
    Column("tenant", String(63), ForeignKey("tenant.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("origin", String(255), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("diff", JSON, nullable=False),
    _at("created_at", required=True),
)

stream = Table(
    "stream",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tenant", String(63), ForeignKey("tenant.id"), nullable=False),
    Column("entity", String(63), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("reason", String(255), nullable=False, server_default=""),
    Column("sequence", Integer, nullable=False, server_default="0"),
    _at("watermark"),
    Column("position", JSON(none_as_null=True)),
    Column("sha256", String(64)),
    Column("schema_version", Integer, nullable=False, server_default="1"),
    Column("columns", JSON(none_as_null=True)),
    _at("digests_from"),
    Column("full_load", Boolean, nullable=False, server_default=false()),
    _at("activated_at", required=True),
    _at("deactivated_at"),
    UniqueConstraint("tenant", "entity", "generation"),
    Index("ix_stream_entity", "entity", "id"),
    Index("uq_stream_active", "tenant", "entity", unique=True, sqlite_where=text("active = 1"), postgresql_where=text("active")),
)

_UNLISTED = text("status = 'committed' AND day_number IS NULL AND kind <> 'backfill'")
_UNFED = text("status = 'committed' AND feed_number IS NULL")
_UNSEEN = text("published_at IS NULL")
_REPEATS = text("redelivers IS NOT NULL")
_ABANDONED = text("status = 'abandoned'")

delivery = Table(
    "delivery",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("stream", Integer, ForeignKey("stream.id"), nullable=False),
    Column("tenant", String(63), nullable=False),
    Column("entity", String(63), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    _at("window_from"),
    _at("planned_to", required=True),
    _at("window_to"),
    Column("export_date", String(10), nullable=False),
    Column("folder", String(512), nullable=False),
    Column("stem", String(255), nullable=False),
    Column("previous_sequence", Integer),
    Column("previous_sha256", String(64)),
    Column("registration_version", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("adopted", String(32)),
    Column("redelivers", String(32)),
    Column("note", Text, nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("error_code", String(64), nullable=False, server_default=""),
    Column("failures", Integer, nullable=False, server_default="0"),
    _at("created_at", required=True),
    _at("begun_at"),
    _at("committed_at"),
    Column("day_number", Integer),
    Column("feed_number", Integer),
    Index(
        "uq_delivery_open",
        "stream",
        unique=True,
        sqlite_where=text("status = 'open' AND purpose = 'schedule'"),
        postgresql_where=text("status = 'open' AND purpose = 'schedule'"),
    ),
    Index(
        "uq_delivery_sequence",
        "stream",
        "sequence",
        unique=True,
        sqlite_where=text("purpose = 'schedule' AND status <> 'abandoned'"),
        postgresql_where=text("purpose = 'schedule' AND status <> 'abandoned'"),
    ),
    UniqueConstraint("folder", "stem"),
    Index("ix_delivery_tenant", "tenant", "created_at"),
    Index("ix_delivery_newest", "tenant", "id"),
    Index("ix_delivery_date", "tenant", "export_date", "id"),
    # The columns that the condition fixes come first: SQLite picks the index of which a query gives most columns.
    Index("ix_delivery_open", "status", "tenant", "id", sqlite_where=text("status = 'open'"), postgresql_where=text("status = 'open'")),
    Index("ix_delivery_abandoned", "status", "tenant", "id", sqlite_where=_ABANDONED, postgresql_where=_ABANDONED),
    Index("ix_delivery_unlisted", "tenant", "status", "day_number", "id", sqlite_where=_UNLISTED, postgresql_where=_UNLISTED),
    Index("ix_delivery_unfed", "tenant", "status", "feed_number", "committed_at", "id", sqlite_where=_UNFED, postgresql_where=_UNFED),
    Index("ix_delivery_redelivers", "redelivers", sqlite_where=_REPEATS, postgresql_where=_REPEATS),
)

IS_OPEN = text("delivery.status = 'open'")
IS_ABANDONED = text("delivery.status = 'abandoned'")
IN_SEQUENCE = text("delivery.purpose = 'schedule' AND delivery.status <> 'abandoned'")
UNLISTED = text("delivery.status = 'committed' AND delivery.day_number IS NULL AND delivery.kind <> 'backfill'")
UNFED = text("delivery.status = 'committed' AND delivery.feed_number IS NULL")
"""The conditions of partial indexes, as literals: SQLite does not use a partial index for a condition with parameters."""

attempt = Table(
    "attempt",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("delivery", String(32), ForeignKey("delivery.id"), nullable=False, index=True),
    _at("window_to", required=True),
    Column("position_from", JSON(none_as_null=True)),
    Column("position_to", JSON(none_as_null=True)),
    _at("snapshot_time", required=True),
    Column("schema_version", Integer, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("possible_duplicate", Boolean, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    _at("digests_from"),
    _at("recorded_at", required=True),
    _at("publishing_at"),
)

digest = Table(
    "digest",
    metadata,
    Column("attempt", String(32), ForeignKey("attempt.id"), primary_key=True),
    Column("chunk", Integer, primary_key=True),
    Column("stream", Integer, ForeignKey("stream.id"), nullable=False, index=True),
    Column("digests", LargeBinary, nullable=False),
)

key_change = Table(
    "key_change",
    metadata,
    Column("attempt", String(32), ForeignKey("attempt.id"), primary_key=True),
    Column("stream", Integer, ForeignKey("stream.id"), nullable=False, index=True),
    Column("sequence", Integer, nullable=False),
    Column("made_of", JSON, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("after", Integer, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("blobs", JSON, nullable=False),
    _at("compared_at"),
    Column("number", Integer),
    UniqueConstraint("stream", "number"),
)

key_blob = Table(
    "key_blob",
    metadata,
    Column("attempt", String(32), ForeignKey("key_change.attempt"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

day = Table(
    "day",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("export_date", String(10), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("document", LargeBinary, nullable=False),
    _at("created_at", required=True),
    _at("published_at"),
    Index("ix_day_unpublished", "tenant", "published_at", "export_date", "number", sqlite_where=_UNSEEN, postgresql_where=_UNSEEN),
)

feed = Table(
    "feed",
    metadata,
    Column("tenant", String(63), ForeignKey("tenant.id"), primary_key=True),
    Column("id", String(32), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("last", Integer, nullable=False),
    Column("problem", Text, nullable=False, server_default=""),
    Column("readme", String(64), nullable=False, server_default=""),
    Column("version", Integer, nullable=False, server_default="0"),
)

feed_entry = Table(
    "feed_entry",
    metadata,
    Column("feed", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("entry", Text, nullable=False),
)

feed_page = Table(
    "feed_page",
    metadata,
    Column("feed", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("document", LargeBinary),
    _at("published_at"),
)

signature = Table(
    "signature",
    metadata,
    Column("document", String(64), primary_key=True),
    Column("tenant", String(63), nullable=False, index=True),
    Column("text", Text, nullable=False),
    _at("signed_at", required=True),
)
"""Signatures of published documents, by the document's SHA-256."""

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    _at("at", required=True),
    Column("tenant", String(63), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("action", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("ix_audit_tenant", "tenant", "at"),
)

breaker = Table(
    "breaker",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    _at("open_until"),
)

_RAISED = text("cleared_at IS NULL")
_OWED = text("state = 'owed'")

alarm = Table(
    "alarm",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("event", String(16), nullable=False),
    Column("detail", JSON, nullable=False),
    _at("raised_at", required=True),
    _at("cleared_at"),
    Index("uq_alarm_raised", "tenant", "event", unique=True, sqlite_where=_RAISED, postgresql_where=_RAISED),
)

notice = Table(
    "notice",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("event", String(16), nullable=False),
    Column("alarm", Integer, ForeignKey("alarm.id"), index=True),
    Column("delivery", String(32)),
    Column("channel", JSON, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("error", Text, nullable=False, server_default=""),
    _at("created_at", required=True),
    _at("due_at", required=True),
    _at("claimed_at"),
    _at("sent_at"),
    Index("ix_notice_owed", "tenant", "due_at", sqlite_where=_OWED, postgresql_where=_OWED),
)
"""Messages that people are owed, one row for each channel. `state` is a word of `waybill.states.NoticeState`."""

IS_RAISED = text("alarm.cleared_at IS NULL")
IS_OWED = text("notice.state = 'owed'")
