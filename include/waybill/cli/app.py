"""The deliveries on the command line. Exit 0 means done, 1 refused with a message, 2 usage."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waybill import __version__
from waybill.airflow import open_installation
from waybill.cli import doctor, operations, project, status
from waybill.cli.options import (
    AsJson,
    Tenant,
    actor,
    applied,
    complain,
    counted,
    dump,
    instant,
    reachable,
    sources_of,
    tell_source_findings,
    write,
)
from waybill.cli.serve import app as web_commands
from waybill.cli.tables import table_of_deliveries, table_of_plan
from waybill.errors import PermanentError, TransientError, WaybillError, located_at
from waybill.states import DeliveryStatus

if TYPE_CHECKING:
    from waybill.configuration.loading import Configuration
    from waybill.configuration.registration import Registration
    from waybill.deliveries.running import Result
    from waybill.installation import Installation
    from waybill.registrations.applying import Change

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help and usage errors are plain sentences: nothing in them is markup, nothing is wrapped into a box
    help="Recurring data exports for every tenant, as files they can trust.",
)


def _print_version(asked: bool) -> None:
    if asked:
        write(f"waybill {__version__}")
        raise typer.Exit


ledger_app = typer.Typer(no_args_is_help=True, help="The ledger's tables.")
app.add_typer(ledger_app, name="ledger")
app.add_typer(operations.app)
app.add_typer(project.app)
app.add_typer(status.app)
app.add_typer(doctor.app)
app.add_typer(web_commands)


_EXTRAS = {
    "airflow": "airflow", "fastapi": "serve", "jwt": "serve", "starlette": "serve", "uvicorn": "serve", "asyncssh": "sftp",
    "paramiko": "sftp", "psycopg": "postgres", "boto3": "s3", "botocore": "lake", "s3fs": "lake",
}  # fmt: skip
"""The extra that a missing module comes with."""


@app.callback()
def begin(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)] = False,
) -> None:
    """Recurring data exports for every tenant, as files they can trust."""


def main() -> None:
    """Run the console script. Errors on purpose end in one sentence and exit 1."""
    # Airflow's own commands about connections do the same: connections of its metadata database are found, too, if this machine reaches it.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    try:
        app()
    except WaybillError as error:
        complain(str(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        sys.stderr.write(f"this needs {error.name}, which is not installed. Run: pip install 'waybill[{extra}]'\n")
        sys.exit(1)
    except OSError as error:  # descriptors or disk ran out before anything could be named
        place = f": {error.filename}" if error.filename else ""
        sys.stderr.write(f"this machine could not go on: {error.strerror or type(error).__name__}{place}\n")
        sys.exit(1)


Until = Annotated[
    datetime | None,
    typer.Option(parser=instant, metavar="T", help="Deliver up to the last boundary at or before T (RFC 3339 with offset; default: now)."),
]


@app.command()
def check(
    connect: Annotated[bool, typer.Option("--connect", help="Also look into the sources, for every tenant that has a file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Validate catalog, policy and tenant files; prints every problem of every file. Opens no connection without --connect."""
    from waybill.configuration import loading
    from waybill.configuration.rules import seldom_meant, tenant_connections

    settings = loading.Settings.from_environment()
    found = loading.load(settings.config_dir)
    warnings = seldom_meant.warnings(found.catalog, f"{settings.config_dir.name}/catalog.yaml")
    warnings += tenant_connections.warnings(found.policy.tenant_connections, f"{settings.config_dir.name}/policy.yaml")
    warnings += [warning for file in found.tenants.values() for warning in seldom_meant.ignored(file.registration, file.file)]
    if as_json:
        looked = sources_of(settings, registrations_of(found)) if connect and not found.findings else []
        dump({
            "entities": len(found.catalog.entities) + len(found.unfrozen),
            "tenant_files": len(found.tenants),
            "findings": [asdict(finding) for finding in found.findings],
            "warnings": [asdict(warning) for warning in warnings],
            "sources": [{"status": check.status, "found": check.found, "next_step": check.next_step or None} for check in looked],
        })  # fmt: skip
        raise typer.Exit(1 if found.findings or any(check.status == "failed" for check in looked) else 0)
    for finding in found.findings:
        write(str(finding))
    for warning in warnings:
        complain(f"warning: {warning}")
    for name in found.unfrozen:
        complain(f"note: the columns of {name} are not frozen yet; the next `waybill apply` writes them to columns.lock.yaml")
    if found.findings:
        complain(f"{counted(len(found.findings), 'problem')} found")
        raise typer.Exit(1)
    if connect:
        tell_source_findings(settings, registrations_of(found))
    write(f"{counted(len(found.catalog.entities) + len(found.unfrozen), 'entity')} and {counted(len(found.tenants), 'tenant file')}: valid")


