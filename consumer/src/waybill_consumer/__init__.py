"""Keeps an exact copy of what Waybill delivers: `pull` fetches whole deliveries, and `load` applies each to a database in one transaction.

In: a place with deliveries (a folder, an SFTP server, a bucket), each a manifest beside its files. Out: the same files in a folder of
yours, and one table per entity in your database. `cli` is the command. `pulling.pull` and `loading.load` are the same for programs.
`targets.Target` is what a database must offer.

`pull` reads `places/` and walks or follows the feed there (`finding`, `feed_reader`, `feed`, `arrivals`), then fetches each delivery
(`fetching`) in the order of its chain (`chain`). `position`, `holdings` and `missing` know what the folder has, had, and lost. `load` reads
the files (`records`, `shapes`, `decrypting`), and `tables` and `targets/` say and make what the database holds. `verification` checks files
by themselves, with `manifest`, `signatures`, `sums` and `recount`. `status` tells how fresh all of it is.
"""

__version__ = "0.1.0"
