"""Compares what a consumer holds with what the source holds: removed rows, windows that disagree, and ledgers that fell behind.

`deletes` finds the keys that vanished from a source and writes them beside a delivery, through the sets of keys in `keysets`.
`comparing` compares a source with its deliveries, window by window, and `stale_rows` counts rows that only consumers still hold.
`stale_ledger` stops a delivery when the destination knows more than the ledger, and `reconciling` restores what the ledger has lost.
"""
