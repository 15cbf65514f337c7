"""Checks delivered files by nothing but the files: every manifest, file, chain and day's list, and signatures if signers are given.

In: a tree of files that can be walked and read, on this disk or elsewhere. Out: a `Report` of everything that is wrong.

`verifying` walks the tree, `recount` reads one file back and counts its records, and `sums` writes and checks `SHA256SUMS`.
"""

from waybill_consumer.verification.verifying import DATA, Item, Report, Tree, day_manifest, verify

__all__ = ["DATA", "Item", "Report", "Tree", "day_manifest", "verify"]
