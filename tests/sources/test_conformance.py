"""The same rows give the same bytes from every kind of source: each one is held to waybill.canonical, hostile values first."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.servers.mariadb import MariaDatabase, MariaServer
from tests.servers.postgres import Cluster, Database
from waybill import canonical
from waybill.configuration.catalog import DbApiSource, Entity, LakeSource, PostgresSource
from waybill.configuration.selection import ChangeSpan, FileStyle, Selection
from waybill.configuration.values.columns import Column
from waybill.connection import Connection
from waybill.deliveries.extraction.other_formats import other_format
from waybill.errors import PermanentError
from waybill.files import manifest
from waybill.files.records import texts_of
from waybill.formats.csv import write_csv
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi
from waybill.sources.duckdb.lake import Lake
from waybill.sources.duckdb.source import DuckDB
from waybill.sources.postgres.source import Postgres
from waybill_consumer.verification.recount import recount

DEFAULT = FileStyle()
BERLIN = ZoneInfo("Europe/Berlin")
TYPES = {
    "table": "string",
    "select": "string",
    "int": "integer",
    "decimal": "decimal",
    "float": "float",
    "boolean": "boolean",
    "date": "date",
    "at": "timestamp",
    "from": "timestamp",
    "uuid": "uuid",
    "json": "json",
    "binary": "binary",
    'odd "name`': "string",
}
ENTITY = Entity.model_validate(
    {
        "id": "orders",
        "source": "any",
        "relation": "order",
        "tenant_column": "group",
        "key": "table",
        "changes": {"mode": "lookback", "column": "updated_at"},
        "deleted_column": "deleted_at",
        "columns": {name: {"type": kind} for name, kind in TYPES.items()},
    }
)
LAKE_ENTITY = ENTITY.model_copy(update={"relation": "order/*/*.parquet"})

TEXTS = [
    "",
    " edge ",
    "\t",
    "#hash",
    "#",
    "a,b",
    "a;b",
    'say "hi"',
    '"',
    '""',
    "\r",
    "\n",
    "\r\n",
    "lone\rreturn",
    "two\nlines",
    "\\.",
    "\\N",
    "\\",
    "NULL",
    "null",
    "nan",
    "😀 beyond the BMP",
    "e\u0301 is not é",
    "ÅÄÖ",
    "\u2028 line separator",
    "\ufeffmark",
    "'; DROP TABLE x --",
    "%s ? {} $1 :x",
    "=1+1",
    "x" * 5000,
]
FLOATS = [0.0, -0.0, 1e15, -1e15, 1e16, 999999999999999.0, 1234567890123456.5, 9007199254740993.0, 0.1 + 0.2, 1e-5, 0.0001, 100.0, 1 / 3]
FLOATS += [5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 123456.789, -2.5e-7, 1e22, 1e21]
ODD_FLOATS = [float("nan"), float("inf"), float("-inf")]
DECIMALS = [Decimal("9999999999999999999999999999.9999999999"), Decimal("-0.0000000001"), Decimal("1.5000000000"), Decimal("0E-10")]
INTEGERS = [0, -1, 2**63 - 1, -(2**63), 42]
DATES = [date(1969, 12, 31), date(1582, 10, 15), date(2024, 2, 29), date(9999, 12, 31), date(1000, 1, 1)]
TIMES = [
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=0),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=BERLIN),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
UUIDS = [UUID(int=0), UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), UUID(int=2**128 - 1)]
JSONS = [
    '{"b": 1, "a" : [1, 2.50, {"x":  null}], "text": "a , b : \\"c\\"  d"}',
    "[]",
    '"x  y"',
    "null",
    '{"é😀": "\\u00e9\\/ \\u0007"}',
    '{"a": 1, "a": 1E+05}',
    "[\n 1,\t2 ]",
]
BINARIES = [b"", b"\x00\xff", bytes(range(256)), b"x" * 100]


def _rows() -> list[dict[str, Any]]:
    """Every hostile value once; a row of NULLs, and rows of another tenant that must never show."""
    values: dict[str, list[Any]] = {
        "select": TEXTS,
        "int": INTEGERS,
        "decimal": DECIMALS,
        "float": FLOATS + ODD_FLOATS,
        "boolean": [True, False],
        "date": DATES,
        "at": TIMES,
        "from": TIMES,
        "uuid": UUIDS,
        "json": JSONS,
        "binary": BINARIES,
        'odd "name`': ["", "plain"],
    }
    keys = ["b", "a", "B", "Z", "é", "z", "😀", "\uffff", "10", "9", " ", "aa", "A", "_", "~"]
    rows: list[dict[str, Any]] = []
    for number in range(max(map(len, values.values()))):
        key = keys[number] if number < len(keys) else f"key {number:02d}"
        row = {name: (some[number] if number < len(some) else None) for name, some in values.items()}
        rows.append(
            {
                "table": key,
                **row,
                "group": "acme",
                "updated_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
                "deleted_at": None,
            }
        )
    rows[3]["deleted_at"] = datetime(2026, 1, 2, tzinfo=UTC)  # nobody touched its change column
    strangers = ["globex", "ACME", "acme ", "äcme", "acme2"]
    return rows + [{**rows[0], "table": f"not ours {tenant}", "group": tenant} for tenant in strangers]


ROWS = _rows()


def numbered(values: list[str | None]) -> list[tuple[str | None, str, int]]:
    """Rows of the table `single`."""
    return [(value, "acme", number) for number, value in enumerate(values)]


@dataclass(frozen=True)
class Installation:
    """A source that holds `rows`, which are ROWS as far as its engine can hold them."""

    source: Source
    rows: list[dict[str, Any]]
    entity: Entity = ENTITY
    single: Callable[[list[str | None]], Source] | None = field(default=None, repr=False)


def _without(name: str, bad: Callable[[Any], bool]) -> list[dict[str, Any]]:
    return [row | {name: None} if row[name] is not None and bad(row[name]) else row for row in ROWS]


def _duckdb(path: Path) -> Installation:
    def fill(file: Path, ddl: str, rows: list[tuple[Any, ...]], table: str = '"order"') -> Source:
        with duckdb.connect(str(file)) as connection:
            connection.execute(ddl)
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        return DuckDB(file)

    ddl = """CREATE TABLE "order" ("table" VARCHAR, "select" VARCHAR, "int" BIGINT, "decimal" DECIMAL(38, 10),
        "float" DOUBLE,
        "boolean" BOOLEAN, "date" DATE, "at" TIMESTAMPTZ, "from" TIMESTAMP, "uuid" UUID, "json" JSON, "binary" BLOB,
        "odd ""name`" VARCHAR, "group" VARCHAR,
        updated_at TIMESTAMPTZ, deleted_at TIMESTAMP)"""
    rows = [tuple((row | {"from": _naive(row["from"]), "deleted_at": _naive(row["deleted_at"])}).values()) for row in ROWS]
    single = 'CREATE TABLE single ("only" VARCHAR, "group" VARCHAR, number INTEGER)'
    return Installation(
        fill(path / "a.duckdb", ddl, rows),
        ROWS,
        single=lambda values: fill(path / "b.duckdb", single, numbered(values), "single"),
    )


def _lake(path: Path) -> Installation:
    schema = pa.schema(
        [
            ("table", pa.string()),
            ("select", pa.large_string()),
            ("int", pa.int64()),
            ("decimal", pa.decimal128(38, 10)),
            ("float", pa.float64()),
            ("boolean", pa.bool_()),
            ("date", pa.date32()),
            ("at", pa.timestamp("us", "Europe/Berlin")),
            ("from", pa.timestamp("us")),
            ("uuid", pa.string()),
            ("json", pa.string()),
            ("binary", pa.binary()),
            ('odd "name`', pa.string()),
            ("updated_at", pa.timestamp("us", "UTC")),
            ("deleted_at", pa.timestamp("ms", "UTC")),
        ]
    )

    def columns(rows: list[dict[str, Any]], names: list[str]) -> list[list[Any]]:
        plain = [row | {"from": _naive(row["from"]), "uuid": row["uuid"] and str(row["uuid"])} for row in rows]
        return [[row[name] for row in plain] for name in names]

    for tenant in {row["group"] for row in ROWS}:
        rows = [row for row in ROWS if row["group"] == tenant]
        folder = path / "order" / f"group={tenant}"
        folder.mkdir(parents=True)
        half = max(1, len(rows) // 2)
        for number, part in enumerate((rows[:half], rows[half:])):
            arrays = [pa.array(column, kind.type) for column, kind in zip(columns(part, schema.names), schema, strict=True)]
            pq.write_table(pa.table(arrays, schema=schema), folder / f"{number}.parquet")

    def single(values: list[str | None]) -> Source:
        (path / "single" / "group=acme").mkdir(parents=True)
        table = pa.table({"only": pa.array(values, pa.string()), "number": list(range(len(values)))})
        pq.write_table(table, path / "single" / "group=acme" / "0.parquet")
        return Lake(LakeSource(kind="lake"), path, _no_connection)

    return Installation(Lake(LakeSource(kind="lake"), path, _no_connection), ROWS, LAKE_ENTITY, single)


def _postgres(database: Database) -> Installation:
    source = Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: _connection(database))
    json_text = [row | {"json": None} if row["json"] and "\\u0000" in row["json"] else row for row in ROWS]
    with psycopg.connect(database.dsn) as connection:
        connection.execute(
            """CREATE TABLE "order" ("table" text COLLATE "en-x-icu", "select" text, "int" bigint, "decimal" numeric(38, 10),
            "float" float8, "boolean" boolean, "date" date, "at" timestamptz, "from" timestamp, "uuid" uuid, "json" json, "binary" bytea,
            "odd ""name`" varchar, "group" text, updated_at timestamptz, deleted_at timestamptz)"""
        )
        connection.cursor().executemany(
            'INSERT INTO "order" VALUES (' + ", ".join(["%s"] * 16) + ")",
            [tuple((row | {"from": _naive(row["from"])}).values()) for row in json_text],
        )

    def single(values: list[str | None]) -> Source:
        with psycopg.connect(database.dsn) as connection:
            connection.execute('CREATE TABLE single ("only" text, "group" text, number int)')
            connection.cursor().executemany("INSERT INTO single VALUES (%s, %s, %s)", numbered(values))
        return source

    return Installation(source, json_text, single=single)


def _mariadb(database: MariaDatabase) -> Installation:
    def connect(_: str) -> Any:
        return database.connect()

    source = DbApi(DbApiSource(kind="dbapi", connection="maria"), connect)
    rows = _without("float", lambda value: not math.isfinite(value) or _is_negative_zero(value))
    with connect("") as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES'")
        connection.server_status |= 512  # what the server answers from the next statement on
        cursor.execute(
            """CREATE TABLE `order` (`table` varchar(100), `select` longtext, `int` bigint, `decimal` decimal(38, 10), `float` double,
            `boolean` boolean, `date` date, `at` datetime(6), `from` datetime(6), `uuid` uuid, `json` json,
            `binary` longblob,
            `odd "name``` varchar(20), `group` varchar(20), updated_at timestamp(6) NULL, deleted_at datetime(6))
            CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"""
        )
        times = ("at", "from", "updated_at", "deleted_at")
        cursor.execute("SET time_zone = '+00:00'")
        for row in rows:
            plain = row | {name: _naive(row[name]) for name in times} | {"uuid": row["uuid"] and str(row["uuid"])}
            cursor.execute("INSERT INTO `order` VALUES (" + ", ".join(["%s"] * 16) + ")", list(plain.values()))
        connection.commit()

    def single(values: list[str | None]) -> Source:
        with connect("") as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE single (`only` text, `group` text, number int) CHARACTER SET utf8mb4")
            cursor.executemany("INSERT INTO single VALUES (%s, %s, %s)", numbered(values))
            connection.commit()
        return source

    return Installation(source, rows, single=single)


def _sqlite(path: Path) -> Installation:
    """Times and decimals as text, as SQLite's users keep them; half of the times with an offset."""

    def plain(row: dict[str, Any]) -> list[Any]:
        shown = dict(row)
        for name in ("at", "updated_at", "deleted_at"):
            shown[name] = row[name] and row[name].isoformat()
        shown["from"] = row["from"] and str(_naive(row["from"]))
        for name in ("decimal", "uuid", "date"):
            shown[name] = None if row[name] is None else canonical.text(row[name], ENTITY.columns[name].type)
        return list(shown.values())

    def fill(file: Path, ddl: str, rows: list[Any], table: str = '"order"') -> Source:
        connection = sqlite3.connect(file)
        connection.execute(ddl)
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.commit()
        connection.close()
        return DbApi(DbApiSource(kind="dbapi", connection="lite"), lambda _: sqlite3.connect(file))

    ddl = """CREATE TABLE "order" ("table" TEXT COLLATE NOCASE, "select" TEXT, "int" INTEGER, "decimal" TEXT,
        "float" REAL,
        "boolean" BOOLEAN, "date" DATE, "at" TEXT, "from" DATETIME, "uuid" TEXT, "json" TEXT, "binary" BLOB,
        "odd ""name`" TEXT, "group" TEXT COLLATE NOCASE,
        updated_at TEXT, deleted_at TEXT)"""
    rows = _without("float", lambda value: math.isnan(value) or _is_negative_zero(value))
    single = 'CREATE TABLE single ("only" TEXT, "group" TEXT, number INTEGER)'
    return Installation(
        fill(path / "a.sqlite", ddl, [plain(row) for row in rows]),
        rows,
        single=lambda values: fill(path / "b.sqlite", single, numbered(values), "single"),
    )


