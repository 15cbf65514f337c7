"""Reports about deliveries, for people. No module here changes a delivery.

In: the ledger. Out: values for pages, the API and the command line, and messages to people.

`overview` looks at all tenants, `causes` at what failed and why, `describing` at one delivery, and `measures` counts for metrics.
`promises` works out by when data is owed, and `frequencies` splits a tenant whose entities have several frequencies. `notifying` decides
which messages are owed, `messages` words them, and `sending` sends them.
"""

__all__ = ["causes", "describing", "measures", "notifying", "overview", "sending"]
