"""What the ledger remembers of that which was delivered, beside the deliveries themselves.

`keys` holds the keys that a stream has delivered, so that a removed row is found, and `digests` the versions of its last delivery, so that
none comes twice. `restoring` brings back what a destination proves.
"""

__all__ = ["digests", "keys", "restoring"]
