"""The state of deliveries, for people. No module here changes a delivery.

`overviews` reads all tenants at a glance, `usage` adds up the months, and `notices` keeps alarms and the messages that are owed for them.
"""

__all__ = ["notices", "overviews", "usage"]
