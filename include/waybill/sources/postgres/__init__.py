"""PostgreSQL as a source: rows become CSV inside the server and stream out of one read-only transaction.

In: a connection, the entities that are read, and a selection of their rows. Out: a snapshot that holds what it reads against replacement,
tells what changed without losing late commits, and yields canonical CSV, digests or Arrow batches.

`source` is the snapshot, `session` opens connections and translates errors, `extent` decides how far a delivery reads in the modes
`snapshot` and `horizon`, `spelling` says how PostgreSQL spells the pieces of a query.
"""
