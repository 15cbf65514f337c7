"""The heart of Waybill: it delivers what is due for a tenant, so that no crash, race or lost answer loses or repeats a row.

In: an `Installation`, a tenant, and the time up to which to deliver. Out: deliveries that are committed in the ledger, with their files and
manifests at the destination, or an error that says who has to do what.

Read it in this order: `planning.plan` decides what is due, `running` delivers a plan in one go, `protocol.deliver_one` delivers one of
it step by step, `extraction/` makes files of one snapshot of the source, where `key_changes/` finds keys that are gone, and `publishing/`
sends them with the manifests that prove them.

`job` is what one delivery is made from, and what reading it gives. `manifests` names its files and puts its manifest together.
`generations` says when a stream begins a new generation. `sizing` shares the work between Airflow's tasks, and `stopping` ends them.

`full_load_requests` asks for the full history again (`extraction/` reads it), `repairs` backfills and redelivers (from `kept_bytes`),
`sweeping` removes what housekeeping may remove at a destination, `comparison/` compares a source with its deliveries, `recovery/` restores
a ledger from a destination, and `reports/` tells people about deliveries.
"""

__all__ = ["full_load_requests", "planning", "publishing", "recovery", "repairs", "reports", "running", "sizing", "stopping", "sweeping"]
