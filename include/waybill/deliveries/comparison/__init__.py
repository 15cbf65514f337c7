"""Compares what a consumer holds with what the source holds: windows that disagree, and removed rows.

`comparing` compares a source with its deliveries, window by window, and `stale_rows` counts rows that only consumers still hold.
"""

__all__ = ["comparing"]
