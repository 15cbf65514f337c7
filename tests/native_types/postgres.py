"""The types of PostgreSQL."""

from __future__ import annotations

import json

import psycopg

from tests.native_types.values import FEBRUARY, ID, VALUES, cases, ddl, nested, same
from tests.servers.postgres import Database
from waybill.configuration.catalog import PostgresSource
from waybill.connection import Connection
from waybill.sources import Source
from waybill.sources.postgres.source import Postgres

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
CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN folded AS text COLLATE folding;
"""
POSTGRES_RECORD = f"""ROW(1.5, '{FEBRUARY}', ARRAY['{FEBRUARY}'::timestamptz], 'NaN', NULL)"""
POSTGRES = cases(
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
    ("numeric(2,2)", "-0.25", "decimal fraction"),
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
    ("folded", "'say \"hi\"'", "text"),
    ("folded", f"'{ID}'", "id as text"),
    ("folded", '\'{"NaN": NaN, "b": [-Infinity, 1]}\'', "NaN as text"),
    ("folded", "'{\"a\": [1, 2.50]}'", "json as text"),
    ("folded[]", "ARRAY['a', 'say \"hi\"', chr(31) || chr(8) || chr(10) || chr(92), 'é😀/', '', NULL, 'null']", "list of texts"),
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
    ("integer[]", "'[0:2]={1,NULL,-3}'", "list of integers"),
    ("int2vector", "'1 2'", "list of smallints"),
    ("int2vector[]", "ARRAY['1 2'::int2vector]", "list of lists of smallints"),
    ("oidvector", "'1 2'", "list of smallints"),
    ("oidvector[]", "ARRAY['1 2'::oidvector]", "list of lists of smallints"),
    ("oid[]", "'{1,NULL}'", "list of oids"),
    ("double precision[]", "'{}'", "empty list"),
    ("timestamptz[]", "'{}'", "empty list"),
    ("numeric(2,2)[]", "'{0.5,NULL,-0.25}'", "list of fractions"),
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
    ("cents[]", "'[2:3][-1:0]={{1.5,2},{3.25,NULL}}'", "list of lists"),
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
    POSTGRES += cases((name, literal, name), (f"{name}[]", f"ARRAY[{literal}::{name}]", f"list of {name}"))
POSTGRES += cases(
    *((name, "0", "anything") for name in POSTGRES_OBJECTS), *((f"{name}[]", "'{0}'", "anything") for name in POSTGRES_OBJECTS)
)


def filled(database: Database) -> None:
    with psycopg.connect(database.dsn) as connection:
        connection.execute(POSTGRES_SETUP)
        connection.execute("SET lc_monetary = 'C'; SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE sample (id integer PRIMARY KEY, tenant text, {ddl(POSTGRES)})")
        connection.execute(f"INSERT INTO sample VALUES (1, 'acme', {', '.join(case.literal for case in POSTGRES)})")
        connection.execute("INSERT INTO sample (id, tenant) VALUES (2, 'acme')")


def source_of(database: Database) -> Source:
    target = Connection("pg", "postgres", database.host, database.port, database.user, database.name)
    return Postgres(PostgresSource(kind="postgres", connection="pg"), lambda _: target)
