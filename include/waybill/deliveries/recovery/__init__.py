"""Brings a ledger and a destination together again when one of them knows less than the other.

In: the tenant's open destination and its ledger, which may have been restored from a backup. Out: an error before anything is sent twice,
or deliveries that are restored from their manifests.

`stale_ledger` stops a delivery if the destination knows more than the ledger. `reconciling` restores what the ledger has lost, and lets
`comparison` compare the source with its deliveries.
"""

__all__ = ["reconciling", "stale_ledger"]