def _is_negative_zero(value: float) -> bool:
    return value == 0 and math.copysign(1, value) < 0


def _naive(value: datetime | None) -> datetime | None:
    return value and value.astimezone(UTC).replace(tzinfo=None)


def _no_connection(name: str) -> Connection:
    raise AssertionError(name)


def _connection(database: Database) -> Connection:
    return Connection("pg", "postgres", database.host, database.port, database.user, database.name)


@pytest.fixture(scope="module", params=["duckdb", "lake", "postgres", "mariadb", "sqlite"])
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    path = tmp_path_factory.mktemp(request.param)
    match request.param:
        case "duckdb":
            yield _duckdb(path)
        case "lake":
            yield _lake(path)
        case "sqlite":
            yield _sqlite(path)
        case "postgres":
            cluster: Cluster = request.getfixturevalue("postgres_cluster")
            with cluster.database() as database:
                yield _postgres(database)
        case "mariadb":
            server: MariaServer = request.getfixturevalue("mariadb_server")
            with server.database() as maria:
                yield _mariadb(maria)


def expected(rows: list[dict[str, Any]], columns: dict[str, Column] | None = None, salt: bytes = b"") -> list[list[str | None]]:
    """The canonical fields of the tenant's rows in key order."""
    found = []
    for row in sorted((row for row in rows if row["group"] == "acme"), key=lambda row: row["table"].encode()):
        fields = []
        for name, column in (columns or ENTITY.columns).items():
            text = canonical.text(row[name], column.type)
            fields.append(canonical.anonymize(text, salt) if column.export == "anonymize" else text)
        found.append(fields)
    return found


