"""The types of MariaDB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions, convert_date, convert_datetime

from tests.native_types.values import ID, VALUES, cases, ddl, same, whole
from tests.servers.mariadb import MariaDatabase
from waybill.configuration.catalog import DbApiSource
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi

VALUES |= {
    "flag": {"boolean": "true", "integer": "1", "string": "1"},
    "flag of seven": {"integer": "7", "string": "7"},
    "one bit": {"boolean": "true"},
    "bits in bytes": {"binary": "BQ=="},
    "single of a tenth": {"float": "0.1", "string": "0.1"},
    "decimal of 65 digits": same("12345678901234567890123456789012345.100000000000000000000000000000", "decimal"),
    "year": {"integer": "2026", "decimal": "2026", "float": "2026", "string": "2026"},
    "no year": whole("0"),
    "no day": same("0000-00-00"),
    "no day of a month": same("2026-02-00"),
    "no time": same("0000-00-00 00:00:00"),
    "hours of days": same("25:00:00"),
    "accent": same("é"),
    "set": same("a,b"),
    "address": same("::1"),
    "old address": same("10.0.0.1"),
    "json in text": {"json": '{"a":[1,2.50]}', "string": '{"a": [1, 2.50]}'},
}
MARIADB = cases(
    *((native, "-7", "small") for native in ("tinyint", "smallint", "mediumint", "int", "bigint")),
    ("tinyint unsigned", "200", "one byte"),
    ("int unsigned zerofill", "200", "one byte"),
    ("bigint unsigned", "18446744073709551615", "unsigned 64"),
    ("tinyint(1)", "1", "flag"),
    ("boolean", "7", "flag of seven"),
    ("bit(1)", "b'1'", "one bit"),
    ("bit(3)", "b'101'", "bits in bytes"),
    ("decimal(5,2)", "1.5", "decimal"),
    ("decimal(2,2)", "-0.25", "decimal fraction"),
    ("decimal(5,2) unsigned", "1.5", "decimal"),
    ("decimal(5,0)", "12", "whole decimal"),
    ("decimal(65,30)", "12345678901234567890123456789012345.1", "decimal of 65 digits"),
    ("float", "16777216", "single"),
    ("float", "0.1", "single of a tenth"),
    ("float unsigned", "0.1", "single of a tenth"),
    ("double", "1e15", "double"),
    ("double unsigned", "1e15", "double"),
    ("date", "'2026-02-01'", "date"),
    ("date", "'0000-00-00'", "no day"),
    ("date", "'2026-02-00'", "no day of a month"),
    ("datetime(6)", "'2026-02-01 01:02:03.5'", "timestamp"),
    ("datetime", "'0000-00-00 00:00:00'", "no time"),
    ("timestamp(6) null", "'2026-02-01 01:02:03.5'", "timestamp"),
    ("timestamp null", "'0000-00-00 00:00:00'", "no time"),
    ("time(1)", "'01:02:03.5'", "time"),
    ("time", "'-838:59:59'", "span of hours"),
    ("time", "'25:00:00'", "hours of days"),
    ("year", "2026", "year"),
    ("year", "0", "no year"),
    *((native, "'say \"hi\"'", "text") for native in ("char(20)", "varchar(20)", "tinytext", "text", "mediumtext", "longtext")),
    ("varchar(20) character set latin1", "'é'", "accent"),
    ("varchar(20) collate utf8mb4_bin", "'é'", "accent"),
    ("varchar(36)", f"'{ID}'", "id as text"),
    ("enum('it''s', 'int')", "'it''s'", "enum"),
    ("set('a', 'b')", "'a,b'", "set"),
    ("json", "'{\"a\": [1, 2.50]}'", "json in text"),
    ("uuid", f"'{ID}'", "uuid"),
    ("inet6", "'::1'", "address"),
    ("inet4", "'10.0.0.1'", "old address"),
    *((native, "x'00ff'", "binary") for native in ("binary(2)", "varbinary(2)", "tinyblob", "blob", "mediumblob", "longblob")),
    *((native, "ST_GeomFromText('POINT(1 2)')", "anything") for native in ("geometry", "point")),
    ("linestring", "ST_GeomFromText('LINESTRING(0 0,1 1)')", "anything"),
    *((native, "NULL", "anything") for native in ("polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection")),
)


def _or_none(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if isinstance(convert(text), str) else convert(text)


OF_OTHER_DRIVERS = {
    **conversions,
    FIELD_TYPE.DATE: _or_none(convert_date),
    FIELD_TYPE.DATETIME: _or_none(convert_datetime),
    FIELD_TYPE.TIMESTAMP: _or_none(convert_datetime),
    FIELD_TYPE.BIT: lambda data: int.from_bytes(data, "big"),
}
"""What mysqlclient and mysql-connector-python make of values: None of a date that is none, and a number of bits."""


def filled(database: MariaDatabase) -> Source:
    def connect(_: str = "") -> Any:
        return database.connect(conv=OF_OTHER_DRIVERS)

    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'")
        cursor.execute(f"CREATE TABLE sample (id int PRIMARY KEY, tenant varchar(20), {ddl(MARIADB)}) CHARACTER SET utf8mb4")
        cursor.execute(f"INSERT INTO sample VALUES (1, 'acme', {', '.join(case.literal for case in MARIADB)})")
        cursor.execute("INSERT INTO sample (id, tenant) VALUES (2, 'acme')")
        connection.commit()
    return DbApi(DbApiSource(kind="dbapi", connection="maria"), connect)
