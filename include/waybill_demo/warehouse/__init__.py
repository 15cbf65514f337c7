"""The warehouse of a made-up company: tables that one seed draws, and days that go by.

`life` says how a table begins and changes, `people`, `content` and `surveys` are the tables, `text` the words in them, and `build` writes
them into DuckDB.
"""

__all__ = ["build"]
