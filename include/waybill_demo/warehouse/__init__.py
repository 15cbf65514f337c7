"""The warehouse of a made-up company: tables drawn from one seed, and days that go by.

`life` is how a table comes to be and changes, `people`, `content` and `surveys` are the tables, `text` the words in them, `build` writes
them into DuckDB.
"""
