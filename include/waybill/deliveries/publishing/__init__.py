"""How a delivery's files reach their destination under their final names.

`upload` sends the spool files while they grow, `published` looks whether a rename did what the server says, `manifests` puts the documents
of a delivery together, and `landing` keeps the feed and the README at the tenant's root.
"""
