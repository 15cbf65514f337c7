"""Export requests in the ledger. Every change of state is one conditional update on (id, status, attempt); False: somebody was faster."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, insert, or_, select, update

from waybill.ledger.database.rows import readable_rows, require
from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.on_demand.request_records import ACTIVE, ExportFile, ExportRequest, Failure, Status
from waybill.ledger.on_demand.request_tables import export_file, export_request, link_key
from waybill.ledger.tables import audit
from waybill.ledger.tables import tenant as tenants_table

_t = export_request.c
_COUNTING = 7_236_146  # any number of ours: PostgreSQL's advisory lock around counting a tenant's active requests
CREATED = "create_export"
"""The audit log's word for a new request."""


def _request(row: Row[Any]) -> ExportRequest:
    """Raises TypeError for one that cannot be read any more."""
    values = require(row, tenants=list, scope=dict, entities=list, range_asked=dict, formats=list, submission=dict, progress=int)
    if not isinstance(values["roles"], list | None):
        raise TypeError("roles")
    return ExportRequest(**values)


_ONE_OF_A_KIND = "uq_export_request_active", "uq_export_request_standing", "uq_export_request_key"


def create(connection: Connection, request: ExportRequest) -> bool:
    """Insert a pending request, or nothing when its slot, its fingerprint or its idempotency key is taken."""
    try:
        with unless_taken(connection, export_request, *_ONE_OF_A_KIND):
            connection.execute(insert(export_request).values(**asdict(request)))
    except Taken:
        return False
    return True


def get(connection: Connection, request_id: str) -> ExportRequest | None:
    row = connection.execute(select(export_request).where(_t.id == request_id)).one_or_none()
    return None if row is None else _request(row)