def read(source: Source, selection: Selection, style: FileStyle = DEFAULT) -> tuple[bytes, int]:
    with source.snapshot() as snapshot:
        snapshot.check(selection)
        blocks = [(bytes(block), count) for block, count in snapshot.csv(selection, style)]
    return b"".join(block for block, _ in blocks), sum(count for _, count in blocks)


def selection_of(installation: Installation, **changes: Any) -> Selection:
    return replace(Selection(installation.entity, "acme", installation.entity.columns), **changes)


@pytest.mark.parametrize(
    "style",
    [FileStyle(), FileStyle(delimiter=";", line_end="\r\n"), FileStyle(delimiter="\t"), FileStyle(delimiter="|", max_rows_per_file=7)],
    ids=["default", "semicolon-crlf", "tab", "pipe-parts"],
)
def test_the_same_rows_give_the_same_bytes_from_every_source(installation: Installation, style: FileStyle) -> None:
    lines = [canonical.csv_line(fields, style.delimiter, style.line_end) for fields in expected(installation.rows)]
    data, count = read(installation.source, selection_of(installation), style)
    assert data.decode().split("\n") == "".join(lines).split("\n")
    assert count == len(lines)


def test_no_block_crosses_the_end_of_a_file(installation: Installation) -> None:
    with installation.source.snapshot() as snapshot:
        counts = [count for _, count in snapshot.csv(selection_of(installation), FileStyle(max_rows_per_file=7))]
    seen = 0
    for count in counts:
        assert seen // 7 == (seen + count - 1) // 7
        seen += count


