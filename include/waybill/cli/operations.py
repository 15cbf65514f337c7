"""Commands around deliveries: verify, probe, housekeeping, and the repairs. Exit codes are those of `cli`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waybill.airflow import lookup, open_installation
from waybill.cli.options import AsJson, Tenant, actor, applied, complain, counted, dump, moment, tell_source_findings, write

if TYPE_CHECKING:
    from waybill.deliveries.running import Result
    from waybill.installation import Installation
    from waybill.requests.answers import Described

app = typer.Typer()


@app.command()
def verify(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="A folder at any depth, sftp:CONNECTION_ID[/path], or sftp://user@host:port/path.", show_default=False
        ),
    ],
    connection: Annotated[str, typer.Option(help="Airflow connection with host key and credentials for an sftp:// place.")] = "",
    key: Annotated[Path | None, typer.Option(help="Private key for an sftp:// place (default: the first in ~/.ssh).")] = None,
    signer: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="A public key, or a file of keys, that must have signed every manifest; several may be given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check delivered files as their consumer: every manifest, hash, record count, sequence and signature. Needs no ledger."""
    from waybill.files.places import verify as check

    with _spinner() as progress:
        report = check(place, lookup, connection=connection, key=key, signers=signer or [], progress=progress)
    if as_json:
        dump(report.as_json())
    else:
        for remark in report.problems:
            write(str(remark))
        for remark in report.notes:
            write(f"note: {remark}")
        summary = f"{counted(report.manifests, 'manifest')}, {counted(report.files, 'file')}, {counted(report.rows, 'row')}"
        verdict = "all as delivered" if report.is_whole else counted(len(report.problems), "problem")
        write(f"{summary}, {counted(report.bytes, 'byte')} in {counted(report.streams, 'stream')}: {verdict}")
    if not report.is_whole:
        raise typer.Exit(1)


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    """Show the current file on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda path: None
        return
    from rich.console import Console

    with Console(stderr=True).status("looking around") as status:
        yield status.update


@app.command()
def kit(
    tenant: Tenant,
    dialect: Annotated[str, typer.Option(help="The database to load into: postgres, duckdb, snowflake, bigquery, redshift or databricks.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder to write; default: waybill-kit-TENANT-DIALECT.")] = None,
) -> None:
    """Write what a consumer needs to load the files: tables, load and merge statements, a data dictionary, metadata, sample files."""
    from waybill import kits

    known = next((name for name in kits.DIALECTS if name == dialect), None)
    if known is None:
        raise typer.BadParameter(f"{dialect!r} is none of {', '.join(kits.DIALECTS)}", param_hint="--dialect")
    folder = out or Path(f"waybill-kit-{tenant}-{dialect}")
    files = kits.kit_of(open_installation(), tenant, known)
    kits.write(files, folder)
    write(f"wrote {counted(len(files), 'file')} to {folder}; begin with {folder / 'README.md'}")


@app.command()
def probe(
    tenant: Tenant,
    source: Annotated[bool, typer.Option("--source", help="Try what the tenant's entities are read from instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rehearse a tenant's destination: make a folder, write, rename, read back, remove. The result is kept.

    Warns of row-level security that may hide rows of the tenant's entities.
    """
    from waybill.configuration.registration import resolve_entities
    from waybill.deliveries.publishing import rehearsing
    from waybill.doctor import narrowed

    installation = open_installation()
    if source:
        tell_source_findings(installation.settings, {tenant: installation.registered(tenant).registration})
        write("the sources can be read")
        return
    found = rehearsing.as_json(rehearsing.probe(installation, tenant))
    entities, _ = resolve_entities(installation.registered(tenant).registration, installation.catalog.offered_to(tenant), "")
    found["warnings"] = narrowed(installation, entities)
    if as_json:
        dump(found)
        return
    for warning in found["warnings"]:
        complain(f"warning: {warning}")
    for step, answer in found["steps"]:
        write(f"{step:32} {answer}")
    free = "not told" if found["free_bytes"] is None else f"{found['free_bytes']:,} bytes"
    write(f"{'free space':32} {free}")
    for name in ("login_key", "host_key"):
        if found[name]:
            write(f"{name.replace('_', ' '):32} {found[name]}")
    write(f"{'extensions':32} {', '.join(found['extensions']) or 'none'}")
    write(f"{'profile':32} {found['profile']}")
    write(found["advice"])


