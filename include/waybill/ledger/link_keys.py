"""The keys links are signed with, where the environment gives none."""

from __future__ import annotations

import secrets
from datetime import datetime

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from waybill.ledger.request_tables import link_key


def keys(connection: Connection, now: datetime) -> tuple[bytes, ...]:
    """All keys, newest first; the first call makes one. Two first calls at once agree on it."""
    found = _stored(connection)
    if not found:
        try:
            with connection.begin_nested():
                connection.execute(insert(link_key).values(id=1, secret=secrets.token_bytes(32), created_at=now))
        except IntegrityError:
            pass  # somebody else made the first one just now
        found = _stored(connection)
    return found


def _stored(connection: Connection) -> tuple[bytes, ...]:
    return tuple(bytes(one) for one in connection.execute(select(link_key.c.secret).order_by(link_key.c.id.desc())).scalars())
