"""Commands around deliveries: verify, probe, housekeeping, and the repairs. Exit codes as in `cli`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Tenant = Annotated[str, typer.Argument(help="Tenant id.")]


def _estate() -> Any:
    from waybill import bootstrap

    return bootstrap.estate()


def _instant(text: str) -> datetime:
    from waybill.canonical import parse_timestamp

    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an RFC 3339 time with an offset, as in 2026-06-01T00:00:00Z") from error


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _dump(facts: Any) -> None:
    _print(json.dumps(facts, indent=2, ensure_ascii=False))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


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
    as_json: AsJson = False,
) -> None:
    """Check delivered files as their consumer: every manifest, hash, record count and sequence. Needs no ledger."""
    from waybill.service.verifying import verify as check

    with _spinner() as progress:
        report = check(place, _lookup, connection=connection, key=key, progress=progress)
    if as_json:
        _dump(report.as_json())
    else:
        for remark in report.problems:
            _print(str(remark))
        for remark in report.notes:
            _print(f"note: {remark}")
        counted = f"{_count(report.manifests, 'manifest')}, {_count(report.files, 'file')}, {_count(report.rows, 'row')}"
        verdict = "all as delivered" if report.is_whole else _count(len(report.problems), "problem")
        _print(f"{counted}, {_count(report.bytes, 'byte')} in {_count(report.streams, 'stream')}: {verdict}")
    if not report.is_whole:
        raise typer.Exit(1)


def _lookup(connection_id: str) -> Any:
    from waybill import bootstrap

    return bootstrap.lookup(connection_id)


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    """The file at hand on a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda path: None
        return
    from rich.console import Console

    with Console(stderr=True).status("looking around") as status:
        yield status.update


@app.command()
def probe(tenant: Tenant, as_json: AsJson = False) -> None:
    """Rehearse a tenant's destination: make a folder, write, rename, read back, remove. The result is kept."""
    from waybill.service import probing

    found = probing.as_json(probing.probe(_estate(), tenant))
    if as_json:
        _dump(found)
        return
    for step, answer in found["steps"]:
        _print(f"{step:32} {answer}")
    free = "not told" if found["free_bytes"] is None else f"{found['free_bytes']:,} bytes"
    _print(f"{'free space':32} {free}")
    _print(f"{'extensions':32} {', '.join(found['extensions']) or 'none'}")
    _print(f"{'profile':32} {found['profile']}")
    _print(found["advice"])


@app.command()
def backfill(
    tenant: Tenant,
    entity: Annotated[str, typer.Argument(help="Entity id or display name.")],
    start: Annotated[datetime, typer.Option("--from", parser=_instant, metavar="T", help="Begin of the range (RFC 3339 with offset).")],
    end: Annotated[datetime, typer.Option("--to", parser=_instant, metavar="T", help="End of the range, not in it; up to the watermark.")],
    again: Annotated[bool, typer.Option("--again", help="Deliver a range once more that was backfilled before.")] = False,
) -> None:
    """Deliver the rows of a past range as they are now, beside the stream. Asking twice finishes or verifies the same backfill."""
    from waybill import service

    with _rows() as progress:
        result = service.backfill(_estate(), tenant, entity, start, end, actor=_actor(), again=again, progress=progress)
    _tell(result)


@app.command()
def redeliver(
    delivery_id: Annotated[str, typer.Argument(metavar="ID", help="A committed delivery, as `waybill deliveries` lists it.")],
) -> None:
    """Send the same bytes of a committed delivery again, under a new name."""
    from waybill import service

    with _rows() as progress:
        result = service.redeliver(_estate(), delivery_id, actor=_actor(), progress=progress)
    _tell(result)


def _tell(result: Any) -> None:
    """One finished delivery on one line, or what stopped it."""
    if result.error:
        raise result.error
    one = result.delivery
    _print(f"{result.outcome.status:10} {one.entity:40} {result.outcome.rows:>10} rows  {one.folder}/{one.stem}.csv  delivery {one.id}")


def _actor() -> str:
    import getpass

    return f"cli:{getpass.getuser()}"


@contextmanager
def _rows() -> Iterator[Callable[[Any, int], None]]:
    with _spinner() as show:
        yield lambda delivery, rows: show(f"{delivery.entity}: {rows:,} rows")


@app.command()
def reconcile(tenant: Tenant, as_json: AsJson = False) -> None:
    """After the ledger was restored from a backup: import what stands at the destination, then compare the source with it."""
    from waybill import service

    estate = _estate()
    service.apply(estate, actor=_actor(), only=tenant)
    with _spinner() as progress:
        done = service.reconcile(estate, tenant, actor=_actor(), progress=progress)
    if as_json:
        _dump(done.as_json())
    else:
        for path in done.imported:
            _print(f"imported {path}")
        for remark in done.notes:
            _print(f"note: {remark}")
        for difference in done.differences:
            _print(str(difference))
        trouble = f"{_count(len(done.differences), 'difference')}, {_count(len(done.problems), 'problem')}"
        _print(f"{tenant}: {len(done.imported)} imported, {trouble}")
    for remark in done.problems:
        _complain(str(remark))
    if done.problems or done.differences:
        raise typer.Exit(1)


@app.command()
def housekeeping(as_json: AsJson = False) -> None:
    """Remove what dead attempts left and what is past its keeping, and report what is stuck."""
    from waybill import service

    done = service.housekeeping(_estate())
    if as_json:
        _dump(done.as_json())
    else:
        _print(
            f"removed {_count(done.parts, 'unfinished part')}, {_count(done.files, 'delivered file')} past their keeping, "
            f"{_count(done.spools, 'spool folder')}, {_count(done.archives, 'archive')}"
        )
        kept = done.requests
        _print(
            f"exports: {kept['expired']} expired, {kept['stalled']} given up as stalled, {kept['history']} left the history, "
            f"{_count(kept['files'], 'file')} of theirs removed"
        )
        for path in done.foreign:
            _print(f"left alone, not ours: {path}")
        for one in done.stale:
            _print(f"open since {one.created_at:%Y-%m-%d %H:%M} UTC: {one.id} {one.tenant} {one.entity}: {one.error or 'never tried'}")
    for message in done.failed.values():
        _complain(message)
    if done.failed:
        raise typer.Exit(1)