def by_key(connection: Connection, tenant: str, person: str, key: str) -> ExportRequest | None:
    """Return the request a person made under an idempotency key."""
    query = select(export_request).where(_t.tenant == tenant, _t.requested_by == person, _t.idempotency_key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else _request(row)


def one_at_a_time(connection: Connection, tenant: str) -> None:
    """Keep other transactions from counting what this tenant has active, until this one ends. A SQLite ledger has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_COUNTING, func.hashtext(tenant))))


def taken_slots(connection: Connection, tenant: str) -> set[str]:
    """Return the slots that active requests of the tenant have taken."""
    query = select(_t.slot).where(_t.tenant == tenant, _t.slot.is_not(None), _t.status.in_(ACTIVE))
    return {str(slot) for slot in connection.execute(query).scalars()}


def standing(connection: Connection, tenant: str, fingerprint: str) -> bool:
    """Return whether an equal request is pending, running or done."""
    query = select(func.count()).where(_t.tenant == tenant, _t.fingerprint == fingerprint, _t.status.in_([*ACTIVE, Status.DONE]))
    return bool(connection.execute(query).scalar_one())


def created_since(connection: Connection, tenant: str, since: datetime) -> list[datetime]:
    """Return the times after `since` at which requests were made, oldest first. Deleted requests count, too."""
    query = select(audit.c.at).where(audit.c.tenant == tenant, audit.c.action == CREATED, audit.c.at > since).order_by(audit.c.at)
    return list(connection.execute(query).scalars())


def _is_shown_as(status: Status, now: datetime) -> ColumnElement[bool]:
    over = and_(_t.status == Status.DONE, _t.expires_at.is_not(None), _t.expires_at <= now)
    if status is Status.EXPIRED:
        return or_(_t.status == status, over)
    return and_(_t.status == status, ~over) if status is Status.DONE else _t.status == status


def listed(
    connection: Connection,
    tenants: Collection[str],
    now: datetime,
    *,
    statuses: Collection[Status] = (),
    person: str | None = None,
    template: str | None = None,
    limit: int = 50,
    before: str = "",
) -> list[ExportRequest]:
    """Return requests, newest first. The list goes on after the request with the id `before`."""
    query = select(export_request).where(_t.tenant.in_(tenants)).order_by(_t.id.desc()).limit(limit)
    if statuses:
        query = query.where(or_(*(_is_shown_as(status, now) for status in statuses)))
    if person is not None:
        query = query.where(_t.requested_by == person)
    if template is not None:
        query = query.where(_t.template == template)
    if before:
        query = query.where(_t.id < before)
    return readable_rows(connection, query, _t.id, _request)


def pending(connection: Connection, due: datetime | None = None) -> list[ExportRequest]:
    """Return pending requests in the order they were made. With `due`, only those that may start by then."""
    query = select(export_request).where(_t.status == Status.PENDING).order_by(_t.id)
    if due is not None:
        query = query.where(_t.due_at <= due)
    return readable_rows(connection, query, _t.id, _request)


def running(connection: Connection, tenant: str | None = None) -> list[ExportRequest]:
    query = select(export_request).where(_t.status == Status.RUNNING)
    if tenant is not None:
        query = query.where(_t.tenant == tenant)
    return readable_rows(connection, query, _t.id, _request)


def _move(connection: Connection, request: ExportRequest, **values: Any) -> bool:
    """Change a request by one conditional update, from exactly the status and attempt that were read. Every move uses it."""
    same = and_(_t.id == request.id, _t.status == request.status, _t.attempt == request.attempt)
    return connection.execute(update(export_request).where(same).values(**values)).rowcount == 1


def claim(connection: Connection, request: ExportRequest, worker: str, now: datetime) -> ExportRequest | None:
    """Move a request from pending to running, as a new attempt. Returns None if the request is no longer pending."""
    if request.status != Status.PENDING:
        return None
    moved = _move(
        connection, request, status=Status.RUNNING, attempt=request.attempt + 1, started_at=now, heartbeat_at=now, worker=worker[:255]
    )
    return get(connection, request.id) if moved else None


def beat(connection: Connection, request: ExportRequest, progress: int, now: datetime) -> bool:
    """Record that a running attempt is alive, and its progress. Progress never falls, and 100 is kept for done."""
    reached = min(progress, 99)
    return _move(connection, request, heartbeat_at=now, progress=case((_t.progress < reached, reached), else_=_t.progress))


def publish(
    connection: Connection, request: ExportRequest, files: Sequence[ExportFile], values: dict[str, Any], mail: str | None, now: datetime
) -> bool:
    """Move a request from running to done, with the facts of its archive.

    Returns False if the attempt is no longer the running one. Then its archive must not be published.
    """
    done = {"status": Status.DONE, "progress": 100, "finished_at": now, "heartbeat_at": now, **values, **_outbox(mail, now)}
    if not _move(connection, request, **done):
        return False
    if files:
        connection.execute(insert(export_file), [{"request": request.id, **asdict(file)} for file in files])
    return True


def fail(connection: Connection, request: ExportRequest, why: Failure, mail: str | None, now: datetime) -> bool:
    """Move a pending or running request to failed."""
    reason = {"error_code": why.code, "error_message": why.message, "error_advice": why.advice}
    return request.is_active and _move(connection, request, status=Status.FAILED, finished_at=now, **reason, **_outbox(mail, now))


def _outbox(mail: str | None, now: datetime) -> dict[str, Any]:
    return {"mail": mail, "mail_due_at": now} if mail else {}


def cancel(connection: Connection, request: ExportRequest, now: datetime) -> bool:
    """Move a pending or running request to cancelled. Its slot is free at once."""
    return request.is_active and _move(connection, request, status=Status.CANCELLED, finished_at=now)


def expire(connection: Connection, now: datetime, tenant: str | None = None) -> int:
    """Move every done request whose time is over to expired. The name of its archive stays until the file is removed."""
    over = [_t.status == Status.DONE, _t.expires_at <= now]
    if tenant is not None:
        over.append(_t.tenant == tenant)
    return connection.execute(update(export_request).where(*over).values(status=Status.EXPIRED)).rowcount


def remove(connection: Connection, request: ExportRequest) -> bool:
    """Delete the row with its files, from exactly the state that was read."""
    same = and_(_t.id == request.id, _t.status == request.status, _t.attempt == request.attempt)
    return connection.execute(delete(export_request).where(same)).rowcount == 1


def downloaded(connection: Connection, request: ExportRequest, now: datetime) -> None:
    """Remember the first download."""
    connection.execute(update(export_request).where(_t.id == request.id, _t.downloaded_at.is_(None)).values(downloaded_at=now))


def files_of(connection: Connection, request_id: str) -> list[ExportFile]:
    query = (
        select(export_file)
        .where(export_file.c.request == request_id)
        .order_by(export_file.c.tenant, export_file.c.entity, export_file.c.format)
    )
    return [ExportFile(**{key: value for key, value in row._mapping.items() if key != "request"}) for row in connection.execute(query)]


def with_dead_archives(connection: Connection) -> list[ExportRequest]:
    """Return requests that have ended and whose archive may still lie in the store."""
    query = select(export_request).where(_t.status == Status.EXPIRED, _t.archive.is_not(None))
    return readable_rows(connection, query, _t.id, _request)


def forget_archive(connection: Connection, request: ExportRequest) -> None:
    connection.execute(update(export_request).where(_t.id == request.id, _t.status == Status.EXPIRED).values(archive=None))


def archives(connection: Connection) -> set[str]:
    """Return the names of all archives that requests speak of."""
    return set(connection.execute(select(_t.archive).where(_t.archive.is_not(None))).scalars())


def ended_before(connection: Connection, tenant: str, before: datetime) -> list[ExportRequest]:
    """Return requests of a tenant that ended at or before an instant, expired ones counted from their expiry."""
    ended = case((_t.expires_at.is_not(None), _t.expires_at), else_=_t.finished_at)
    query = select(export_request).where(_t.tenant == tenant, _t.status.not_in([*ACTIVE, Status.DONE]), ended <= before)
    return readable_rows(connection, query, _t.id, _request)


def tenants(connection: Connection) -> list[str]:
    """Return every tenant that has requests."""
    return sorted(connection.execute(select(_t.tenant).distinct()).scalars())


def salt(connection: Connection, tenant: str) -> bytes:
    """Return the tenant's secret salt for anonymized columns. A tenant that was never registered gets one, too."""
    query = select(tenants_table.c.salt).where(tenants_table.c.id == tenant)
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        with suppress(Taken), unless_taken(connection, tenants_table, "pk_tenant"):  # somebody else may make it just now
            connection.execute(insert(tenants_table).values(id=tenant, version=0, salt=secrets.token_bytes(32)))
        found = connection.execute(query).scalar_one()
    return bytes(found)


MAIL_LEASE = timedelta(minutes=5)


def mails_due(connection: Connection, now: datetime) -> list[ExportRequest]:
    """Return requests whose mail is to be sent now and that nobody else is sending."""
    free = or_(_t.mail_claimed_at.is_(None), _t.mail_claimed_at <= now - MAIL_LEASE)
    query = (
        select(export_request)
        .where(_t.mail.is_not(None), _t.mail_sent_at.is_(None), _t.mail_due_at <= now, free)
        .order_by(_t.mail_due_at, _t.id)
    )
    return readable_rows(connection, query, _t.id, _request)


def claim_mail(connection: Connection, request: ExportRequest, now: datetime) -> bool:
    """Take a mail to send it. False when somebody else has it."""
    seen = _t.mail_claimed_at.is_(None) if request.mail_claimed_at is None else _t.mail_claimed_at == request.mail_claimed_at
    same = and_(_t.id == request.id, _t.mail == request.mail, _t.mail_sent_at.is_(None), _t.mail_tries == request.mail_tries, seen)
    return connection.execute(update(export_request).where(same).values(mail_claimed_at=now)).rowcount == 1


def mail_sent(connection: Connection, request: ExportRequest, now: datetime) -> None:
    connection.execute(update(export_request).where(_t.id == request.id).values(mail_sent_at=now, mail_tries=request.mail_tries + 1))


def mail_postponed(connection: Connection, request: ExportRequest, until: datetime | None) -> None:
    """Let the mail be tried again at `until`. With None it is never tried again, because there is nothing left to tell."""
    values: dict[str, Any] = {"mail_due_at": until, "mail_tries": request.mail_tries + 1, "mail_claimed_at": None}
    if until is None:
        values["mail"] = None
    connection.execute(update(export_request).where(_t.id == request.id).values(**values))


def keys(connection: Connection, now: datetime) -> tuple[bytes, ...]:
    """Return all keys, newest first. The first call makes one, and two first calls at the same time agree on it."""
    found = _stored(connection)
    if not found:
        try:
            with unless_taken(connection, link_key, "pk_link_key"):
                connection.execute(insert(link_key).values(id=1, secret=secrets.token_bytes(32), created_at=now))
        except Taken:
            pass  # somebody else made the first one just now
        found = _stored(connection)
    return found


def _stored(connection: Connection) -> tuple[bytes, ...]:
    return tuple(bytes(scalar) for scalar in connection.execute(select(link_key.c.secret).order_by(link_key.c.id.desc())).scalars())
