"""What the ledger knows of the state of deliveries, for people: nothing here changes one.

`overviews` reads all tenants at a glance, `usage` adds up the months, and `notices` keeps alarms and the messages that are owed for them.
"""
