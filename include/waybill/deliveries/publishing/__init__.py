"""How a delivery's files reach their destination under their final names.

`upload` sends the spool files while they grow. `renaming` makes them visible and looks whether the rename did what the server says.
`manifests` puts the documents of a delivery together, `signing` signs them, `days` lists what is complete on a date, and `feed` keeps the
feed and the README at the tenant's root.
"""
