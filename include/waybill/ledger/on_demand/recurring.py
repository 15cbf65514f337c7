"""Recurring export requests in the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import Connection, Row, delete, insert, select, update

from waybill.ledger.database.rows import readable_rows, require
from waybill.ledger.on_demand.request_tables import export_template

_t = export_template.c


class Stored(TypedDict):
    """What a template asks for: a body of a request, for these tenants, of the period that ended or of everything."""

    covers: str
    request: dict[str, Any]
    tenants: list[str]


@dataclass(frozen=True)
class Template:
    """A request that is made again at every `frequency`. `note` tells why the last one could not be made, empty when it was."""

    id: str
    tenant: str
    name: str
    frequency: str
    submission: Stored
    requested_by: str
    requester_name: str
    email: str
    roles: list[str] | None
    paused: bool
    created_at: datetime
    next_at: datetime
    note: str


def create(connection: Connection, template: Template) -> None:
    connection.execute(insert(export_template).values(**asdict(template)))


def _template(row: Row[Any]) -> Template:
    """Raises TypeError for one that cannot be read any more."""
    values = require(row, submission=dict)
    asked = values["submission"]
    if not (isinstance(asked.get("request"), dict) and isinstance(asked.get("tenants"), list) and isinstance(asked.get("covers"), str)):
        raise TypeError("submission")
    return Template(**values)


def listed(connection: Connection, tenant: str) -> list[Template]:
    """Return a tenant's templates, newest first."""
    query = select(export_template).where(_t.tenant == tenant).order_by(_t.id.desc())
    return readable_rows(connection, query, _t.id, _template)


def due(connection: Connection, now: datetime) -> list[Template]:
    """Return templates whose next request is to be made by now."""
    query = select(export_template).where(_t.paused.is_(False), _t.next_at <= now).order_by(_t.next_at)
    return readable_rows(connection, query, _t.id, _template)


def advance(connection: Connection, template: Template, next_at: datetime, note: str) -> bool:
    """Move a template to its next time, if it is still at exactly the time that was read."""
    same = (_t.id == template.id, _t.next_at == template.next_at)
    return connection.execute(update(export_template).where(*same).values(next_at=next_at, note=note)).rowcount == 1


def pause(connection: Connection, template_id: str, paused: bool, next_at: datetime) -> bool:
    """Pause a template, or resume it. A resumed template begins with its next time, and what it missed is not made up for."""
    same = (_t.id == template_id, _t.paused.is_(not paused))
    return connection.execute(update(export_template).where(*same).values(paused=paused, next_at=next_at)).rowcount == 1


def remove(connection: Connection, template_id: str) -> bool:
    return connection.execute(delete(export_template).where(_t.id == template_id)).rowcount == 1
