"""The command line: the same use-cases without a scheduler. Exit 0 done, 1 refused with a message, 2 usage."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from waybill import cli_operations, cli_requests
from waybill.errors import TransientError, WaybillError
from waybill.web.command import app as web_commands

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help and usage errors as plain sentences: nothing in them is markup, nothing is wrapped into a box
    help="Recurring data exports for every tenant, as files they can trust.",
)
ledger_app = typer.Typer(no_args_is_help=True, help="The ledger's tables.")
app.add_typer(ledger_app, name="ledger")
app.add_typer(cli_operations.app)
app.add_typer(cli_requests.app)
app.add_typer(web_commands)


def main() -> None:
    """The console script. Errors on purpose end in one sentence and exit 1."""
    try:
        app()
    except WaybillError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    except OSError as error:  # descriptors or disk ran out before anything could be named
        sys.stderr.write(f"this machine could not go on: {error.strerror or type(error).__name__}\n")
        sys.exit(1)


def _instant(text: str) -> datetime:
    from waybill.canonical import parse_timestamp

    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an RFC 3339 time with an offset, as in 2026-06-01T00:00:00Z") from error


Until = Annotated[
    datetime | None,
    typer.Option(parser=_instant, metavar="T", help="Deliver up to the last boundary at or before T (RFC 3339 with offset; default: now)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Tenant = Annotated[str, typer.Argument(help="Tenant id.")]


def _estate() -> Any:
    from waybill import bootstrap

    return bootstrap.estate()


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@app.command()
def check() -> None:
    """Validate catalog, policy and tenant files. Opens no connection; prints every problem of every file."""
    from waybill import catalog, config

    settings = config.Settings.from_environment()
    found = config.load(settings.config_dir)
    for finding in found.findings:
        _print(str(finding))
    for warning in catalog.warnings(found.catalog, f"{settings.config_dir.name}/catalog.yaml"):
        _complain(f"warning: {warning}")
    if found.findings:
        count = len(found.findings)
        _complain(f"{count} problem{'s' if count > 1 else ''} found")
        raise typer.Exit(1)
    entities, tenants = len(found.catalog.entities), len(found.tenants)
    _print(f"{entities} {'entity' if entities == 1 else 'entities'} and {tenants} tenant file{'' if tenants == 1 else 's'}: valid")


@app.command()
def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, change nothing.")] = False,
    allow_mass_deactivation: Annotated[
        bool, typer.Option("--allow-mass-deactivation", help="Also deactivate more than a quarter of the active tenants.")
    ] = False,
) -> None:
    """Bring the ledger to what the tenant files say."""
    from waybill import service

    applied = service.apply(_estate(), actor=_actor(), dry_run=dry_run, allow_mass_deactivation=allow_mass_deactivation)
    for line in applied.lines(dry_run=dry_run):
        _print(line)
    for finding in applied.findings:
        _complain(str(finding))
    if applied.refusal:
        raise applied.refusal
    if applied.findings:
        raise typer.Exit(1)


def _actor() -> str:
    import getpass

    return f"cli:{getpass.getuser()}"


@contextmanager
def _applied(tenant: str) -> Iterator[Any]:
    """The estate with this tenant's own file applied first, if it has one; a bad file leaves the last good version, loudly."""
    from waybill import service

    estate = _estate()
    for finding in service.apply(estate, actor=_actor(), only=tenant).findings:
        _complain(str(finding))
    yield estate


@app.command()
def plan(tenant: Tenant, until: Until = None, as_json: AsJson = False) -> None:
    """Show the deliveries that are open or due, and start none. The tenant's file is applied first, as `run` does."""
    from waybill import service

    with _applied(tenant) as estate:
        planned = service.plan(estate, tenant, until or estate.now(), preview=True)
        due = [service.describe(one) for one in [*planned, *service.unfinished_repairs(estate, tenant)]]
    if as_json:
        _print(json.dumps(due, indent=2, ensure_ascii=False))
        return
    if not due:
        _print(f"{tenant}: nothing is due")
    for one in due:
        window = f"[{one['window']['from'] or 'beginning'}, {one['window']['to']})"
        _print(f"{_what(one):10} {one['entity']:40} #{one['sequence']:<5} {window}  {one['path']}")


def _what(one: dict[str, Any]) -> str:
    """full, delta, backfill or redelivery."""
    return str(one["kind"] if one["purpose"] == "schedule" else one["purpose"])


@app.command()
def run(
    tenant: Tenant,
    until: Until = None,
    entity: Annotated[list[str] | None, typer.Option(help="Only this entity (id or display name); may be repeated.")] = None,
    full_load: Annotated[bool, typer.Option("--full-load", help="Start a new generation with the complete history.")] = False,
) -> None:
    """Deliver everything that is due, over the same code as Airflow."""
    from waybill import service

    with _applied(tenant) as estate, _progress() as progress:
        results = service.run(estate, tenant, until or estate.now(), entities=entity or (), full_load=full_load, progress=progress)
    for result in results:
        one = result.delivery
        if result.outcome:
            _print(
                f"{result.outcome.status:10} {one.entity:40} {one.kind:5} #{one.sequence:<5} {result.outcome.rows:>10} rows  {one.folder}"
            )
    failed = [result for result in results if result.error]
    for message in dict.fromkeys(str(result.error) for result in failed):
        _complain(message)
    if not results:
        off = estate.registered(tenant).registration.is_disabled
        _print(f"{tenant}: exports are disabled" if off else f"{tenant}: nothing is due")
    if failed:
        passing = all(isinstance(result.error, TransientError) for result in failed)
        advice = "the next run finishes them" if passing else "mend the cause and run again"
        _complain(f"{len(failed)} of {len(results)} deliveries failed; {advice}")
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Any]:
    """Bars on a terminal, silence elsewhere. Yields the function that is told (delivery, rows)."""
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
    tenant: Annotated[str | None, typer.Argument(help="Tenant id; all tenants when left out.")] = None, as_json: AsJson = False
) -> None:
    """List deliveries, newest first."""
    from waybill import service

    found = service.listed(_estate(), tenant)
    if as_json:
        _print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for one in found:
        rows = "-" if one["rows"] is None else one["rows"]
        what = f"{one['tenant']:16} {one['entity']:40} {_what(one):10} g{one['generation']} #{one['sequence']:<5}"
        _print(f"{one['delivery_id']}  {what} {one['status']:10} {rows:>10} rows  {one['export_date']}")
        if one["error"]:
            _print(f"    {one['error']}")


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
    from waybill.demo import counter, story

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
    from waybill.config import Settings
    from waybill.ledger import Ledger

    ledger = Ledger(Settings.from_environment().ledger_url)
    ledger.upgrade()
    _print(f"the ledger stands at {ledger.revision()}")
