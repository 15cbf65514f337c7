"""The types of SQLite, which are words: a column holds any value whatever it is declared as, and a value says itself what it is.

What is expected follows from both: the declared type says which catalogued types a column may have, the value which of them it fits.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.native_types.values import FEBRUARY, ID, VALUES, Case, Texts, ddl
from waybill.canonical import ColumnType
from waybill.configuration.catalog import DbApiSource
from waybill.sources import Source
from waybill.sources.dbapi.source import DbApi

_ALL = frozenset(map(str, ColumnType))
_NUMBERS = frozenset({"integer", "decimal", "float", "boolean", "string"})
REAL = {"REAL", "DOUBLE", "DOUBLE PRECISION", "FLOAT"}
"""What makes a float of every number."""
DECLARED: dict[str, frozenset[str]] = {
    **dict.fromkeys(["INT", "INTEGER", "TINYINT", "SMALLINT", "MEDIUMINT", "BIGINT", "UNSIGNED BIG INT", "INT2", "INT8"], _NUMBERS),
    **dict.fromkeys(["TEXT", "CHARACTER(20)", "VARCHAR(255)", "NCHAR(55)", "NVARCHAR(100)", "CLOB"], _ALL),
    **dict.fromkeys(REAL, frozenset({"float", "string"})),
    **dict.fromkeys(["", "NUMERIC", "DECIMAL(5,2)", "ANYTHING", "TIME"], _ALL),
    **dict.fromkeys(["BOOLEAN", "TINYINT(1)"], frozenset({"boolean", "integer", "string"})),
    "BLOB": frozenset({"binary"}),
    "DATE": frozenset({"date", "string"}),
    "DATETIME": frozenset({"timestamp", "string"}),
    "TIMESTAMP": frozenset({"timestamp", "string"}),
    "UUID": frozenset({"uuid", "string"}),
    "JSON": frozenset({"json", "string"}),
}
"""What a declared type may be catalogued as. SQLite's documentation names these words."""


WITH_ALL_VALUES = {"INTEGER", "TEXT", "FLOAT", "", "BOOLEAN", "BLOB", "DATE", "DATETIME", "UUID", "JSON"}
"""One for each of what a declared type may mean."""


def _number(text: str, *more: str) -> Texts:
    return dict.fromkeys(["decimal", "float", "json", "string", *more], text)


STORED: dict[str, Texts] = {
    "-7": _number("-7", "integer"),
    "1": {**_number("1", "integer"), "boolean": "true"},
    "9223372036854775807": {**_number("9223372036854775807", "integer"), "float": "9.223372036854776e+18"},
    "1769907723": _number("1769907723", "integer"),  # seconds since 1970, which is no date and no time
    "1.5": _number("1.5"),
    "2461072.5": _number("2461072.5"),  # a Julian day
    "x'00ff'": {"binary": "AP8="},
    "x'6162'": {"binary": "YWI="},
    "'abc'": {"string": "abc"},
    "''": {"string": ""},
    "'1_000'": {"string": "1_000"},
    "'true'": {"string": "true", "boolean": "true", "json": "true"},
    "'2026-02-01'": {"string": "2026-02-01", "date": "2026-02-01", "timestamp": "2026-02-01T00:00:00.000000Z"},
    "'2026-02-30'": {"string": "2026-02-30"},
    "'2026-02-01 00:00:00'": {"string": "2026-02-01 00:00:00", "date": "2026-02-01", "timestamp": "2026-02-01T00:00:00.000000Z"},
    "'2026-02-01 01:02:03.5'": {"string": "2026-02-01 01:02:03.5", "timestamp": FEBRUARY},
    "'2026-02-01T03:02:03.5+02:00'": {"string": "2026-02-01T03:02:03.5+02:00", "timestamp": FEBRUARY},
    "'01:02:03'": {"string": "01:02:03"},
    f"'{ID}'": {"string": ID, "uuid": ID},
    "'{\"a\": [1, 2.50]}'": {"string": '{"a": [1, 2.50]}', "json": '{"a":[1,2.50]}'},
}
"""A value as it is written, and its text by each type it fits."""


def _cases() -> list[Case]:
    found = []
    for native, allowed in DECLARED.items():
        for literal, texts in STORED.items() if native in WITH_ALL_VALUES else [("1", STORED["1"]), ("1.5", STORED["1.5"])]:
            stored = texts | {"string": texts["float"]} if native in REAL and "integer" in texts else texts
            VALUES[f"{literal} in {native}"] = {kind: text for kind, text in stored.items() if kind in allowed}
            found.append(Case(native, literal, f"{literal} in {native}"))
    return found


SQLITE = _cases()


def filled(path: Path) -> Source:
    file = path / "types.sqlite"
    connection = sqlite3.connect(file)
    connection.execute(f"CREATE TABLE sample (id INTEGER PRIMARY KEY, tenant TEXT, {ddl(SQLITE)})")
    connection.execute(f"INSERT INTO sample SELECT 1, 'acme', {', '.join(case.literal for case in SQLITE)}")
    connection.execute("INSERT INTO sample (id, tenant) VALUES (2, 'acme')")
    connection.commit()
    connection.close()
    return DbApi(DbApiSource(kind="dbapi", connection="lite"), lambda _: sqlite3.connect(file))
