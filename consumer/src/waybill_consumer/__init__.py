"""Keeps an exact copy of what Waybill delivers: `pull` fetches whole deliveries, and `load` applies each to a database in one transaction.

In: a place with deliveries (a folder, an SFTP server, a bucket), each a manifest beside its files. Out: the same files in a folder of
yours, and one table per entity in your database. `cli` is the command. `pull.pull` and `load.load` are the same for programs.
`targets.Target` is what a database must offer.

`pull/` reads one of the `places/` and fills a folder, `folder/` knows what that folder has, had and lost, and `load/` applies it to one of
the `targets/`. `verification/` checks files by nothing but the files. All of them read files the same way: `manifest` and `signatures` say
what was delivered and by whom, `chain` what belongs after what, `records` and `shapes` what the data files hold, and `own_files` which of
the files are ours. `progress` shows how far a command is, and `errors` are what stops one. `airflow/` runs all of it in DAGs.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