def test_pseudonyms_are_the_same_from_every_source(installation: Installation) -> None:
    columns = {name: column.model_copy(update={"export": "anonymize"}) for name, column in installation.entity.columns.items()}
    data, _ = read(installation.source, selection_of(installation, columns=columns, salt=b"a salt"))
    assert data.decode().splitlines() == [
        canonical.csv_line(fields).rstrip("\n") for fields in expected(installation.rows, columns, b"a salt")
    ]


def _digests(installation: Installation) -> dict[str, bytes]:
    found = {}
    for row in installation.rows:
        if row["group"] == "acme":
            position = canonical.timestamp_text(max(row["updated_at"], row["deleted_at"] or row["updated_at"]))
            fields = [canonical.text(row[name], column.type) for name, column in ENTITY.columns.items()]
            found[row["table"]] = canonical.row_digest([row["table"]], position, fields)
    return found


def test_version_digests_are_the_same_from_every_source_and_dialect(installation: Installation) -> None:
    with installation.source.snapshot() as snapshot:
        found = [digest for batch in snapshot.digests(selection_of(installation)) for digest in batch]
    assert sorted(found) == sorted(_digests(installation).values())


def test_the_window_is_half_open_over_the_later_of_change_and_deletion(installation: Installation) -> None:
    start, end = datetime(2026, 1, 1, 0, 2, tzinfo=UTC), datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
    chosen = [row for row in installation.rows if start <= (row["deleted_at"] or row["updated_at"]) < end]
    selection = selection_of(installation, changed=ChangeSpan(start, end))
    data, _ = read(installation.source, selection)
    assert data.decode() == "".join(map(canonical.csv_line, expected(chosen)))
    with installation.source.snapshot() as snapshot:
        assert snapshot.count(selection) == 7
    data, _ = read(
        installation.source, replace(selection, changed=ChangeSpan(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)))
    )
    assert data.decode() == "".join(map(canonical.csv_line, expected([ROWS[3]])))


