"""How a delivery's files reach their destination under their final names.

In: the spool files of one attempt, and an open `Session` of the destination. Out: files that are visible whole, and the documents that
prove them.

`upload` sends the spool files while they grow, and `resuming` continues an attempt that a process left half sent. `renaming` makes files
visible and checks that the rename did what the server says, and `deletes` does the same for the file of keys that are gone. `signing`
signs documents, `days` lists what is complete on a date, and `feed` keeps the feed and the README at the tenant's root. `rehearsing` tries
a destination, and says how far it can be trusted.
"""

__all__ = ["days", "deletes", "rehearsing", "renaming", "resuming", "signing", "upload"]