def registrations_of(found: Configuration) -> dict[str, Registration]:
    return {tenant: file.registration for tenant, file in found.tenants.items()}


@app.command()
def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, change nothing.")] = False,
    allow_mass_deactivation: Annotated[
        bool, typer.Option("--allow-mass-deactivation", help="Also deactivate more than a quarter of the active tenants.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the ledger to what the tenant files say."""
    from waybill.deliveries.publishing import feed
    from waybill.registrations import applying, estimating

    installation = open_installation()
    applied = applying.apply(installation, actor=actor(), dry_run=dry_run, allow_mass_deactivation=allow_mass_deactivation)
    size = estimating.size_of(installation, applied.first_loads(), estimating.PATIENCE_OF_A_TERMINAL) if dry_run else None
    if as_json:
        dump({
            "changes": [_change(change) for change in applied.changes],
            "notes": list(applied.notes),
            "findings": [asdict(finding) for finding in applied.findings],
            "full_loads": str(size) if size else None,
        })  # fmt: skip
    for line in () if as_json else applied.lines(dry_run=dry_run):
        write(line)
    if size and not as_json:
        write(f"full loads: {size}")
    for finding in () if as_json else applied.findings:
        complain(str(finding))
    for problem in () if dry_run else feed.refresh(installation):
        complain(f"warning: {problem}")
    if applied.refusal:
        raise applied.refusal
    if applied.findings:
        raise typer.Exit(1)


def _change(change: Change) -> dict[str, Any]:
    fields = {key: {"from": old, "to": new} for key, (old, new) in change.fields.items()}
    entities = {"activated": list(change.difference.activated), "deactivated": list(change.difference.deactivated)}
    return {"tenant": change.tenant, "action": change.action, "file": change.file, "version": change.version, "fields": fields, **entities}


@app.command()
def plan(tenant: Tenant, until: Until = None, as_json: AsJson = False) -> None:
    """Show the deliveries that are open or would be due once the tenant's file is applied. Changes nothing."""
    from waybill.deliveries import planning, repairs
    from waybill.deliveries.reports import describing
    from waybill.doctor import narrowed
    from waybill.registrations import redefining

    installation = open_installation()
    for finding in broken.findings if tenant in (broken := installation.configuration.files_of(tenant)).broken else ():
        complain(str(finding))
    planned = planning.preview(installation, tenant, reachable(until, installation.now()))
    for note in narrowed(installation, [delivery.entity for delivery in planned]):
        complain(f"warning: {note}")
    for note in redefining.announced_to(installation, tenant):
        complain(f"note: {note}")
    file = installation.configuration.file_of(tenant)
    registration = (file or installation.registered(tenant)).registration
    due = describing.describe(installation, [*planned, *repairs.unfinished_repairs(installation, tenant)], registration.file_style)
    if as_json:
        dump(due)
        return
    if not due:
        _nothing_due(tenant, registration)
    else:
        table_of_plan(due)


def _nothing_due(tenant: str, registration: Registration) -> None:
    write(f"{tenant}: exports are disabled" if registration.is_disabled else f"{tenant}: nothing is due")


@app.command()
def run(
    tenant: Tenant,
    until: Until = None,
    entity: Annotated[list[str] | None, typer.Option(help="Only this entity (id or display name); may be repeated.")] = None,
    full_load: Annotated[bool, typer.Option("--full-load", help="Start a new generation with the complete history.")] = False,
    as_json: AsJson = False,
) -> None:
    """Deliver everything that is due, over the same code as Airflow."""
    from waybill.deliveries import running, stopping
    from waybill.deliveries.reports import sending

    installation = applied(tenant)
    with located_at(f"tenant {tenant}"), _progress() as progress, stopping.on_sigterm():
        results = running.deliver_due(
            installation, tenant, reachable(until, installation.now()), entities=entity or (), full_load=full_load, progress=progress
        )
        unlisted = _close_day(installation, tenant)
    with located_at(f"tenant {tenant}"):
        failed = _show_results(installation, tenant, results, as_json=as_json)
        told = sending.tell_of_run(installation, tenant, {result.delivery.entity for result in failed})
        for problem in told.problems:
            complain(str(problem))
        if unlisted:
            raise unlisted
    if failed:
        raise typer.Exit(1)


def _show_results(installation: Installation, tenant: str, results: list[Result], *, as_json: bool) -> list[Result]:
    """Write what a run delivered and complain of what it did not. Returns the failed ones."""
    from waybill.deliveries.reports import describing

    if as_json:
        dump([operations.result_facts(installation, result) for result in results])
    for result in () if as_json else results:
        delivery = result.delivery
        if result.outcome:
            rows, place = counted(result.outcome.rows, "row"), describing.where(installation, delivery)
            write(f"{result.outcome.status:10} {delivery.entity:40} {delivery.kind:5} #{delivery.sequence:<5} {rows:>15}  {place}")
    failed = [result for result in results if result.error]
    for message in dict.fromkeys(str(result.error) for result in failed):
        complain(message)
    if not results and not as_json:
        _nothing_due(tenant, installation.registered(tenant).registration)
    if failed:
        passing = all(isinstance(result.error, TransientError) for result in failed)
        advice = "the next run finishes them" if passing else "mend the cause and run again"
        complain(f"{len(failed)} of {len(results)} deliveries failed; {advice}")
    return failed


def _close_day(installation: Installation, tenant: str) -> WaybillError | None:
    """Publish the day manifests. Returns what keeps them away: what was delivered is told first."""
    from waybill.deliveries.publishing import days

    try:
        days.publish_listings(installation, tenant)
    except WaybillError as error:
        return error
    return None


@contextmanager
def _progress() -> Iterator[Any]:
    """Show bars on a terminal, and nothing elsewhere. Yields the function that receives (delivery, rows)."""
    if not sys.stderr.isatty():
        yield lambda delivery, rows: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,} rows"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        tasks: dict[str, Any] = {}

        def tell(delivery: Any, rows: int) -> None:
            if delivery.id not in tasks:
                tasks[delivery.id] = bars.add_task(delivery.entity, total=None)
            bars.update(tasks[delivery.id], completed=rows)

        yield tell


@app.command()
def deliveries(
    tenant: Annotated[str | None, typer.Argument(help="Tenant id; all tenants when left out.")] = None,
    entity: Annotated[str, typer.Option(help="Only this entity (id or display name).")] = "",
    status: Annotated[str, typer.Option(help="Only this status: open, committed or abandoned.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List deliveries, newest first."""
    from waybill.deliveries.reports import describing

    if status not in ("", *DeliveryStatus):
        raise typer.BadParameter(f"{status!r} is none of {', '.join(DeliveryStatus)}", param_hint="--status")
    installation = open_installation()
    names = installation.configuration.catalog.ids_by_name()
    found = describing.listed(installation, tenant, entity=names.get(entity.casefold(), entity), status=status, limit=limit)
    if as_json:
        dump(found)
        return
    if not found:
        write("no delivery")
        return
    table_of_deliveries(found)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Check everything and end; exit 0 only if all of it held.")] = False,
    port: Annotated[int, typer.Option(help="Airflow's port; default 8080, or any free one where that is taken.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where all of it is kept, swept at the start; default .waybill/demo.")] = None,
    preset: Annotated[
        str, typer.Option(help="On-demand exports of this preset instead, without Airflow: studies, realms, metrics or types.")
    ] = "",
) -> None:
    """The main job in a real Airflow on this machine: full loads, a day goes by, deltas, read back over SFTP and verified."""
    try:
        counter, story = import_module("waybill_demo.counter"), import_module("waybill_demo.story")
    except ModuleNotFoundError as error:
        if error.name != "waybill_demo":
            raise
        step = "Clone the repository and run `make demo` there"
        raise PermanentError("the demo is not part of the installed package", next_step=step, code="no_demo") from error
    if preset and once:
        raise typer.BadParameter("--once belongs to the main job")
    if preset:
        counter.demo(preset, port, folder)
        return
    if not story.demo(once=once, port=port, folder=folder):
        raise typer.Exit(1)


@ledger_app.command("upgrade")
def ledger_upgrade() -> None:
    """Create the ledger's tables or bring them to this version."""
    from waybill.configuration.loading import Settings
    from waybill.ledger import Ledger

    ledger = Ledger(Settings.from_environment().ledger_url)
    ledger.upgrade()
    write(f"the ledger stands at {ledger.revision()}")
