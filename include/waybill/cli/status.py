"""The command `status`: who got their data, who did not, and why. It changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from waybill.airflow import open_installation
from waybill.cli.options import AsJson, complain, counted, dump, write
from waybill.cli.tables import table

if TYPE_CHECKING:
    from datetime import datetime

    from waybill.deliveries.reports.overview import Row
    from waybill.ledger.reports.usage import Month

app = typer.Typer()


@app.command()
def status(
    tenant: Annotated[str | None, typer.Argument(help="Tenant id; all tenants when left out.")] = None,
    months: Annotated[bool, typer.Option("--months", help="Add up what each month brought; always done for one tenant.")] = False,
    as_json: AsJson = False,
) -> None:
    """Who got their data, who did not, why, and what to do; worst first."""
    from waybill.deliveries.reports import overview
    from waybill.ledger.reports import usage

    installation = open_installation()
    if tenant is None:
        found = overview.overview(installation, set, overview.OverviewQuery(size=1_000_000))
        rows = found.rows
    else:
        installation.registered(tenant)
        rows = [row for row in [overview.of_tenant(installation, tenant)] if row]
    with installation.ledger.read() as connection:
        used = usage.last_months(connection, tenant, installation.now()) if tenant else usage.months(connection) if months else []
    if as_json:
        by_tenant = {row.tenant: [_used(month) for month in used if month.tenant == row.tenant] for row in rows}
        dump([_facts(row) | ({"months": by_tenant[row.tenant]} if months or tenant else {}) for row in rows])
        return
    unapplied = sorted(installation.configuration.file_names - {row.tenant for row in found.rows}) if tenant is None else []
    if unapplied:
        files = counted(len(unapplied), "tenant file")
        complain(f"{files} not applied yet: {', '.join(unapplied[:10])}{' ...' if len(unapplied) > 10 else ''}. Run `waybill apply`")
    if not rows:
        write("no tenant is registered: add config/tenants/TENANT.yaml and run `waybill apply`")
        return
    notes = {number: note for number, row in enumerate(rows) if (note := _why_and_what_to_do(row))}
    shown = [_cells(row) for row in rows]
    table(["TENANT", "STATE", "FREQUENCY", "ENTITIES", "DATA UNTIL (UTC)", "LAST DELIVERY", "NEXT RUN", "PROMISED BY"], shown, notes)
    if used:
        write("")
        sums = [[month.tenant, month.month, month.deliveries, month.rows, month.bytes, round(month.seconds)] for month in used]
        table(["TENANT", "MONTH (UTC)", "DELIVERIES", "ROWS", "BYTES", "SECONDS"], sums)
    if tenant is None:
        today = found.totals
        states = ", ".join(f"{number} {state.value}" for state, number in today.states.items() if number)
        write(
            f"{counted(today.tenants, 'tenant')}: {states}; since midnight UTC {counted(today.deliveries, 'delivery')},"
            f" {counted(today.rows, 'row')}, {counted(today.bytes, 'byte')}"
        )


def _cells(row: Row) -> list[Any]:
    times = (_short(at) for at in (row.until, row.last_at, row.next_run))
    return [row.tenant, row.state.value, row.frequency.value, row.entities, *times, _promised(row)]


def _short(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%d %H:%M}"


def _promised(row: Row) -> str | None:
    """Return `2026-01-02 06:00 at risk`: the time, and how the promise is doing if something of it is owed."""
    if row.promise is None or row.promise_state is None:
        return None
    state = row.promise_state.value.replace("_", " ")
    return f"{_short(row.promise.deliver_by)}{'' if state == 'kept' else f' {state}'}"


def _why_and_what_to_do(row: Row) -> str:
    """Return why, and what to do, for a tenant that needs something."""
    if row.causes:
        cause = row.causes[0]
        more = len(row.causes) - 1
        message = str(cause.first.error)
        return f"{message}{'' if message.endswith(('.', '?', '!')) else '.'} {row.next_step}" + (
            f" (and {counted(more, 'other cause')})" if more else ""
        )
    return row.next_step


def _used(month: Month) -> dict[str, Any]:
    return {name: value for name, value in vars(month).items() if name != "tenant"}


def _facts(row: Row) -> dict[str, Any]:
    from waybill.canonical import optional_timestamp_text as instant

    return {
        "tenant": row.tenant,
        "state": row.state.value,
        "frequency": row.frequency.value,
        "entities": row.entities,
        "until": instant(row.until),
        "due": instant(row.due),
        "last_delivery": instant(row.last_at),
        "next_run": instant(row.next_run),
        "promise": {
            "state": row.promise_state.value,
            "deliver_by": instant(row.promise.deliver_by),
            "data_until": instant(row.promise.boundary),
        }
        if row.promise and row.promise_state
        else None,
        "causes": [
            {"entities": cause.entities, "code": cause.first.code, "error": cause.first.error, "next_step": cause.next_step}
            for cause in row.causes
        ],
        "next_step": row.next_step or None,
        "days": [{"date": day.date, "rows": day.rows, "bytes": day.bytes} for day in row.days],
    }
