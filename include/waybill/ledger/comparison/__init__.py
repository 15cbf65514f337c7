"""The records for comparing a stream with its source and its destination.

`keys` holds the keys that a stream has delivered, so that a removed row is found. `reconciling` restores what a destination proves.
"""

__all__: list[str] = []
