"""How a delivery's files reach their destination under their final names.

In: the spool files of one attempt, and an open `Session` of the destination. Out: files that are visible whole, and the documents that
prove them.

`upload` sends the spool files while they grow, and `resuming` continues an attempt that a process left half sent. `renaming` makes files
visible and checks that the rename did what the server says, and `deletes` does the same for the file of keys that are gone. `manifests`
puts the documents of a delivery together, `signing` signs them, `days` lists what is complete on a date, and `feed` keeps the feed and the
README at the tenant's root.
"""

__all__: list[str] = []
