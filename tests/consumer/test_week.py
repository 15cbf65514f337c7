"""Seven days of a real sender: after each, the copy in PostgreSQL, DuckDB and SQLite equals the source, row by row."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.consumer.conftest import url_of
from tests.consumer.copies import Said, consumer, run, well
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place, opened
from tests.servers.postgres import Database
from tests.servers.sshd import SftpAccess
from waybill.canonical import text
from waybill.configuration.catalog import ColumnType
from waybill.deliveries import repairs
from waybill.deliveries.reports import describing

MIDNIGHT = NOON.replace(hour=0)
HOUR = timedelta(hours=1)
TYPED = {
    "id": "string",
    "whole": "integer",
    "amount": "decimal",
    "ratio": "float",
    "active": "boolean",
    "born": "date",
    "seen": "timestamp",
    "ref": "uuid",
    "body": "json",
    "raw": "binary",
}
EVERYTHING: dict[str, Any] = {
    **{name: value for name, value in USER.items() if name != "deleted_column"},
    "name": "everything",
    "relation": "everything",
    "deletes": "compare",
    "columns": {name: {"type": kind} for name, kind in TYPED.items()},
}
SQL_TYPES = """tenant_id text, id text, whole hugeint, amount decimal(20, 4), ratio double, active boolean, born date, seen timestamptz,
    ref uuid, body json, raw blob"""
ROWS = {
    1: ("a", 1, "1.1000", 0.1, True, "2026-02-28", "2026-05-30 12:00:00.123456+00", "1" * 32, '{"k": [1, null]}', b"\0\xff"),
    2: ("", None, None, None, None, None, None, None, None, None),
    3: ("c\r\nd", 2**80, "-0.0001", float("nan"), False, "1969-12-31", "1969-12-31 23:59:59.999999+00", "0" * 32, '"x"', b""),
    4: ('say "é"', -(2**63), "9999999999999999.9999", float("-inf"), True, "9999-12-31", "2026-05-31 00:00:00+00", "f" * 32, "[]", b"abc"),
}  # fmt: skip


class Week:
    """The sender's installation, what it delivers over SFTP, and the copies."""

    def __init__(self, place: Place, server: SftpAccess, copy: Path, databases: list[str], format: str) -> None:
        self.place = place
        self.format = format
        self.server = server
        self.copy = copy
        self.databases = databases
        self._source = f"sftp://{server.login}@{server.host}:{server.port}{server.remote_root}"
        self._login = ["--key", server.private_key, "--known-hosts", server.known_hosts]
        self.columns = {
            "user": {"id": "integer", "name": "string", "updated_at": "timestamp", "deleted_at": "timestamp"},
            "everything": TYPED,
        }
        self.columns["theme"] = dict(self.columns["user"])

    def put(self, number: int, changed: datetime) -> None:
        """Insert or replace one of ROWS."""
        with opened(self.place.root / "warehouse.duckdb") as connection:
            row = ROWS[number]
            if self.format == "parquet" and row[1] == 2**80:  # Parquet keeps 64 bits of a column that declares no more
                row = (row[0], 2**62, *row[2:])
            connection.execute("delete from everything where id = ?", [row[0]])
            connection.execute(f"insert into everything values ('acme', {', '.join('?' * 10)}, ?)", [*row, changed])

    def register(self, **csv: Any) -> None:
        destination = {"kind": "folder", "root": str(self.server.root)}
        self.place.tenant(entityList=["user", "theme", "everything"], destination=destination, csv=csv, files={"format": self.format})

    def pull(self) -> Said:
        return consumer("pull", self._source, self.copy, *self._login, "--json")

    def follow(self) -> None:
        """Pull and load, and compare every copy with the source."""
        said = self.pull()
        assert said.code == 0, said
        for database in self.databases:
            well("load", self.copy, "--to", database)
        self.compare()

    def compare(self) -> None:
        for entity, columns in self.columns.items():
            listed = ", ".join(f'cast("{name}" as text)' if kind == "json" else f'"{name}"' for name, kind in columns.items())
            wanted = sorted(canonical(row, columns) for row in self.place.sql(f"set TimeZone = 'UTC'; select {listed} from \"{entity}\""))
            for database in self.databases:
                found = sorted(canonical(row, columns) for row in run(database, f'select {listed} from "{entity}"'))
                assert found == wanted, (entity, database)

    def latest(self, **facts: Any) -> dict[str, Any]:
        return next(item for item in describing.listed(self.place.installation(), "acme") if facts.items() <= item.items())


def canonical(row: tuple[Any, ...], columns: dict[str, str]) -> tuple[str, ...]:
    """A row as text, the same from each database."""
    return tuple(repr(_canonical(value, kind)) for value, kind in zip(row, columns.values(), strict=True))


