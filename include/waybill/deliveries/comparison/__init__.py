"""Compares what a consumer holds with what the source holds: removed rows, and windows that disagree.

`deletes` finds the keys that vanished from a source and writes them beside a delivery, through the sets of keys in `keysets`.
`comparing` compares a source with its deliveries, window by window, and `stale_rows` counts rows that only consumers still hold.
"""

__all__: list[str] = []
