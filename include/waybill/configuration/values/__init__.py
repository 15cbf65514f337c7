"""The values that catalogs, registrations and policies consist of, each with the rules it must keep.

`columns`, `conditions` and `deletes` belong to entities. `durations` spells spans of time, `encryption` says whom files are encrypted to,
`credentials` recognises secrets, `paths` says which paths nobody means, `strict` is the base of every
model, and `answer` that of what the API says about them. All of it is pure.
"""

__all__ = ["answer", "columns", "conditions", "credentials", "deletes", "durations", "encryption", "paths", "strict"]
