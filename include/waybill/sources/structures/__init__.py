"""Reads what a source holds from the source's own catalogue: tables and views, columns, keys and references.

In: an open source. Out: values that say what is there. `discovery` makes entities of them.

`base` defines the values. `duckdb`, `lake` and `dbapi` fill them for their kind of source, and `sources/postgres/structure` for PostgreSQL.
"""

__all__ = ["base"]