@pytest.mark.parametrize("most", [None, 2])
def test_versions_that_are_known_are_left_out(installation: Installation, most: int | None) -> None:
    known = {digest for table, digest in _digests(installation).items() if table not in (ROWS[1]["table"], ROWS[20]["table"])}
    changed = ChangeSpan(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 22, tzinfo=UTC), known=known | {b"\0" * 16})
    chosen = [row for row in installation.rows if row["table"] in (ROWS[1]["table"], ROWS[20]["table"])]
    data, rows = read(installation.source, selection_of(installation, changed=changed), FileStyle(max_rows_per_file=most))
    assert (data.decode(), rows) == ("".join(map(canonical.csv_line, expected(chosen))), len(chosen))


def test_known_digests_may_be_of_fewer_columns_than_are_exported(installation: Installation) -> None:
    few = {"select": ENTITY.columns["select"]}
    row = installation.rows[1]
    digest = canonical.row_digest([row["table"]], canonical.timestamp_text(row["updated_at"]), [row["select"]])
    changed = ChangeSpan(known={digest}, known_columns=few)
    data, _ = read(installation.source, selection_of(installation, changed=changed))
    others = [item for item in installation.rows if item["table"] != row["table"]]
    assert data.decode() == "".join(map(canonical.csv_line, expected(others)))


def test_live_rows_only_leaves_deleted_ones_out(installation: Installation) -> None:
    data, count = read(installation.source, selection_of(installation, live_only=True))
    assert count == len(expected(installation.rows)) - 1
    assert data.decode() == "".join(map(canonical.csv_line, expected([row for row in installation.rows if row["deleted_at"] is None])))


