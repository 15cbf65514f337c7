"""Turns registrations into schedules. One query of the ledger at parse time gives the schedules of all tenants."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waybill.airflow.names import DAG_FILES, file_number, pool_name

if TYPE_CHECKING:
    from sqlalchemy import Row

    from waybill.configuration.registration import DestinationSpec, Registration


@dataclass(frozen=True)
class Schedule:
    """How a tenant's DAG is scheduled, and what it tells the operator. `cron` is None if the tenant's exports are disabled.

    `alone` asks for one delivery at a time, for a server whose renames overwrite (profile `no_cas`).
    """

    tenant: str
    version: int
    cron: str | None
    timezone: str
    frequency: str
    pool: str
    alone: bool
    entities: tuple[str, ...]
    document: str


def schedules(files: Set[int] | None = None) -> list[Schedule]:
    """Return every registered tenant's schedule by tenant id. There are none while the ledger has no tables. `files` narrows them to
    tenants whose DAGs are in these files.

    Raises TransientError if the ledger cannot be reached, because an empty answer would remove every tenant's DAG.
    """
    from sqlalchemy import select

    from waybill.configuration.loading import Settings
    from waybill.errors import PermanentError
    from waybill.ledger import Ledger
    from waybill.ledger.database.rows import readable_rows
    from waybill.ledger.tables import registration, tenant

    current = (tenant.c.id == registration.c.tenant) & (tenant.c.version == registration.c.version)
    query = select(registration, tenant.c.probe).join(tenant, current).order_by(tenant.c.id)
    ledger = Ledger(Settings.from_environment().ledger_url)
    try:
        with ledger.read() as connection:
            if files is not None and files != set(range(1, DAG_FILES + 1)):
                every = connection.scalars(select(tenant.c.id))
                query = query.where(tenant.c.id.in_([tenant_id for tenant_id in every if file_number(tenant_id) in files]))
            found = readable_rows(connection, query, tenant.c.id, _schedule)
    except PermanentError as error:
        if error.code != "ledger_not_upgraded":
            raise
        found = []
    finally:
        ledger.close()
    return found


def _schedule(row: Row[Any]) -> Schedule:
    from waybill.configuration.registration import Registration
    from waybill.configuration.values.paths import STORED_EARLIER
    from waybill.ledger.database.rows import mapping

    try:
        found = Registration.model_validate(row.body, context=STORED_EARLIER)
    except ValueError:
        return _unreadable(row)
    diff, probe = mapping(row.diff) or {}, mapping(row.probe) or {}
    entities = (*diff.get("activated", ()), *diff.get("kept", ()))
    place = found.destination
    return Schedule(
        tenant=row.tenant,
        version=row.version,
        cron=None if found.is_disabled else found.cron(row.tenant),
        timezone=found.timezone,
        frequency=found.rhythm[0].value,
        pool="" if found.is_disabled else pool_name(place.kind, getattr(place, "connection", "")) if place else pool_name("default"),
        alone=probe.get("profile") == "no_cas",
        entities=tuple(sorted(entities)),
        document=_document(row, found, sorted(entities)),
    )


def _unreadable(row: Row[Any]) -> Schedule:
    """Keep the DAG of a tenant whose registration this version cannot read. The DAG says so, and other tenants are not affected."""
    text = (
        f"Version {row.version} of the registration of **{row.tenant}** can no longer be read: nothing is scheduled. "
        "Register the tenant again, by its file or the API, or go back to an earlier version."
    )
    return Schedule(row.tenant, row.version, None, "UTC", "unreadable", "", False, (), text)


def _document(row: Row[Any], found: Registration, entities: Iterable[str]) -> str:
    """Return what this tenant receives, as Markdown for the DAG's page."""
    origin = row.origin
    managed = f"`{origin.removeprefix('file:')}`" if origin.startswith("file:") else "the API"
    head = f"Exports of the tenant **{row.tenant}**, registration version {row.version}, managed by {managed}.\n\n"
    if found.is_disabled:
        return head + "Exports are **disabled**: nothing is scheduled."
    listed = ", ".join(f"`{entity}`" for entity in entities)
    every = "every entity of the catalog, also ones added later" if found.export_option.value == "export all" else f"{listed}"
    return (
        head + "| | |\n|---|---|\n"
        f"| receives | {every} |\n"
        f"| how often | {_how_often(found)}, {_when(found, row.tenant)} {found.timezone} |\n"
        f"| where | {_place(found.destination)} |\n\n"
        "A run delivers what is due up to the last boundary before the time it is scheduled for; what an earlier run missed comes with it. "
        "*Trigger* delivers now: choose entities, a full load, or a point in time. "
        "Airflow's backfill delivers nothing here; for a past range run "
        f"`waybill backfill {row.tenant} ENTITY --from ... --to ...`."
    )


def _how_often(found: Registration) -> str:
    others = ", ".join(f"`{name}` {frequency.value}" for name, frequency in found.frequencies.items())
    return f"{found.frequency.value} ({others})" if others else found.frequency.value


def _when(found: Registration, tenant: str) -> str:
    minute, hour, *_ = found.cron(tenant).split()
    return f"at {int(hour):02d}:{int(minute):02d}"


def _place(place: DestinationSpec | None) -> str:
    if place is None:
        return "the house's own destination (`config/policy.yaml`)"
    if place.kind == "folder":
        return f"folder `{place.root}`"
    return f"{place.kind}, connection `{place.connection}`, root `{place.root}`"
