"""PostgreSQL as a source: rows become CSV inside the server and stream out of one read-only transaction.

In: a connection, the entities that are read, and a selection of their rows. Out: a snapshot that holds what it reads against replacement,
tells what changed without losing late commits, and yields canonical CSV, digests or Arrow batches.

`source` is the snapshot, and `slices` shares it between sessions. `session` opens connections and translates errors, and `settings` says
what every transaction sets. `extent` decides how far a delivery reads in the modes `snapshot` and `horizon`, and `relations/` knows the
tables, views and functions behind an entity. `spelling` and `nested` say how PostgreSQL spells the pieces of a query, `records` cuts what
COPY yields, `undecodable` names the column with bytes that are no text, and `structure` reads the system catalogues for `discovery`.
"""

__all__ = ["extent", "nested", "relations", "session", "settings", "source", "spelling", "structure", "undecodable"]
