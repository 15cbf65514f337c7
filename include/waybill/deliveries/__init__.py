"""The heart: what is due for a tenant, delivered file by file so that no crash, race or lost answer can lose or repeat a row.

In: an `Installation`, a tenant, and the time up to which to deliver. Out: deliveries committed in the ledger, their files and manifests at
the destination, or an error that says who has to do what.

To read in this order: `planning.plan` (what is due), `protocol.deliver` (one delivery, step by step), `extraction` (one snapshot of the
source), `deletes` with `keysets` (keys that are gone, rows that came back), `upload`, `documents` (where files stand, and manifests), and
`running.run` (all of it in one go). Then what people ask for: `repairs.redeliver` and `repairs.backfill`, `reconciling.reconcile` with
`comparing` and `leftovers`, `overview` and `views`, `notifying`, and `upkeep.sweep`. `sizing` shares tasks out, `stopping` ends them.
"""
