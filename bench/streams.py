"""One large entity over several connections: `python -m bench streams [--quick]`, in seconds and against one connection."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.extract import ENTITY, fill_postgres, postgres_of, turns
from bench.leg import Figure, Leg
from bench.spooling import Unforced
from tests.servers.postgres import serve_postgres
from waybill.configuration.selection import FileStyle, Selection
from waybill.formats.csv import write_side_by_side
from waybill.sources import Source


def legs(quick: bool) -> Iterator[Leg | Figure]:
    with tempfile.TemporaryDirectory() as scratch, serve_postgres() as cluster, cluster.database() as database:
        fill_postgres(database, 500_000 if quick else 20_000_000)
        source = postgres_of(database)
        single, two, four = turns(3, *(lambda most=most: _spool(source, Path(scratch), most) for most in (1, 2, 4)))
        yield Figure("PostgreSQL to CSV over 1 stream", single, "s")
        yield Leg("PostgreSQL to CSV over 2 streams | over 1", two, single, 0.7)
        yield Leg("PostgreSQL to CSV over 4 streams | over 1", four, single, 0.7)


def _spool(source: Source, folder: Path, most: int) -> None:
    for old in folder.iterdir():
        old.unlink()
    selection = Selection(ENTITY, "acme", ENTITY.columns)
    with source.snapshot([ENTITY]) as snapshot, snapshot.slices(selection, most) as slices:
        readers = [(one.csv(FileStyle()), one.stop) for one in slices]
        write_side_by_side(readers, ENTITY.columns, FileStyle(), lambda number: Unforced(folder / f"part-{number}.csv"))
