"""Fulfils export requests: a worker takes a pending row of the ledger and makes a complete archive.

`running` works through what is pending, `exporting` turns one request into one archive, `heartbeat` tells the ledger that the attempt is
alive, and `packing` writes the archive.
"""

__all__ = ["running"]
