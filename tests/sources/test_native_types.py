"""Every native type of every source as every catalogued type: it gives one canonical text from all of them, or is refused by name.

The tables are in `tests/native_types`; a test per source says that no type of it is missing from its table.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.native_types import parquet
from tests.native_types.duckdb import DUCKDB, FAMILIES_WITHOUT_VALUES
from tests.native_types.installed import KINDS, installed
from tests.native_types.postgres import POSTGRES, POSTGRES_INTERNAL, POSTGRES_SETUP
from tests.native_types.values import FEBRUARY, Installation
from tests.servers.postgres import Database as PostgresDatabase
from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill.sources import Source, reuse
from waybill.sources.duckdb.lake import Lake


@pytest.fixture(scope="module", params=KINDS)
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(request.param, request, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def _selection(entity: Entity) -> Selection:
    return Selection(entity, "acme", entity.columns)


@pytest.mark.parametrize("kind", list(ColumnType))
def test_a_native_type_that_holds_a_catalogued_one_gives_its_canonical_text(installation: Installation, kind: ColumnType) -> None:
    fitting = [number for number, case in enumerate(installation.cases) if kind in case.texts]
    selection = _selection(installation.entity(fitting, kind))
    with installation.source.snapshot() as snapshot:
        snapshot.check(selection)
        text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()
    full, empty = csv.reader(text.splitlines())
    found = dict(zip(fitting, full[1:], strict=True))
    wrong = [f"{case.native} {case.value}: {found[at]}" for at in fitting if (case := installation.cases[at]).texts[kind] != found[at]]
    assert not wrong, "\n".join(wrong)
    assert text.splitlines()[1] == "2" + "," * len(fitting)
    assert len(empty) == len(full)


@pytest.mark.parametrize("kind", list(ColumnType))
def test_a_native_type_that_cannot_hold_a_catalogued_one_is_refused_by_name(installation: Installation, kind: ColumnType) -> None:
    left = [number for number, case in enumerate(installation.cases) if kind not in case.texts]
    wrong = []
    with reuse.kept():
        while left:
            with installation.source.snapshot() as snapshot:
                while left:
                    number = left.pop()
                    selection = _selection(installation.entity([number], kind))
                    case, native, checked = installation.cases[number], snapshot.columns(selection.entity)[f"v{number}"], False
                    try:
                        snapshot.check(selection)
                        checked = True
                        text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()
                        wrong.append(f"{case.native} {case.value}: {text}")
                    except PermanentError as error:
                        if f"column v{number} " not in error.what or native not in error.what or not error.next_step:
                            wrong.append(f"{case.native} {case.value}: {error}")
                    if checked:
                        break  # a value was refused, which ends a transaction
    assert not wrong, "\n".join(wrong)


def test_the_table_holds_every_type_of_duckdb() -> None:
    with duckdb.connect() as connection:
        families = {family for (family,) in connection.execute("SELECT DISTINCT logical_type FROM duckdb_types()").fetchall()}
        shown = [connection.execute(f"DESCRIBE SELECT CAST(NULL AS {case.native}) AS x").fetchall()[0][1] for case in DUCKDB]
    plain = {native.partition("(")[0] for native in shown if not native.endswith("]")}
    nested = {"LIST" if native.endswith("[]") else "ARRAY" for native in shown if native.endswith("]")}
    assert families - FAMILIES_WITHOUT_VALUES <= plain | nested


def test_the_table_holds_every_type_of_postgresql(postgres: PostgresDatabase) -> None:
    kept = "SELECT format_type(oid, NULL) FROM pg_type WHERE typtype IN ('b', 'r', 'm') AND typnamespace = 'pg_catalog'::regnamespace"
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute(POSTGRES_SETUP)
        names = [case.native for case in POSTGRES]
        known = {name for (name,) in connection.execute("SELECT format_type(n::regtype, NULL) FROM unnest(%s::text[]) n", [names])}
        every = {name for (name,) in connection.execute(f"{kept} AND typcategory <> 'A'")}
    assert every - known == POSTGRES_INTERNAL


def test_the_table_holds_every_type_of_parquet(tmp_path: Path) -> None:
    parquet.filled(tmp_path)
    shown = duckdb.execute("SELECT logical_type, converted_type FROM parquet_schema(?)", [f"{tmp_path}/sample.parquet"]).fetchall()
    found = {(logical or "").partition("(")[0].removesuffix("Type") for logical, _ in shown} | (
        {"Date"} if ("DATE" in str(shown)) else set()
    )
    found |= {"UUID"} if "UUID" in str(shown) else set()
    assert parquet.LOGICAL - found == parquet.NOT_HERE.keys()


def test_times_of_twelve_bytes_and_intervals_of_parquet_have_the_texts_of_every_other_source(tmp_path: Path) -> None:
    at = pa.array([datetime(2026, 2, 1, 1, 2, 3, 500000, tzinfo=UTC), None], pa.timestamp("ns"))
    table = pa.table({"id": [1, 2], "tenant": ["acme", "acme"], "v0": at})
    pq.write_table(table, tmp_path / "sample.parquet", use_deprecated_int96_timestamps=True)
    assert _text(parquet.lake(tmp_path), "timestamp") == FEBRUARY
    duckdb.execute(
        "COPY (SELECT 1 AS id, 'acme' AS tenant, INTERVAL '1 year 2 months 3 days 04:05:06.5' AS v0)"
        f" TO '{tmp_path}/sample.parquet' (FORMAT parquet)"
    )
    assert _text(parquet.lake(tmp_path), "string") == "1 year 2 mons 3 days 04:05:06.5"


def _text(source: Source, kind: str) -> str:
    """What the first row holds."""
    selection = _selection(Installation(source, [], "sample.parquet").entity([0], kind))
    with source.snapshot() as snapshot:
        snapshot.check(selection)
        text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()
    return next(csv.reader(text.splitlines()))[1]


def _lake(path: Path, values: dict[str, pa.Array]) -> Source:
    pq.write_table(pa.table({"id": [1, 2], "tenant": ["acme", "acme"], **values}), path / "sample.parquet")
    return Lake(LakeSource(kind="lake"), path, _no_connection)


def _no_connection(name: str) -> Connection:
    raise AssertionError(name)


def test_types_of_parquet_give_the_texts_of_every_other_source(tmp_path: Path) -> None:
    at, wanted = datetime(2026, 2, 1, 1, 2, 3, 500000, tzinfo=UTC), FEBRUARY
    record = pa.struct([('a "b', pa.decimal128(5, 2)), ("at", pa.list_(pa.timestamp("ms", "UTC"))), ("ratio", pa.float32())])
    stored = {
        "v0": (pa.array([["a"], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))), '["a"]'),
        "v1": (
            pa.array([{'a "b': Decimal("1.50"), "at": [at], "ratio": float("nan")}, None], record),
            f'{{"a \\"b":1.50,"at":["{wanted}"],"ratio":"NaN"}}',
        ),
        "v2": (pa.array([[("k", float("-inf"))], None], pa.map_(pa.string(), pa.float64())), '{"k":"-Infinity"}'),
        "v3": (pa.array([[b"\x00\xff"], None], pa.list_(pa.binary(2))), '["AP8="]'),
        "v4": (pa.array([[10**9 + 7], None], pa.list_(pa.timestamp("ns"))), '["1970-01-01T00:00:01.000000007Z"]'),
        "v5": (pa.array([[Decimal("0.10")], None], pa.large_list(pa.decimal128(38, 2))), "[0.10]"),
    }
    source = _lake(tmp_path, {name: array for name, (array, _) in stored.items()})
    selection = _selection(Installation(source, [], "sample.parquet").entity(list(range(len(stored))), "json"))
    with source.snapshot() as snapshot:
        snapshot.check(selection)
        text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()
    assert next(csv.reader(text.splitlines()))[1:] == [text for _, text in stored.values()]


def test_decimals_of_more_digits_than_the_engine_has_are_refused_instead_of_rounded(tmp_path: Path) -> None:
    source = _lake(tmp_path, {"v0": pa.array([Decimal("1.50"), None], pa.decimal256(50, 2))})
    selection = _selection(Installation(source, [], "sample.parquet").entity([0], "float"))
    with source.snapshot() as snapshot, pytest.raises(PermanentError, match="column v0 holds decimals of more than 38 digits"):
        snapshot.check(selection)
