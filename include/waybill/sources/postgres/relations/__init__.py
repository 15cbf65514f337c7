"""What stands behind an entity in PostgreSQL: the tables, views, functions and policies that give its rows their values.

In: a relation or query, and an open session. Out: facts that say whether a mode of finding changes is safe there, and whether unchanged
rows have other values than at the last delivery.

`behind` finds all of it in one statement, `definition` makes of it what `waybill.sources.definitions` compares, `heaps` says what stores
the rows, `materialized` looks after views that are refreshed, and `replaced` after tables that are emptied or swapped while they are read.
"""

__all__ = ["behind", "definition", "heaps", "replaced"]
