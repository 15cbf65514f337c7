"""The values that catalogs, registrations and policies are made of, each with the rules it must keep.

`columns`, `conditions` and `deletes` belong to entities, `durations` spells spans of time, `encryption` whom files are
encrypted to, `credentials` tells what looks like a secret, and `strict` is the base of every model. All of it is pure.
"""
