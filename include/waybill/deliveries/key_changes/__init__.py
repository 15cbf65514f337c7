"""Which keys a delivery adds, and which are gone: the delivered keys, as the ledger keeps them, beside those of the source.

In: a stream's place in the ledger and a snapshot of its source. Out: the rows that have to come again, and the keys that vanished.

`changes` compares the two for one delivery, through the sets of keys in `keysets`. `extraction.deletes_file` writes the keys that are gone,
and `publishing.deletes` makes that file visible.
"""

__all__ = ["changes", "keysets"]
