"""The facts of delivered files: what a manifest says, and whether files, manifests and chains of deliveries agree.

In: the records of a delivery, or a place with files. Out: the bytes of manifests and of the feed, or a report of everything that is wrong.
Nothing here needs the ledger. Reading and checking files is a consumer's business: `waybill_consumer` holds those rules, and the product
uses them.

`manifest` reads manifests and makes those of a day (`deliveries.manifests` makes a delivery's own), `signing` signs them, `feed` makes the
list of all deliveries, `records` reads any format's rows, `source_types` describes a column's type in its source, `verification.verify`
checks a whole place, and `places` opens one.
"""

__all__ = ["feed", "manifest", "places", "records", "signing", "source_types"]