def test_arrow_batches_hold_the_same_values_in_the_catalogued_types(installation: Installation) -> None:
    with installation.source.snapshot() as snapshot:
        table = pa.Table.from_batches(list(snapshot.batches(selection_of(installation))))
    assert table.column_names == list(ENTITY.columns)
    for name, kind in {"int": pa.int64(), "float": pa.float64(), "boolean": pa.bool_(), "date": pa.date32(), "binary": pa.binary()}.items():
        assert table.schema.field(name).type == kind, name
    assert all(table.schema.field(name).type == pa.timestamp("us", "UTC") for name in ("at", "from"))
    texts = [[canonical.text(value, column.type) for value in table.column(name).to_pylist()] for name, column in ENTITY.columns.items()]
    assert [list(row) for row in zip(*texts, strict=True)] == expected(installation.rows)


def test_a_single_column_keeps_null_apart_from_empty(installation: Installation) -> None:
    values = [None, "", "\\.", '"\\."', "x", '"', "two\nlines"]
    entity = Entity.model_validate(
        {
            "id": "single",
            "source": "any",
            "relation": "single/*/*.parquet" if installation.entity is LAKE_ENTITY else "single",
            "tenant_column": "group",
            "key": "number",
            "changes": {"mode": "full"},
            "columns": {"only": {"type": "string"}},
        }
    )
    assert installation.single is not None
    data, count = read(installation.single(values), Selection(entity, "acme", entity.columns))
    assert data.decode() == "".join(canonical.csv_line([value]) for value in values)
    assert count == len(values)


def test_jsonb_is_made_compact_in_its_own_key_order(postgres: Database) -> None:
    values = [
        {"long key": [1, 2.5, "a, b", 'say ": "', None, {"n": None, "null": "null"}], "k": "x\\y\t\u0001 é😀 9999e-7777777"},
        {"plain": None, "deep": [[[], {}], "null, null"]},
        ["9999e-7777777", 'back\\slash, "quote": '],
        None,
        "text",
        12.50,
    ]
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute('CREATE TABLE "order" ("table" int PRIMARY KEY, "group" text, json jsonb)')
        for number, value in enumerate(values):
            connection.execute('INSERT INTO "order" VALUES (%s, %s, %s)', [number, "acme", json.dumps(value)])
        stored = [row[0] for row in connection.execute('SELECT json::text FROM "order" ORDER BY "table"')]
    source = Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: _connection(postgres))
    entity = Entity.model_validate(
        {
            "id": "documents",
            "source": "any",
            "relation": "order",
            "tenant_column": "group",
            "key": "table",
            "changes": {"mode": "full"},
            "columns": {"json": {"type": "json"}},
        }
    )
    data, _ = read(source, Selection(entity, "acme", entity.columns))
    assert data.decode() == "".join(canonical.csv_line([canonical.compact_json(text)]) for text in stored)


class _Memory:
    """A file of a delivery."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, block: bytes | memoryview) -> None:
        self.data += bytes(block)

    def finish(self) -> None:
        """All is there."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def bytes(self) -> int:
        return len(self.data)


SHAPES = {
    "csv": FileStyle(),
    "ndjson": FileStyle(format="ndjson"),
    "ndjson-gzip-parts": FileStyle(format="ndjson", compression="gzip", max_rows_per_file=7),
    "ndjson-zstd": FileStyle(format="ndjson", compression="zstd"),
    "parquet": FileStyle(format="parquet"),
    "parquet-parts": FileStyle(format="parquet", max_rows_per_file=7, delimiter=";", compression="gzip"),
}


def written(installation: Installation, selection: Selection, style: FileStyle) -> list[bytes]:
    """The files of a delivery in this dialect."""
    sinks: list[_Memory] = []

    def new_file(number: int) -> _Memory:
        sinks.append(_Memory())
        return sinks[-1]

    with installation.source.snapshot() as snapshot:
        front = None if style.format == "csv" else other_format(style, selection, snapshot.binding(selection.entity))
        found = write_csv(snapshot.csv(selection, style.records), selection.columns, style, new_file, front=front)
    assert [item.sha256 for item in found] == [sink.sha256 for sink in sinks]
    dialect_said = manifest.csv_of(manifest.dialect_of(style))
    for name, sink in zip(found, sinks, strict=True):
        counted = recount([sink.data], dialect_said, len(selection.columns), style.format)
        assert (counted.rows, counted.sha256, counted.faults) == (name.rows, name.sha256, ())
        assert counted.header in (tuple(selection.columns), None)
    return [sink.data for sink in sinks]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_format_holds_the_same_rows_from_every_source(installation: Installation, shape: str) -> None:
    style = SHAPES[shape]
    selection = selection_of(installation)
    said = manifest.csv_of(manifest.dialect_of(style))
    kinds = [column.type.value for column in selection.columns.values()]
    typed = list(zip(selection.columns, kinds, strict=True))
    found = [record for data in written(installation, selection, style) for record in texts_of([data], said, style.format, typed)]
    rows = expected(installation.rows)
    wanted = [[field or "" for field in fields] for fields in rows]
    if style.format == "ndjson":  # where a column holds JSON, null is the only word for both
        at = kinds.index("json")
        wanted = [["" if number == at and field == "null" else field for number, field in enumerate(fields)] for fields in wanted]
    assert found == wanted
    assert len(rows) == len(found)


