"""A worker's turn with an export request: from a pending row in the ledger to an archive that is whole.

`running` works through what is pending, `protocol` turns one request into one archive, `heartbeat` tells the ledger that the attempt is
alive, and `packing` writes the archive.
"""
