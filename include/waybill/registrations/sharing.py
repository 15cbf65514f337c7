"""Finds tenants that receive rows by the same id in the data, because no tenant may receive another one's rows."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from waybill.configuration.loading import TenantFiles
from waybill.configuration.rules.sharing import Reader
from waybill.ledger import registrations, streams
from waybill.ledger.registrations import Registered


def rivals(connection: Connection, mine: Reader) -> dict[str, Reader]:
    """Return the other tenants who read by this one's id, and the one it is a copy of.

    The stored words of their registrations count, also of one that can no longer be read.
    """
    named = {*registrations.reading(connection, mine.id_in_data), mine.copy_of or mine.tenant} - {mine.tenant}
    found = {}
    for tenant in named:
        if registered := registrations.current(connection, tenant):
            found[tenant] = _reader(registered, [stream.entity for stream in streams.active(connection, tenant)])
    return found


def without_files(files: TenantFiles, registered: Mapping[str, Registered], active: Mapping[str, list[str]]) -> dict[str, list[Reader]]:
    """Return the tenants that only the API manages, by their id in the data."""
    found: dict[str, list[Reader]] = {}
    for tenant, theirs in registered.items():
        if not theirs.managed_by_file and tenant not in files.tenants and tenant not in files.broken and active.get(tenant):
            mine = _reader(theirs, active[tenant])
            found.setdefault(mine.owner, []).append(mine)
    return found


def _reader(registered: Registered, active: list[str]) -> Reader:
    copy_of = registered.body.get("copyOf")
    return Reader(registered.tenant, registered.body.get("sourceTenant") or copy_of or registered.tenant, active, copy_of)
