"""Registrations: their versions, who made them, and the streams they activate and deactivate."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from pydantic import ValidationError
from sqlalchemy import Connection, Row, func, insert, select, update

from waybill.canonical import is_uuid
from waybill.configuration.registration import Difference, Registration, difference
from waybill.configuration.rules.sharing import one_spelling
from waybill.configuration.values.paths import STORED_EARLIER
from waybill.errors import PermanentError
from waybill.ledger import streams
from waybill.ledger.database.rows import DAMAGED, UNREADABLE, mapping, readable_rows
from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.tables import CopyOf, InData, audit, registration, stream, tenant

FILE_ORIGIN = "file:"
log = logging.getLogger(__name__)


class Diff(TypedDict, total=False):
    """What a version did to entities, by id, and the earlier version whose words it took up again."""

    activated: list[str]
    deactivated: list[str]
    kept: list[str]
    restored_from: int


@dataclass(frozen=True)
class Registered:
    """One version of a tenant's registration. `origin` is `api` or `file:<name>`."""

    tenant: str
    version: int
    body: dict[str, Any]
    origin: str
    actor: str
    diff: Diff
    created_at: datetime

    @property
    def registration(self) -> Registration:
        """Return the registration. Raises PermanentError if this version cannot read it, which stops only that tenant (`readable`)."""
        try:
            return Registration.model_validate(self.body, context=STORED_EARLIER)
        except ValidationError as error:
            raise unreadable(self.tenant, self.version) from error

    @property
    def managed_by_file(self) -> str | None:
        """Return the file that manages this tenant, or None if the API manages it."""
        return self.origin.removeprefix(FILE_ORIGIN) if self.origin.startswith(FILE_ORIGIN) else None


def unreadable(tenant_id: str, version: int) -> PermanentError:
    return PermanentError(
        f"version {version} of the registration can no longer be read",
        where=f"tenant {tenant_id}",
        next_step="Register the tenant again, by its file or the API, or go back to an earlier version; nothing is delivered until then",
        code="registration_unreadable",
    )


def _damaged(tenant_id: str) -> PermanentError:
    return PermanentError(
        "what the ledger holds of the registration cannot be read",
        where=f"tenant {tenant_id}",
        next_step="Restore the tenant's rows from a backup of the ledger; nothing is delivered until then",
        code="registration_unreadable",
    )


def readable(found: Iterable[Registered]) -> list[Registered]:
    """Return the registrations that can be read, and log the others. For loops over all tenants: a bad row must hurt only its tenant."""
    good = []
    for registered in found:
        try:
            _ = registered.registration
        except PermanentError as error:
            log.error("%s", error)
        else:
            good.append(registered)
    return good


class Provenance(NamedTuple):
    """The origin of a version: `api` or `file:<name>`, the actor, and the earlier version that it restores, if any."""

    origin: str
    actor: str
    restored: int | None = None


class Recorded(NamedTuple):
    """The version in force after a replace, what that switched on and off, whether the replace made the version, and the one before."""

    version: int
    difference: Difference
    changed: bool
    before: Registered | None


class LostUpdate(Exception):
    """Somebody recorded a newer version in between."""


def _registered(row: Row[Any]) -> Registered:
    """Return a row's version. A version whose body is no JSON object is returned, too, and its `Registered.registration` cannot be read."""
    values = dict(row._mapping)
    body, diff = mapping(values["body"]), mapping(values["diff"])
    return Registered(**values | {"body": UNREADABLE if body is None else body, "diff": diff or {}})


def current(connection: Connection, tenant_id: str) -> Registered | None:
    """Return the version in force, or None for an unknown tenant."""
    query = (
        select(registration)
        .join(tenant, (tenant.c.id == registration.c.tenant) & (tenant.c.version == registration.c.version))
        .where(tenant.c.id == tenant_id)
    )
    try:
        row = connection.execute(query).one_or_none()
    except DAMAGED as error:
        raise _damaged(tenant_id) from error
    return None if row is None else _registered(row)


def version(connection: Connection, tenant_id: str, number: int) -> Registered:
    """Return one recorded version. Raises SQLAlchemy's NoResultFound if there is none."""
    query = select(registration).where(registration.c.tenant == tenant_id, registration.c.version == number)
    try:
        return _registered(connection.execute(query).one())
    except DAMAGED as error:
        raise _damaged(tenant_id) from error


def all_current(connection: Connection, only: Collection[str] | None = None) -> list[Registered]:
    """Return the version in force of every tenant, or of `only` these, by tenant id."""
    query = (
        select(registration)
        .join(tenant, (tenant.c.id == registration.c.tenant) & (tenant.c.version == registration.c.version))
        .where(*(() if only is None else (tenant.c.id.in_(list(only)),)))
        .order_by(tenant.c.id)
    )
    return readable_rows(connection, query, tenant.c.id, _registered)


def history(connection: Connection, tenant_id: str) -> list[Registered]:
    """Return every version, newest first."""
    query = select(registration).where(registration.c.tenant == tenant_id).order_by(registration.c.version.desc())
    return [_registered(row) for row in connection.execute(query)]


def unchanged_since(connection: Connection, tenant_id: str, fields: Sequence[str]) -> datetime:
    """Return when the body began to say what it says now about these fields."""
    query = select(registration.c.body, registration.c.created_at).where(registration.c.tenant == tenant_id)
    newest, *earlier = connection.execute(query.order_by(registration.c.version.desc())).all()
    since: datetime = newest.created_at
    words = mapping(newest.body) or {}
    for revision in earlier:
        before = mapping(revision.body)  # None for what is no JSON object: nobody knows what it said
        if before is None or any(before.get(name) != words.get(name) for name in fields):
            break
        since = revision.created_at
    return since


