"""Signatures of published documents, by the document's SHA-256: recorded before they are published, so that every try writes the same."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, insert, select

from waybill.ledger.database.taken import Taken, unless_taken
from waybill.ledger.tables import signature

_MANY = 500


def of(connection: Connection, documents: Collection[str]) -> dict[str, bytes]:
    """Return the signatures of those of these documents that were signed, by the hash of the document."""
    wanted = list(documents)
    found: dict[str, bytes] = {}
    for start in range(0, len(wanted), _MANY):
        query = select(signature.c.document, signature.c.text).where(signature.c.document.in_(wanted[start : start + _MANY]))
        found |= {row.document: row.text.encode() for row in connection.execute(query)}
    return found


def record(connection: Connection, document: str, text: bytes, tenant: str, now: datetime) -> bytes:
    """Record a document's signature; the one recorded first counts, and is returned."""
    try:
        with unless_taken(connection, signature, "pk_signature"):
            values = {"document": document, "text": text.decode(), "tenant": tenant, "signed_at": now}
            connection.execute(insert(signature).values(**values))
    except Taken:
        return of(connection, [document])[document]
    return text


def is_own(connection: Connection, tenant: str, text: bytes) -> bool:
    """Return whether Waybill made this signature for the tenant. It does not matter for which document."""
    query = select(signature.c.document).where(signature.c.tenant == tenant, signature.c.text == text.decode("utf-8", "replace"))
    return connection.execute(query).first() is not None
