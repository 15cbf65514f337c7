"""Decides what is in force for each tenant, and changes it.

In: registrations of the configuration. Out: versions in the ledger, streams that are activated and deactivated, and differences for people.

`applying` brings files into force, `replacing` does so with bodies of the API, and `estimating` gives the size before. A replace is a
difference: kept entities keep stream, sequence and watermark, unless they are to be read by other ids or conditions from now on.

`filling` and `redefining` notice what a changed catalog means for running streams, `locking_columns` freezes lists of columns, `sharing`
keeps one tenant's rows from another, `copying` makes a second place for a tenant's data, `encryption_keys` tries a new key, and
`login_keys` lists the keys to hand to a consumer.
"""

__all__ = ["applying", "copying", "estimating", "filling", "login_keys", "redefining", "replacing"]
