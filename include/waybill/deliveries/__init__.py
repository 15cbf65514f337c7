"""The heart: what is due for a tenant, delivered file by file so that no crash, race or lost answer can lose or repeat a row.

In: an `Installation`, a tenant, and the time up to which to deliver. Out: deliveries committed in the ledger, their files and manifests
at the destination, or an error that says who has to do what.

Read it in this order: `planning.plan` decides what is due, `protocol.deliver_one` delivers it step by step, `extraction` reads one snapshot
of the source, `publishing/` sends the files and the manifests that prove them, and `running.run` does all of it in one go. `row_versions`
remembers what must not be sent twice, `columns` how one file's columns follow the last one's. `shaping` makes Parquet and NDJSON of the
records, and `encrypting` hands files to gpg. `sizing` shares the work between tasks, and `stopping` ends them.

`full_loads` asks for history once more, `repairs` backfills and redelivers (from `kept_bytes`), `sweeping` removes what is past its time,
`comparison/` compares a source with its deliveries, and `reports/` tells people about them.
"""
