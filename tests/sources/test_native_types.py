"""Every native type of every source as every catalogued type: it gives one canonical text from all of them, or is refused by name.

`VALUES` says what a value is delivered as. Each source's table says how that source stores it, and a test per source says that no type of
it is missing from the table.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.servers.postgres import Cluster
from tests.servers.postgres import Database as PostgresDatabase
from waybill import canonical
from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity, LakeSource, PostgresSource
from waybill.configuration.selection import Dialect, Selection
from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill.sources import Source
from waybill.sources.duckdb.lake import Lake
from waybill.sources.duckdb.source import DuckDB
from waybill.sources.postgres.source import Postgres

Texts = dict[str, str]


def whole(text: str) -> Texts:
    return {"integer": text, "decimal": text, "float": canonical.float_text(float(text)), "string": text}


def exact(text: str) -> Texts:
    return {"decimal": text, "string": text}


def real(text: str) -> Texts:
    return {"float": text, "string": text}


def nested(text: str) -> Texts:
    return {"json": text, "string": text}


def same(text: str, *kinds: str) -> Texts:
    return dict.fromkeys([*kinds, "string"], text)


FEBRUARY = "2026-02-01T01:02:03.500000Z"
ID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
VALUES: dict[str, Texts] = {
    "small": whole("-7"),
    "one byte": whole("200"),
    "unsigned 64": whole("18446744073709551615"),
    "39 digits": whole("170141183460469231731687303715884105727"),
    "45 digits": whole("123456789012345678901234567890123456789012345"),
    "true": same("true", "boolean"),
    "decimal": exact("1.50"),
    "decimal of 40 digits": exact("1234567890123456789012345678901234567.890"),
    "whole decimal": {**exact("12"), "integer": "12"},
    "decimal that is whole": {**exact("12.00"), "integer": "12"},
    "no number": exact("NaN"),
    "double": real("1e+15"),
    "NaN": real("NaN"),
    "infinity": real("Infinity"),
    "single": real("16777216"),
    "date": same("2026-02-01", "date"),
    "date BC": same("0044-03-15 BC", "date"),
    "date far": same("12026-02-01", "date"),
    "timestamp": same(FEBRUARY, "timestamp"),
    "timestamp BC": same("0044-03-15T12:00:00.000000Z BC", "timestamp"),
    "timestamp far": same("12026-02-01T00:00:00.000000Z", "timestamp"),
    "timestamp infinite": same("infinity", "timestamp"),
    "timestamp of seconds": same("2026-02-01T01:02:03.000000Z", "timestamp"),
    "timestamp of microseconds": same("2026-02-01T01:02:03.500006Z", "timestamp"),
    "nanoseconds": same("2026-02-01T01:02:03.500000007Z"),
    "uuid": same(ID, "uuid"),
    "text": same('say "hi"'),
    "id as text": same(ID, "uuid"),
    "NaN as text": {"json": '{"NaN":"NaN","b":["-Infinity",1]}', "string": '{"NaN": NaN, "b": [-Infinity, 1]}'},
    "json as text": {"json": '{"a":[1,2.50]}', "string": '{"a": [1, 2.50]}'},
    "json": nested('{"a":[1,2.50]}'),
    "binary": {"binary": "AP8="},
    "bits": same("101"),
    "time": same("01:02:03.5"),
    "time with zone": same("01:02:03.5+02"),
    "time of nanoseconds": same("01:02:03.000000007"),
    "span of hours": same("-838:59:59"),
    "interval": same("1 year 2 mons -3 days +04:05:06.5"),
    "enum": same("it's"),
    "geometry": same("POINT (1 2)"),
    "list of integers": nested("[1,null,-3]"),
    "empty list": nested("[]"),
    "list of wide integers": nested("[123456789012345678901234567890123456789012345]"),
    "list of booleans": nested("[true,false,null]"),
    "list of decimals": nested("[1.50,null,-0.05]"),
    "list of doubles": nested('[1e+15,100,"NaN","Infinity","-Infinity",null,0.1]'),
    "list of singles": nested("[1000000,16777216,0.1]"),
    "list of texts": nested('["a","say \\"hi\\"","\\u001f\\b\\n\\\\","é😀/","",null,"null"]'),
    "list of dates": nested('["2026-02-01","0044-03-15 BC",null]'),
    "list of timestamps": nested(f'["{FEBRUARY}","2026-02-01T00:00:00.000000Z",null]'),
    "list of nanoseconds": nested(f'["{FEBRUARY}","2026-02-01T01:02:03.500000007Z"]'),
    "list of uuids": nested(f'["{ID}"]'),
    "list of binaries": nested('["AP8=",null]'),
    "list of json": nested('[{"a":[1,2.50]},null]'),
    "list of intervals": nested('["1 year 2 mons -3 days +04:05:06.5"]'),
    "list of times": nested('["01:02:03.5"]'),
    "list of bits": nested('["101"]'),
    "list of enums": nested('["it\'s",null]'),
    "list of lists": nested("[[1.50,2.00],[3.25,null]]"),
    "list of lists of timestamps": nested(f'[["{FEBRUARY}",null],["2026-02-01T00:00:00.000000Z","{FEBRUARY}"]]'),
    "record": nested(f'{{"a \\"b\'":1.50,"at":"{FEBRUARY}","list":["{FEBRUARY}"],"ratio":"NaN","none":null}}'),
    "list of records": nested(f'[{{"a \\"b\'":1.50,"at":"{FEBRUARY}","list":["{FEBRUARY}"],"ratio":"NaN","none":null}},null]'),
    "record of nothing": nested('{"a":null}'),
    "map": nested('{"a \\"b":[1.50],"c":null}'),
    "map by decimal": nested('{"1.50":"NaN"}'),
    "union": nested('{"a b":1.50}'),
    "tuple": nested('[1,"x",null]'),
    "range of integers": same("[1,5)"),
    "range of timestamps": same('["2026-02-01 01:02:03.5+00",)'),
    "ranges of integers": same("{[1,5),[7,9)}"),
    "list of ranges": nested('["[1,5)"]'),
    "anything": {},
}


@dataclass(frozen=True)
class Case:
    native: str
    literal: str
    value: str

    @property
    def texts(self) -> Texts:
        return VALUES[self.value]


def _cases(*rows: tuple[str, str, str]) -> list[Case]:
    return [Case(*row) for row in rows]


RECORD = 'STRUCT("a ""b\'" DECIMAL(5,2), "at" TIMESTAMP, list TIMESTAMPTZ[], ratio DOUBLE, none INTEGER)'
RECORD_LITERAL = f"{{'a \"b''': 1.5, 'at': '{FEBRUARY}', 'list': ['{FEBRUARY}'], 'ratio': 'NaN', 'none': NULL}}"
DUCKDB = _cases(
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
POSTGRES_SETUP = """
CREATE TYPE mood AS ENUM ('it''s', 'b');
CREATE DOMAIN cents AS numeric(5,2);
CREATE DOMAIN price AS cents CHECK (VALUE > 0);
CREATE DOMAIN prices AS price[];
CREATE DOMAIN moment AS timestamptz(1);
CREATE TYPE "rec""ord" AS ("a ""b'" price, at moment, list timestamptz[], ratio float8, none int);
CREATE DOMAIN recorded AS "rec""ord";
CREATE TYPE nothing AS (a int);
CREATE TYPE payment AS (amount money);
CREATE TYPE floats AS RANGE (subtype = float8);
"""
POSTGRES_RECORD = f"""ROW(1.5, '{FEBRUARY}', ARRAY['{FEBRUARY}'::timestamptz], 'NaN', NULL)"""
POSTGRES = _cases(
    ("smallint", "-7", "small"),
    ("integer", "-7", "small"),
    ("bigint", "-7", "small"),
    ("oid", "200", "one byte"),
    ("numeric(20,0)", "18446744073709551615", "numeric without decimals"),
    ("numeric(45,0)", "123456789012345678901234567890123456789012345", "wide numeric without decimals"),
    ("numeric", "12.00", "decimal that is whole"),
    ("numeric", "1.50", "decimal"),
    ("numeric", "1234567890123456789012345678901234567.890", "decimal of 40 digits"),
    ("numeric", "'NaN'", "no number"),
    ("numeric(5,0)", "12", "whole decimal"),
    ("numeric(5,0)", "'NaN'", "no number"),
    ("numeric(5,2)", "1.5", "decimal"),
    ("price", "1.5", "decimal"),
    ("boolean", "true", "true"),
    ("double precision", "1e15", "double"),
    ("double precision", "'NaN'", "NaN"),
    ("real", "'infinity'", "infinity"),
    ("real", "16777216", "single"),
    ("date", "'2026-02-01'", "date"),
    ("date", "'0044-03-15 BC'", "date BC"),
    ("date", "'12026-02-01'", "date far"),
    ("timestamp", f"'{FEBRUARY}'", "timestamp"),
    ("timestamp(1)", f"'{FEBRUARY}'", "timestamp"),
    ("timestamp", "'0044-03-15 12:00:00 BC'", "timestamp BC"),
    ("timestamp", "'12026-02-01'", "timestamp far"),
    ("timestamptz", f"'{FEBRUARY}'", "timestamp"),
    ("timestamptz", "'infinity'", "timestamp infinite"),
    ("moment", f"'{FEBRUARY}'", "timestamp"),
    ("uuid", f"'{ID}'", "uuid"),
    ("text", "'say \"hi\"'", "text"),
    ("varchar(20)", "'say \"hi\"'", "text"),
    ("char(20)", "'say \"hi\"'", "text"),
    ("name", "'say \"hi\"'", "text"),
    ("text", f"'{ID}'", "id as text"),
    ("text", '\'{"NaN": NaN, "b": [-Infinity, 1]}\'', "NaN as text"),
    ("text", "'{\"a\": [1, 2.50]}'", "json as text"),
    ("json", "'{\"a\": [1, 2.50]}'", "json"),
    ("jsonb", "'{\"a\": [1, 2.50]}'", "json"),
    ("bytea", "'\\x00ff'", "binary"),
    ("bit(3)", "'101'", "bits"),
    ("varbit", "'101'", "bits"),
    ("time", "'01:02:03.5'", "time"),
    ("timetz", "'01:02:03.5+02'", "time with zone"),
    ("interval", "'1 year 2 mons -3 days 04:05:06.5'", "interval"),
    ("mood", "'it''s'", "enum"),
    ("money", "'1.50'", "anything"),
    ("money[]", "'{1.50}'", "anything"),
    ("payment", "ROW('1.50')", "anything"),
    ("int4range", "'[1,5)'", "range of integers"),
    ("int8range", "'[1,5)'", "range of integers"),
    ("numrange", "'[1,5)'", "range of integers"),
    ("floats", "'[1,5)'", "range of integers"),
    ("tsrange", f"'[{FEBRUARY[:-1]},)'", "range of naive timestamps"),
    ("tstzrange", f"'[{FEBRUARY},)'", "range of timestamps"),
    ("daterange", "'[2026-02-01,)'", "range of dates"),
    ("int4multirange", "'{[1,5),[7,9)}'", "ranges of integers"),
    ("int8multirange", "'{[1,5),[7,9)}'", "ranges of integers"),
    ("nummultirange", "'{[1,5),[7,9)}'", "ranges of integers"),
    ("tsmultirange", f"'{{[{FEBRUARY[:-1]},)}}'", "ranges of naive timestamps"),
    ("tstzmultirange", f"'{{[{FEBRUARY},)}}'", "ranges of timestamps"),
    ("datemultirange", "'{[2026-02-01,)}'", "ranges of dates"),
    ("int4range[]", "ARRAY['[1,5)'::int4range]", "list of ranges"),
    ("integer[]", "'{1,NULL,-3}'", "list of integers"),
    ("int2vector", "'1 2'", "list of smallints"),
    ("int2vector[]", "ARRAY['1 2'::int2vector]", "list of lists of smallints"),
    ("oidvector", "'1 2'", "list of smallints"),
    ("oidvector[]", "ARRAY['1 2'::oidvector]", "list of lists of smallints"),
    ("oid[]", "'{1,NULL}'", "list of oids"),
    ("double precision[]", "'{}'", "empty list"),
    ("timestamptz[]", "'{}'", "empty list"),
    ("numeric[]", "'{123456789012345678901234567890123456789012345}'", "list of wide integers"),
    ("boolean[]", "'{t,f,NULL}'", "list of booleans"),
    ("numeric[]", "'{1.50,NULL,-0.05}'", "list of decimals"),
    ("double precision[]", "'{1e15,100,NaN,inf,-inf,NULL,0.1}'", "list of doubles"),
    ("real[]", "'{1e6,16777216,0.1}'", "list of singles"),
    ("text[]", "ARRAY['a', 'say \"hi\"', chr(31) || chr(8) || chr(10) || chr(92), 'é😀/', '', NULL, 'null']", "list of texts"),
    ("char(3)[]", "'{a}'", "list of short texts"),
    ("date[]", "'{2026-02-01,0044-03-15 BC,NULL}'", "list of dates"),
    ("timestamp[]", f"'{{{FEBRUARY},2026-02-01,NULL}}'", "list of timestamps"),
    ("timestamptz[]", f"'{{{FEBRUARY},2026-02-01 00:00:00+00,NULL}}'", "list of timestamps"),
    ("uuid[]", f"'{{{ID}}}'", "list of uuids"),
    ("bytea[]", "ARRAY['\\x00ff'::bytea, NULL]", "list of binaries"),
    ("jsonb[]", "ARRAY['{\"a\": [1, 2.50]}'::jsonb, NULL]", "list of json"),
    ("json[]", "ARRAY['{\"a\": [1, 2.50]}'::json, NULL]", "list of json"),
    ("interval[]", "ARRAY['1 year 2 mons -3 days 04:05:06.5'::interval]", "list of intervals"),
    ("time[]", "'{01:02:03.5}'", "list of times"),
    ("varbit[]", "'{101}'", "list of bits"),
    ("mood[]", "ARRAY['it''s'::mood, NULL]", "list of enums"),
    ("cents[]", "'{{1.5,2},{3.25,NULL}}'", "list of lists"),
    ("prices", "'{{1.5,2},{3.25,NULL}}'", "list of lists"),
    ("moment[]", f"'{{{{{FEBRUARY},NULL}},{{2026-02-01 00:00:00+00,{FEBRUARY}}}}}'", "list of lists of timestamps"),
    ('"rec""ord"', POSTGRES_RECORD, "record"),
    ("recorded", POSTGRES_RECORD, "record"),
    ('"rec""ord"[]', f'ARRAY[{POSTGRES_RECORD}::"rec""ord", NULL]', "list of records"),
    ("recorded[]", f"ARRAY[{POSTGRES_RECORD}::recorded, NULL]", "list of records"),
    ("nothing", "ROW(NULL)", "record of nothing"),
)
POSTGRES_TEXTS = {
    '"char"': "a",
    "aclitem": "postgres=r/postgres",
    "box": "(3,4),(1,2)",
    "cid": "7",
    "cidr": "10.0.0.0/8",
    "circle": "<(1,2),3>",
    "inet": "10.0.0.1/32",
    "jsonpath": '$."a"',
    "line": "{1,2,3}",
    "lseg": "[(1,2),(3,4)]",
    "macaddr": "08:00:2b:01:02:03",
    "macaddr8": "08:00:2b:01:02:03:04:05",
    "path": "((1,2),(3,4))",
    "pg_lsn": "16/B374D848",
    "pg_snapshot": "10:20:10,14",
    "point": "(1,2)",
    "polygon": "((1,2),(3,4))",
    "refcursor": "abc",
    "regnamespace": "public",
    "regrole": "postgres",
    "tid": "(1,2)",
    "tsquery": "'a' & 'b'",
    "tsvector": "'a' 'b'",
    "txid_snapshot": "10:20:10,14",
    "xid": "7",
    "xid8": "7",
    "xml": "<a>1</a>",
}
"""Types that PostgreSQL alone has: each leaves as its own text, in a list as a JSON string."""
POSTGRES_OBJECTS = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regtype",
]
POSTGRES_INTERNAL = frozenset(
    ["gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies", "pg_mcv_list", "pg_ndistinct", "pg_node_tree"]
)
"""Their input functions take nothing."""
VALUES |= {
    "range of naive timestamps": same('["2026-02-01 01:02:03.5",)'),
    "range of dates": same("[2026-02-01,)"),
    "ranges of naive timestamps": same('{["2026-02-01 01:02:03.5",)}'),
    "ranges of timestamps": same('{["2026-02-01 01:02:03.5+00",)}'),
    "ranges of dates": same("{[2026-02-01,)}"),
    "list of short texts": nested('["a"]'),
    "list of oids": nested("[1,null]"),
    "list of smallints": nested("[1,2]"),
    "list of lists of smallints": nested("[[1,2]]"),
    "numeric without decimals": {kind: text for kind, text in VALUES["unsigned 64"].items() if kind != "float"},
    "wide numeric without decimals": {kind: text for kind, text in VALUES["45 digits"].items() if kind != "float"},
}
for name, text in POSTGRES_TEXTS.items():
    VALUES |= {name: same(text), f"list of {name}": nested(f"[{json.dumps(text)}]")}
    literal = "'" + text.replace("'", "''") + "'"
    POSTGRES += _cases((name, literal, name), (f"{name}[]", f"ARRAY[{literal}::{name}]", f"list of {name}"))
POSTGRES += _cases(
    *((name, "0", "anything") for name in POSTGRES_OBJECTS), *((f"{name}[]", "'{0}'", "anything") for name in POSTGRES_OBJECTS)
)


class Installation:
    """A source with a relation `sample`: a row with all values, each in a column of its own, and a row of NULLs."""

    def __init__(self, source: Source, cases: list[Case], relation: str = "sample") -> None:
        self.source = source
        self.cases = cases
        self.relation = relation

    def entity(self, numbers: list[int], kind: str) -> Entity:
        columns = {"id": {"type": "integer"}, **{f"v{number}": {"type": kind} for number in numbers}}
        plain = {"source": "any", "tenant_column": "tenant", "key": ["id"], "changes": {"mode": "full"}}
        return Entity.model_validate({"id": "sample", "relation": self.relation, "columns": columns, **plain})


def _ddl(cases: list[Case]) -> str:
    return ", ".join(f"v{number} {case.native}" for number, case in enumerate(cases))


def _duckdb(path: Path) -> Source:
    with duckdb.connect(str(path / "types.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE sample (id INTEGER, tenant VARCHAR, {_ddl(DUCKDB)})")
        values = ", ".join(f"CAST({case.literal} AS {case.native})" for case in DUCKDB)
        connection.execute(f"INSERT INTO sample SELECT 1, 'acme', {values}")
        connection.execute("INSERT INTO sample (id, tenant) VALUES (2, 'acme')")
    return DuckDB(path / "types.duckdb")


def _postgres(database: PostgresDatabase) -> Source:
    with psycopg.connect(database.dsn) as connection:
        connection.execute(POSTGRES_SETUP)
        connection.execute("SET lc_monetary = 'C'; SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE sample (id integer PRIMARY KEY, tenant text, {_ddl(POSTGRES)})")
        connection.execute(f"INSERT INTO sample VALUES (1, 'acme', {', '.join(case.literal for case in POSTGRES)})")
        connection.execute("INSERT INTO sample (id, tenant) VALUES (2, 'acme')")
    target = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
    return Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: target)


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    path = tmp_path_factory.mktemp(request.param)
    match request.param:
        case "duckdb":
            yield Installation(_duckdb(path), DUCKDB)
        case "postgres":
            cluster: Cluster = request.getfixturevalue("postgres_cluster")
            with cluster.database() as database:
                yield Installation(_postgres(database), POSTGRES)


def _selection(entity: Entity) -> Selection:
    return Selection(entity, "acme", entity.columns)


@pytest.mark.parametrize("kind", list(ColumnType))
def test_a_native_type_that_holds_a_catalogued_one_gives_its_canonical_text(installation: Installation, kind: ColumnType) -> None:
    fitting = [number for number, case in enumerate(installation.cases) if kind in case.texts]
    selection = _selection(installation.entity(fitting, kind))
    with installation.source.snapshot() as snapshot:
        snapshot.check(selection)
        text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, Dialect())).decode()
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
    while left:
        with installation.source.snapshot() as snapshot:
            while left:
                number = left.pop()
                selection = _selection(installation.entity([number], kind))
                case, native, checked = installation.cases[number], snapshot.columns(selection.entity)[f"v{number}"], False
                try:
                    snapshot.check(selection)
                    checked = True
                    text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, Dialect())).decode()
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
        text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, Dialect())).decode()
    assert next(csv.reader(text.splitlines()))[1:] == [text for _, text in stored.values()]


def test_decimals_of_more_digits_than_the_engine_has_are_refused_instead_of_rounded(tmp_path: Path) -> None:
    source = _lake(tmp_path, {"v0": pa.array([Decimal("1.50"), None], pa.decimal256(50, 2))})
    selection = _selection(Installation(source, [], "sample.parquet").entity([0], "float"))
    with source.snapshot() as snapshot, pytest.raises(PermanentError, match="column v0 holds decimals of more than 38 digits"):
        snapshot.check(selection)