def salt(connection: Connection, tenant_id: str) -> bytes:
    """Return the tenant's secret salt for anonymized columns. The first registration makes it."""
    return bytes(connection.execute(select(tenant.c.salt).where(tenant.c.id == tenant_id)).scalar_one())


def _ensure_tenant(connection: Connection, tenant_id: str) -> int:
    # On PostgreSQL the lock queues the writers of one tenant, so that many at once do not make each other retry.
    found = connection.execute(select(tenant.c.version).where(tenant.c.id == tenant_id).with_for_update()).scalar_one_or_none()
    if found is not None:
        if not isinstance(found, int):
            raise _damaged(tenant_id)
        return found
    try:
        with unless_taken(connection, tenant, "pk_tenant"):
            connection.execute(insert(tenant).values(id=tenant_id, version=0, salt=secrets.token_bytes(32)))
    except Taken as error:
        raise LostUpdate from error  # two first registrations at once: the other one was faster
    return 0


def replace(
    connection: Connection,
    tenant_id: str,
    wanted: Registration,
    entities: Sequence[str],
    *,
    by: Provenance,
    now: datetime,
    expected: int | None = None,
) -> Recorded:
    """Make `entities` the active set and record the body as a new version, unless nothing would change.

    Kept entities keep stream, sequence and watermark. Raises LostUpdate, and changes nothing, if the version is not `expected` or another
    caller was faster.
    """
    version = _ensure_tenant(connection, tenant_id)
    if expected is not None and expected != version:
        raise LostUpdate
    before = current(connection, tenant_id)
    change = difference((stream.entity for stream in streams.active(connection, tenant_id)), entities)
    if before is not None and before.body == wanted.body() and before.origin == by.origin and change.is_empty:
        return Recorded(version, change, changed=False, before=before)
    moved = connection.execute(update(tenant).where(tenant.c.id == tenant_id, tenant.c.version == version).values(version=version + 1))
    if moved.rowcount != 1:
        raise LostUpdate
    streams.deactivate(connection, tenant_id, change.deactivated, now)
    try:
        with unless_taken(connection, stream, "uq_stream_active", "uq_stream_tenant"):
            streams.activate(connection, tenant_id, change.activated, now)
    except Taken as error:
        raise LostUpdate from error  # a run activated newly catalogued entities of `export all` just now
    diff: Diff = {"activated": list(change.activated), "deactivated": list(change.deactivated), "kept": list(change.kept)}
    if by.restored is not None:
        diff["restored_from"] = by.restored
    connection.execute(
        insert(registration).values(
            tenant=tenant_id, version=version + 1, body=wanted.body(), origin=by.origin, actor=by.actor, diff=diff, created_at=now
        )
    )
    note(connection, tenant_id, by.actor, "register", {"version": version + 1, "origin": by.origin, **diff}, now)
    return Recorded(version + 1, change, changed=True, before=before)


def note(connection: Connection, tenant_id: str, actor: str, action: str, detail: dict[str, Any], now: datetime) -> None:
    """Append one line to the audit log."""
    connection.execute(insert(audit).values(at=now, tenant=tenant_id, actor=actor, action=action, detail=detail))


def begin_generation(connection: Connection, tenant_id: str, entity: str, reason: str, now: datetime, *, least: int = 1) -> None:
    """Begin the next generation of an entity, numbered `least` or more, and say why in the audit log."""
    streams.begin_generation(connection, tenant_id, entity, now, reason[:255], least=least)
    note(connection, tenant_id, "waybill", "new_generation", {"entity": entity, "reason": reason}, now)


def reading(connection: Connection, source_tenant: str) -> list[str]:
    """Return the tenants that receive the rows of this id in the data. What counts is their `sourceTenant`, else their `copyOf`, else their
    own id. A UUID is found in letters of either case.

    The stored words count, also those of a registration that can no longer be read.
    """
    in_force = (tenant.c.id == registration.c.tenant) & (tenant.c.version == registration.c.version)
    found = select(tenant.c.id).join(registration, in_force)
    named_id = func.lower(InData()) if is_uuid(source_tenant) else InData()
    named = connection.scalars(found.where(named_id == one_spelling(source_tenant)))
    own = connection.scalars(found.where(tenant.c.id == one_spelling(source_tenant), InData().is_(None)))
    return sorted({*named, *own})


def copies(connection: Connection, original: str) -> list[Registered]:
    """Return the registrations in force that name this tenant as their original."""
    query = select(registration).join(tenant, (tenant.c.id == registration.c.tenant) & (tenant.c.version == registration.c.version))
    return [_registered(row) for row in connection.execute(query.where(CopyOf() == original).order_by(tenant.c.id))]


def versions(connection: Connection, tenants: Collection[str]) -> dict[str, int]:
    """Return the version in force of those of these tenants that are registered."""
    rows = connection.execute(select(tenant.c.id, tenant.c.version).where(tenant.c.id.in_(list(tenants))))
    return {row.id: row.version for row in rows}


def ids(connection: Connection) -> list[str]:
    """Return every tenant that was ever registered."""
    return list(connection.scalars(select(tenant.c.id).where(tenant.c.version > 0).order_by(tenant.c.id)))


def known(connection: Connection) -> dict[str, bool]:
    """Return every tenant the ledger knows, and whether it was ever registered. The others have only asked for exports."""
    query = select(tenant.c.id, (tenant.c.version > 0).label("registered")).order_by(tenant.c.id)
    return {row.id: bool(row.registered) for row in connection.execute(query)}
