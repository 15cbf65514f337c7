"""The command `doctor`: what would stop tonight's run. `waybill.doctor` holds the checks."""

from __future__ import annotations

import typer

from waybill.airflow import connect_db, lookup
from waybill.cli.options import AsJson, complain, counted, dump
from waybill.cli.tables import table

app = typer.Typer()


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check everything a run needs, with a way out for each. Exit 1 when something would stop tonight's run.

    Tries every connection, source and destination; rehearses destinations below /exports and removes what it wrote.
    """
    from waybill import doctor as checks
    from waybill.airflow.doctor import airflow_checks
    from waybill.configuration.loading import Settings
    from waybill.window import utc_now

    found = [*checks.examine(Settings.from_environment(), lookup, utc_now, connect_db), *airflow_checks()]
    if as_json:
        dump([{"check": check.name, "status": check.status, "found": check.found, "next_step": check.next_step or None} for check in found])
    else:
        notes = {number: check.next_step for number, check in enumerate(found) if check.next_step}
        table(["CHECK", "STATUS", "FOUND"], [[check.name, check.status, check.found] for check in found], notes)
    failed = sum(check.status == "failed" for check in found)
    warned = sum(check.status == "warning" for check in found)
    if not as_json:
        complain(f"{counted(len(found), 'check')}: {failed} failed, {counted(warned, 'warning')}")
    if failed:
        raise typer.Exit(1)
