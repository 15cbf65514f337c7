"""Reads what a source holds from the source's own catalogue: tables and views, columns, keys and references.

`base` defines the values, and each kind of source has a module that fills them (`sources/postgres/structure` for PostgreSQL). `discovery`
makes entities of them.
"""
