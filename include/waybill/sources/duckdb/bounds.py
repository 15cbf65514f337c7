"""What Parquet files note of their columns, and which of it the engine may decide by.

The engine passes over groups of rows whose noted least and greatest values exclude a condition. Some writers note bounds that do not hold:
none passes NaN on, old ones compared the bytes of texts and decimals as signed numbers, fastparquet takes the order of categories, and
INT96 has no order at all. And where a page notes one text as its least and greatest value, the engine takes each of its rows for NULL if
NULL is asked for, so that of texts only those are believed that nothing but a value is asked of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from waybill.sources.sql import Bind, Sql, quote, sql

_DOUBTED = ("FLOAT", "DOUBLE", "DECIMAL", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_TEXTS = ("VARCHAR", "BLOB")
"""Types whose bounds are never believed. Few conditions on them would pass over anything."""
_NOTED = """
SELECT DISTINCT path_in_schema FROM parquet_metadata({})
 WHERE type = 'INT96' OR (type IN ('BYTE_ARRAY', 'FIXED_LEN_BYTE_ARRAY')
   AND (stats_min_value IS NULL OR stats_max_value IS NULL) AND stats_null_count IS DISTINCT FROM num_values)
"""
"""The columns without bounds in the fields whose order is defined, `min_value` and `max_value`. A group without any value has none."""


def disordered(files: Bind, run: Callable[[Sql], list[Any]]) -> set[str]:
    """Return the columns of these files that no bounds of a defined order are noted of. `run` executes a statement."""
    return {name for (name,) in run(sql(_NOTED, files))}


def doubted(natives: Mapping[str, str], disordered: Collection[str], sought: Collection[str]) -> set[str]:
    """Return the columns whose bounds may not hold. `sought` are those that are only ever compared with a value for being equal."""
    texts = {name for name, native in natives.items() if native.startswith(_TEXTS)} - set(sought)
    return texts | {name for name, native in natives.items() if native.startswith(_DOUBTED) or name in disordered}


def unbounded(name: str) -> str:
    """Return the value of a column, which the engine does not see through: it reads every row before it looks at a condition."""
    return f"CASE WHEN random() < 2 THEN {quote(name)} END"