def test_ndjson_has_the_same_bytes_from_every_source(installation: Installation) -> None:
    [data] = written(installation, selection_of(installation), SHAPES["ndjson"])
    for line, fields in zip(data.decode().removesuffix("\n").split("\n"), expected(installation.rows), strict=True):
        said = json.loads(line)
        assert list(said) == list(TYPES)
        for (name, kind), wanted in zip(TYPES.items(), fields, strict=True):
            value = said[name]
            if wanted is None:
                assert value is None, name
            elif kind in ("integer", "boolean"):
                assert json.dumps(value) == wanted
            elif kind == "float" and isinstance(value, float | int):
                assert value == float(wanted)
            elif kind == "json":
                assert value == json.loads(wanted)
            else:
                assert value == wanted


def test_parquet_has_the_types_of_the_catalog_and_no_value_of_it_is_rounded(installation: Installation) -> None:
    [data] = written(installation, selection_of(installation), SHAPES["parquet"])
    table = pq.read_table(pa.py_buffer(data))
    types = {field.name: field.type for field in table.schema}
    assert types["int"] == pa.int64()
    assert (types["float"], types["boolean"], types["date"], types["binary"]) == (pa.float64(), pa.bool_(), pa.date32(), pa.binary())
    assert types["at"] == types["from"] == pa.timestamp("us", "UTC")
    wanted = [
        row["decimal"]
        for row in sorted((row for row in installation.rows if row["group"] == "acme"), key=lambda row: row["table"].encode())
    ]
    assert [None if item is None else Decimal(item) for item in table.column("decimal").to_pylist()] == wanted
    [empty] = written(
        installation,
        selection_of(installation, changed=ChangeSpan(datetime(2031, 1, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC))),
        SHAPES["parquet"],
    )
    assert pq.read_table(pa.py_buffer(empty)).schema.equals(table.schema)


def test_rows_known_from_before_are_left_out_in_every_format(installation: Installation) -> None:
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    with installation.source.snapshot() as snapshot:
        known = {digest for some in snapshot.digests(selection_of(installation, changed=ChangeSpan(start, end))) for digest in some}
    kept = set(sorted(known)[: len(known) // 2])
    counts = set()
    for style in SHAPES.values():
        said = manifest.csv_of(manifest.dialect_of(style))
        selection = selection_of(installation, changed=ChangeSpan(start, end, known=kept))
        files = written(installation, selection, style)
        counts.add(sum(recount([data], said, len(TYPES), style.format).rows or 0 for data in files))
    assert counts == {len(known) - len(kept)}


def test_a_value_that_parquet_cannot_hold_is_refused_and_not_told() -> None:
    columns = {"id": Column(type="integer"), "note": Column(type="string")}
    entity = ENTITY.model_copy(update={"columns": columns})
    sink = _Memory()
    front = other_format(FileStyle(format="parquet"), Selection(entity, "acme", columns), {"id": "bigint", "note": "text"})(sink)
    with pytest.raises(PermanentError, match="does not fit into the type that Parquet and XLSX have") as caught:
        front.write(b"1,fine\n99999999999999999999,private\n")
    front.discard()
    assert caught.value.code == "row_limit_format"
    assert not {"99999999999999999999", "private"} & set(str(caught.value).replace(",", " ").split())
    assert caught.value.__cause__ is None
