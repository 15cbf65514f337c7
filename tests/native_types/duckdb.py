"""The types of DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb

from tests.native_types.values import FEBRUARY, ID, cases, ddl
from waybill.sources import Source
from waybill.sources.duckdb.source import DuckDB

RECORD = 'STRUCT("a ""b\'" DECIMAL(5,2), "at" TIMESTAMP, list TIMESTAMPTZ[], ratio DOUBLE, none INTEGER)'
RECORD_LITERAL = f"{{'a \"b''': 1.5, 'at': '{FEBRUARY}', 'list': ['{FEBRUARY}'], 'ratio': 'NaN', 'none': NULL}}"
DUCKDB = cases(
    ("TINYINT", "-7", "small"),
    ("SMALLINT", "-7", "small"),
    ("INTEGER", "-7", "small"),
    ("BIGINT", "-7", "small"),
    ("UTINYINT", "200", "one byte"),
    ("USMALLINT", "200", "one byte"),
    ("UINTEGER", "200", "one byte"),
    ("UBIGINT", "18446744073709551615", "unsigned 64"),
    ("HUGEINT", "'170141183460469231731687303715884105727'", "39 digits"),
    ("UHUGEINT", "'170141183460469231731687303715884105727'", "39 digits"),
    ("BIGNUM", "'123456789012345678901234567890123456789012345'", "45 digits"),
    ("BOOLEAN", "true", "true"),
    ("DECIMAL(5,2)", "1.5", "decimal"),
    ("DECIMAL(2,2)", "-0.25", "decimal fraction"),
    ("DECIMAL(5,0)", "12", "whole decimal"),
    ("DOUBLE", "1e15", "double"),
    ("DOUBLE", "'NaN'", "NaN"),
    ("FLOAT", "'inf'", "infinity"),
    ("FLOAT", "16777216", "single"),
    ("DATE", "'2026-02-01'", "date"),
    ("DATE", "'0044-03-15 (BC)'", "date BC"),
    ("DATE", "'12026-02-01'", "date far"),
    ("TIMESTAMP", f"'{FEBRUARY}'", "timestamp"),
    ("TIMESTAMP", "'0044-03-15 (BC) 12:00:00'", "timestamp BC"),
    ("TIMESTAMP", "'12026-02-01'", "timestamp far"),
    ("TIMESTAMP", "'infinity'", "timestamp infinite"),
    ("TIMESTAMPTZ", f"'{FEBRUARY}'", "timestamp"),
    ("TIMESTAMPTZ", "'infinity'", "timestamp infinite"),
    ("TIMESTAMP_S", f"'{FEBRUARY[:19]}'", "timestamp of seconds"),
    ("TIMESTAMP_MS", f"'{FEBRUARY}'", "timestamp"),
    ("TIMESTAMP_NS", "'2026-02-01 01:02:03.500006'", "timestamp of microseconds"),
    ("TIMESTAMP_NS", "'infinity'", "timestamp infinite"),
    ("TIMESTAMP_NS", "'2026-02-01 01:02:03.500000007'", "nanoseconds"),
    ("TIMESTAMPTZ_NS", "'2026-02-01 03:02:03.500006+02'", "timestamp of microseconds"),
    ("TIMESTAMPTZ_NS", "'2026-02-01 03:02:03.500000007+02'", "nanoseconds"),
    ("UUID", f"'{ID}'", "uuid"),
    ("VARCHAR", "'say \"hi\"'", "text"),
    ("VARCHAR", f"'{ID}'", "id as text"),
    ("VARCHAR", '\'{"NaN": NaN, "b": [-Infinity, 1]}\'', "NaN as text"),
    ("VARCHAR", "'{\"a\": [1, 2.50]}'", "json as text"),
    ("JSON", "'{\"a\": [1, 2.50]}'", "json"),
    ("BLOB", "'\\x00\\xFF'", "binary"),
    ("BIT", "'101'", "bits"),
    ("TIME", "'01:02:03.5'", "time"),
    ("TIMETZ", "'01:02:03.5+02'", "time with zone"),
    ("TIME_NS", "'01:02:03.000000007'", "time of nanoseconds"),
    ("INTERVAL", "'1 year 2 months -3 days 04:05:06.5'", "interval"),
    ("ENUM('it''s', 'b, \"c')", "'it''s'", "enum"),
    ("GEOMETRY", "'POINT (1 2)'", "geometry"),
    ("VARIANT", "1", "anything"),
    ("INTEGER[]", "[1, NULL, -3]", "list of integers"),
    ("INTEGER[3]", "[1, NULL, -3]", "list of integers"),
    ("DOUBLE[]", "[]", "empty list"),
    ("BIGNUM[]", "['123456789012345678901234567890123456789012345']", "list of wide integers"),
    ("BOOLEAN[]", "[true, false, NULL]", "list of booleans"),
    ("DECIMAL(2,2)[]", "[0.5, NULL, -0.25]", "list of fractions"),
    ("DECIMAL(5,2)[]", "[1.5, NULL, -0.05]", "list of decimals"),
    ("DOUBLE[]", "[1e15, 100, 'NaN', 'inf', '-inf', NULL, 0.1]", "list of doubles"),
    ("FLOAT[]", "[1e6, 16777216, 0.1]", "list of singles"),
    ("VARCHAR[]", "['a', 'say \"hi\"', chr(31) || chr(8) || chr(10) || chr(92), 'é😀/', '', NULL, 'null']", "list of texts"),
    ("DATE[]", "['2026-02-01', '0044-03-15 (BC)', NULL]", "list of dates"),
    ("TIMESTAMP[]", f"['{FEBRUARY}', '2026-02-01', NULL]", "list of timestamps"),
    ("TIMESTAMPTZ[]", f"['{FEBRUARY}', '2026-02-01 00:00:00+00', NULL]", "list of timestamps"),
    ("TIMESTAMP_NS[]", "['2026-02-01 01:02:03.5', '2026-02-01 01:02:03.500000007']", "list of nanoseconds"),
    ("UUID[]", f"['{ID}']", "list of uuids"),
    ("BLOB[]", "['\\x00\\xFF', NULL]", "list of binaries"),
    ("JSON[]", "['{\"a\": [1, 2.50]}', NULL]", "list of json"),
    ("INTERVAL[]", "['1 year 2 months -3 days 04:05:06.5']", "list of intervals"),
    ("TIME[]", "['01:02:03.5']", "list of times"),
    ("BIT[]", "['101']", "list of bits"),
    ("ENUM('it''s', 'b')[]", "['it''s', NULL]", "list of enums"),
    ("DECIMAL(5,2)[2][]", "[[1.5, 2], [3.25, NULL]]", "list of lists"),
    ("TIMESTAMP[][]", f"[['{FEBRUARY}', NULL], ['2026-02-01', '{FEBRUARY}']]", "list of lists of timestamps"),
    (RECORD, RECORD_LITERAL, "record"),
    (f"{RECORD}[]", f"[{RECORD_LITERAL}, NULL]", "list of records"),
    ("STRUCT(a INTEGER)", "{'a': NULL}", "record of nothing"),
    ("MAP(VARCHAR, DECIMAL(5,2)[])", "MAP {'a \"b': [1.5], 'c': NULL}", "map"),
    ("MAP(DECIMAL(5,2), DOUBLE)", "MAP {1.5: 'NaN'}", "map by decimal"),
    ('UNION("a b" DECIMAL(5,2), c DATE)', 'union_value("a b" := 1.5::DECIMAL(5,2))', "union"),
    ("TUPLE(INTEGER, VARCHAR, DATE)", "row(1, 'x', NULL)", "tuple"),
    ("STRUCT(v VARIANT)[]", "[]", "anything"),
)
FAMILIES_WITHOUT_VALUES = {"NULL", "TYPE"}
"""DuckDB stores no value of them."""


def filled(path: Path) -> Source:
    with duckdb.connect(str(path / "types.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE sample (id INTEGER, tenant VARCHAR, {ddl(DUCKDB)})")
        values = ", ".join(f"CAST({case.literal} AS {case.native})" for case in DUCKDB)
        connection.execute(f"INSERT INTO sample SELECT 1, 'acme', {values}")
        connection.execute("INSERT INTO sample (id, tenant) VALUES (2, 'acme')")
    return DuckDB(path / "types.duckdb")
