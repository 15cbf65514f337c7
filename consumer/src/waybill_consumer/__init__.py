"""Keeps an exact copy of what Waybill delivers: `pull` fetches whole deliveries, and `load` applies each to a database in one transaction.

In: a place with deliveries (a folder, an SFTP server, a bucket), each a manifest beside its files. Out: the same files in a folder of
yours, and one table per entity in your database. `cli` is the command. `pulling.pull` and `loading.load` are the same for programs.
`targets.Target` is what a database must offer.
"""

__version__ = "0.1.0"
