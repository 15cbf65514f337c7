"""The tenants in force that receive rows by the same id in the data: nobody may receive another one's."""

from __future__ import annotations

from sqlalchemy import Connection

from waybill.configuration.sharing import Reader
from waybill.ledger import registrations, streams


def rivals(connection: Connection, mine: Reader) -> dict[str, Reader]:
    """The other tenants who read by this one's id, and the one it is a copy of.

    By the words of their registrations, also of one that cannot be read any more.
    """
    named = {*registrations.reading(connection, mine.id_in_data), mine.copy_of or mine.tenant} - {mine.tenant}
    found = {}
    for tenant in named:
        if registered := registrations.current(connection, tenant):
            copy_of, active = registered.body.get("copyOf"), [stream.entity for stream in streams.active(connection, tenant)]
            found[tenant] = Reader(tenant, registered.body.get("sourceTenant") or copy_of or tenant, active, copy_of)
    return found
