"""What is in force for each tenant, and how that changes.

`applying` brings files into force, `replacing` bodies of the API, `estimating` tells the size before. In come registrations of the
configuration; out come versions in the ledger, streams switched on and off, and differences people can read. A replace is a difference:
kept entities keep stream, sequence and watermark, unless they are to be read by other ids or conditions now.
"""
