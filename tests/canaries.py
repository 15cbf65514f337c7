"""The search for planted secrets: in which forms one may stand, and where Waybill, Airflow and the machine write."""

from __future__ import annotations

import base64
import gzip
import io
import json
import sqlite3
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pyarrow.parquet


def forms(secret: str) -> set[bytes]:
    """How a secret may stand somewhere: as it is, in UTF-16, in base64 at each of three offsets, percent-encoded, and inside JSON."""
    plain = secret.encode()
    shifted = {base64.b64encode(b"x" * shift + plain)[4:-4] for shift in range(3)}
    return {plain, secret.encode("utf-16-le"), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode(), *shifted}


def of_key(text: str) -> list[str]:
    """The lines of a private key that give it away; an unencrypted one begins like every other."""
    return [line for line in text.splitlines()[2:-1] if len(line) > 30]


def unpacked(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file, and all that is packed inside it."""
    yield name, content
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for inside in archive.namelist():
                yield from unpacked(f"{name}/{inside}", archive.read(inside))
    if content.startswith(b"\x1f\x8b"):
        with suppress(OSError):
            yield f"{name} (unpacked)", gzip.decompress(content)
    if name.endswith(".parquet"):
        table = pyarrow.parquet.read_table(io.BytesIO(content))
        yield f"{name} (rows)", (str(table.to_pylist()) + str(table.schema.metadata)).encode()


@dataclass
class Canaries:
    secrets: Mapping[str, Iterable[str]]

    def found(self, places: Iterable[tuple[str, bytes]]) -> list[str]:
        """Where a secret stands, with what stands before it."""
        wanted = {form: name for name, texts in self.secrets.items() for text in texts for form in forms(text)}
        seen = []
        for place, content in (item for whole in places for item in unpacked(*whole)):
            for form, name in wanted.items():
                if (at := content.find(form)) >= 0:
                    seen.append(f"{name} in {place} after {content[max(0, at - 300) : at]!r}")
        return seen


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink():
                    yield str(path), path.read_bytes()


def tables(dsn: str, what: str = "ledger") -> Iterator[tuple[str, bytes]]:
    """Every row of every table of a PostgreSQL database."""
    with psycopg.connect(dsn) as connection:
        names = connection.execute("select table_name from information_schema.tables where table_schema = 'public'").fetchall()
        for (name,) in names:
            rows = connection.execute(f'select t::text from "{name}" t').fetchall()
            yield f"{what} table {name}", "\n".join(row[0] for row in rows).encode()


def metadata(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every row of Airflow's tables: XCom, rendered templates, serialized DAGs, the audit log."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for name in names:
            rows = connection.execute(f'select * from "{name}"').fetchall()
            yield (
                f"metadata table {name}",
                b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for row in rows for cell in row),
            )


def command_lines() -> list[tuple[str, bytes]]:
    """Every command line of this machine, now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes()
            found.append((f"command line {line[:60]!r}", line))
    return found


@contextmanager
def watched_processes() -> Iterator[dict[str, bytes]]:
    """Every command line of this machine that was seen during the block."""
    seen: dict[str, bytes] = {}
    stop = threading.Event()
    before = set(psutil.pids())  # the machine's own, which are not looked at over and over

    def look() -> None:
        while not stop.wait(0.02):
            for process in set(psutil.pids()) - before:
                with suppress(OSError):
                    line = Path(f"/proc/{process}/cmdline").read_bytes()
                    seen.setdefault(f"command line {line[:60]!r}", line)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