def _canonical(value: Any, kind: str) -> str | None:
    if value is None:
        return None
    if kind == "json":
        return json.dumps(json.loads(value), sort_keys=True)
    if kind == "binary":
        return base64.b64encode(value).decode()
    if kind == "integer":
        return str(int(value))
    if isinstance(value, str) and kind != "float":
        return value.replace("Z", "+00:00").replace("+00:00", "Z") if kind == "timestamp" else value
    return text(float(value) if kind == "float" else value, ColumnType(kind))


@pytest.fixture(params=["csv", "ndjson", "parquet"])
def week(request: pytest.FixtureRequest, tmp_path: Path, sshd: SftpAccess, postgres: Database) -> Iterator[Week]:
    with closing(make_place(tmp_path / "place")) as place:
        place.write("catalog.yaml", catalog(user=USER, theme=THEME, everything=EVERYTHING))
        databases = [url_of(postgres), f"duckdb:{tmp_path}/copy.duckdb", f"sqlite:{tmp_path}/copy.sqlite"]
        week = Week(place, sshd, tmp_path / "copy", databases, request.param)
        week.register(compression="gzip", max_rows_per_file=7)
        place.sql(f"create table everything ({SQL_TYPES}, updated_at timestamptz)")
        yield week


@pytest.mark.slow
def test_the_copy_equals_the_source_after_each_of_seven_days(week: Week, sshd: SftpAccess, tmp_path: Path) -> None:
    place = week.place
    for number in range(30):
        place.user(number, f"name {number}", MIDNIGHT - DAY)
        place.user(number, f"theme {number}", MIDNIGHT - DAY, table="theme")
    for number in (1, 2):
        week.put(number, MIDNIGHT - DAY)
    place.run(NOON)
    week.follow()

    # Day 2: changes, a tombstone, rows gone from a table that comes whole or by compared keys, a row that was committed late.
    place.user(1, "", MIDNIGHT + HOUR)
    place.user(2, "Bob", MIDNIGHT + HOUR, deleted=MIDNIGHT + HOUR)
    place.user(40, "late", MIDNIGHT - HOUR)
    place.sql("delete from theme where id < 5")
    week.put(3, MIDNIGHT + HOUR)
    place.sql("delete from everything where id = ''")
    place.run(NOON + DAY)
    week.follow()

    # Day 3 is an outage: nothing comes, and nothing is missing.
    place.user(3, "during the outage", MIDNIGHT + DAY + HOUR)
    assert week.pull().json["fetched"] == []
    assert well("status", week.copy)["well"]

    # Day 4 covers both days, with a new column.
    place.sql('alter table "user" add column email varchar')
    place.sql(f"update \"user\" set email = 'a@b', updated_at = '{MIDNIGHT + 2 * DAY + HOUR}' where id = 7")
    columns = USER["columns"]
    assert isinstance(columns, dict)
    changed = {**USER, "columns": {**columns, "email": {"type": "string"}}}
    place.write("catalog.yaml", catalog(user=changed, theme=THEME, everything=EVERYTHING))
    week.columns["user"]["email"] = "string"
    week.put(4, MIDNIGHT + 2 * DAY + HOUR)
    week.put(2, MIDNIGHT + 2 * DAY + HOUR)
    place.run(NOON + 3 * DAY)
    week.follow()

    # Day 5: a redelivery and a backfill of past dates come before the day's own delivery.
    repairs.redeliver(place.installation(), week.latest(entity="user", sequence=2)["delivery_id"], actor="test")
    repairs.backfill(place.installation(), "acme", "user", MIDNIGHT - 2 * DAY, MIDNIGHT + DAY, actor="test")
    place.sql(f"update \"user\" set name = 'day 5', updated_at = '{MIDNIGHT + 3 * DAY + HOUR}' where id in (1, 9)")
    place.run(NOON + 4 * DAY)
    week.follow()

    # Day 6: a full load starts a new generation, compressed otherwise; rows are gone for good. One of its files is damaged on the server.
    place.sql('delete from "user" where id between 10 and 20')
    place.sql("delete from everything where id = 'a'")
    week.register(compression="zstd", line_ending="crlf", bom=True)
    place.run(NOON + 5 * DAY, full_load=True)
    path = next(sshd.root.glob(f"exports/acme/2026/06/05/user/*.{week.format}*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"x" * 9)
    said = week.pull()
    assert (said.code, path.name in said.out, "waybill redeliver" in said.out) == (1, True, True)
    path.write_bytes(whole)
    week.follow()

    # Day 7: an ordinary day.
    place.sql(f"update \"user\" set name = 'day 7', updated_at = '{MIDNIGHT + 5 * DAY + HOUR}' where id = 2")
    place.run(NOON + 6 * DAY)
    week.follow()
    assert well("verify", week.copy)["whole"]
    for database in week.databases:  # from nothing, the same
        fresh = database.replace("copy.", "again.")
        if fresh != database:
            well("load", week.copy, "--to", fresh)
            week.databases = [fresh]
            week.compare()