@app.command()
def keys(tenant: Tenant, as_json: AsJson = False) -> None:
    """Print the public keys for a tenant's consumer: lines for authorized_keys, and for allowed_signers where manifests are signed."""
    from waybill.registrations.login_keys import login_keys

    found = login_keys(open_installation(), tenant)
    if as_json:
        dump(found)
        return
    for use, line, in_use in (("login", "public_key", "in use at the last probe"), ("signing", "allowed_signers", "signs the manifests")):
        same = [key for key in found if key["use"] == use]
        for number, key in enumerate(same, 1):
            state = f", {in_use}" if key["in_use"] else ""
            write(f"# {key['connection']}, {'' if use == 'login' else 'signing '}key {number} of {len(same)}: {key['fingerprint']}{state}")
            write(key[line])


@app.command()
def backfill(
    tenant: Tenant,
    entity: Annotated[str, typer.Argument(help="Entity id or display name.")],
    start: Annotated[
        date, typer.Option("--from", parser=moment, metavar="T", help="Begin of the range: a date in the tenant's zone, or RFC 3339.")
    ],
    end: Annotated[date, typer.Option("--to", parser=moment, metavar="T", help="End of the range, not in it; up to the watermark.")],
    again: Annotated[bool, typer.Option("--again", help="Deliver a range once more that was backfilled before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Deliver the rows of a past range as they are now, beside the stream. Asking twice finishes or verifies the same backfill."""
    from waybill.deliveries import repairs
    from waybill.window import start_of_day

    installation = open_installation()
    zone = installation.registered(tenant).registration.zone
    first, last = (at if isinstance(at, datetime) else start_of_day(at, zone) for at in (start, end))
    with _rows() as progress:
        result = repairs.backfill(installation, tenant, entity, first, last, actor=actor(), again=again, progress=progress)
    _print_result(installation, result, as_json)


@app.command()
def redeliver(
    delivery_id: Annotated[str, typer.Argument(metavar="ID", help="A committed delivery, as `waybill deliveries` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Send the same bytes of a committed delivery again, under a new name."""
    from waybill.deliveries import repairs

    installation = open_installation()
    with _rows() as progress:
        result = repairs.redeliver(installation, delivery_id, actor=actor(), progress=progress)
    _print_result(installation, result, as_json)


def result_facts(installation: Installation, result: Result) -> dict[str, Any]:
    """Return one delivery and how it ended, for programs."""
    from waybill.deliveries.reports import describing

    delivery, done, error = result.delivery, result.outcome, result.error
    facts = {"delivery_id": delivery.id, "entity": delivery.entity, "kind": delivery.kind, "sequence": delivery.sequence}
    failure = {"code": error.code, "error": str(error)} if error else None
    place = describing.where(installation, delivery) if done else None
    return {**facts, "status": done.status if done else "failed", "rows": done.rows if done else None, "place": place, "error": failure}


def _print_result(installation: Installation, result: Result, as_json: bool) -> None:
    """Print one finished delivery, or what stopped it."""
    from waybill.deliveries.reports import describing

    if as_json:
        dump(result_facts(installation, result))
    if result.error:
        raise result.error
    delivery = result.delivery
    if as_json or not result.outcome:
        return
    rows = counted(result.outcome.rows, "row")
    write(f"{result.outcome.status:10} {delivery.entity:40} {rows:>15}  {describing.where(installation, delivery)}  delivery {delivery.id}")


@contextmanager
def _rows() -> Iterator[Callable[[Any, int], None]]:
    with _spinner() as show:
        yield lambda delivery, rows: show(f"{delivery.entity}: {rows:,} rows")


@app.command()
def reconcile(
    tenant: Tenant,
    unsigned: Annotated[
        bool,
        typer.Option("--unsigned", help="Also import manifests that the tenant's signing key did not sign: you know that they are yours."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """After the ledger was restored from a backup: import what stands at the destination, then compare the source with it."""
    from waybill.deliveries.recovery import reconciling

    installation = applied(tenant)
    with _spinner() as progress:
        done = reconciling.reconcile(installation, tenant, actor=actor(), unsigned=unsigned, progress=progress)
    if as_json:
        dump(done.as_json())
    else:
        for path in done.imported:
            write(f"imported {path}")
        for remark in done.notes:
            write(f"note: {remark}")
        for difference in done.differences:
            write(str(difference))
        trouble = f"{counted(len(done.differences), 'difference')}, {counted(len(done.problems), 'problem')}"
        write(f"{tenant}: {len(done.imported)} imported, {trouble}")
    for remark in done.problems:
        complain(str(remark))
    if done.problems or done.differences:
        raise typer.Exit(1)


@app.command()
def housekeeping(as_json: AsJson = False) -> None:
    """Remove what dead attempts left and what is past its keeping, and report what is stuck."""
    from waybill.housekeeping import housekeeping as keep

    done = keep(open_installation())
    if as_json:
        dump(done.as_json())
    else:
        write(
            f"removed {counted(done.parts, 'unfinished part')}, {counted(done.files, 'delivered file')} past their keeping, "
            f"{counted(done.spools, 'spool folder')}, {counted(done.archives, 'archive')}"
        )
        kept = done.requests
        write(
            f"exports: {kept['expired']} expired, {kept['stalled']} given up as stalled, {kept['history']} left the history, "
            f"{counted(kept['files'], 'file')} of theirs removed"
        )
        for path in done.foreign:
            write(f"left alone, not ours: {path}")
        for delivery in done.stale:
            since, why = f"{delivery.created_at:%Y-%m-%d %H:%M} UTC", delivery.error or "never tried"
            write(f"open since {since}: {delivery.id} {delivery.tenant} {delivery.entity}: {why}")
    for message in done.failed.values():
        complain(message)
    if done.failed:
        raise typer.Exit(1)


@app.command()
def roles() -> None:
    """Make a role for each tenant among Airflow's users, under its FAB auth manager: it reaches that tenant alone.

    A role has the tenant's id as its name, reads and edits the tenant's DAG, and starts its runs. Run it again after tenants were added.
    """
    from waybill.airflow.roles import make_roles
    from waybill.ledger import registrations

    installation = open_installation()
    with installation.ledger.read() as connection:
        tenants = {*registrations.ids(connection), *installation.configuration.file_names}
    made = make_roles(sorted(tenants))
    write(f"{counted(len(tenants), 'tenant')}, {counted(len(made), 'new role')}" + (f": {', '.join(made)}" if made else ""))


@app.command()
def fulfil(
    due: Annotated[bool, typer.Option("--due", help="Leave requests alone whose time by policy has not come yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Work through the pending export requests once, then send the mail that is owed."""
    from waybill.ledger.on_demand.request_records import Status
    from waybill.requests import following, mailing
    from waybill.requests.fulfilment import running

    installation = open_installation()
    ended = running.fulfil_all(installation, due_only=due)
    shown = [following.describe_request(installation, request) for request in ended]
    if as_json:
        dump([request.as_json() for request in shown])
    else:
        _list_ended(shown)
    for problem in mailing.send_mails(installation):
        complain(str(problem))
    if any(request.status == Status.FAILED for request in ended):
        raise typer.Exit(1)


def _list_ended(shown: list[Described]) -> None:
    if not shown:
        write("no export request is pending")
    for request in shown:
        rows = "-" if request.rows is None else request.rows
        write(f"{request.id}  {request.tenant:16} {request.status:10} {rows:>10} rows  {', '.join(request.entities)}")
        if request.error:
            write(f"    {request.error.message} {request.error.advice}".rstrip())
