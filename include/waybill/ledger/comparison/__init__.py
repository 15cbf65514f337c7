"""What the ledger keeps for comparing a stream with its source and its destination.

`keys` holds the keys a stream has delivered, so that a removed one is found. `reconciling` brings back what a destination proves.
"""
