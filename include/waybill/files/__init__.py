"""The facts of delivered files: what a manifest says, and whether files, manifests and chains of deliveries agree.

In: the records of a delivery, or a place where files stand. Out: the bytes of manifests, or a report of everything that is wrong. Nothing
here needs the ledger or the configuration of the sender, so consumers check with it what they received.

`manifest` makes and reads manifests, `natives` tells a column's type as its source has it, `sums` spells a day for `sha256sum -c`,
`recount` reads one file back, `chain` follows sequence numbers, `verification.verify` checks a whole place, and `places` opens one.
"""
