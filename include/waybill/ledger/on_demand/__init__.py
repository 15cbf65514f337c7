"""Export requests in the ledger, one and recurring.

`requests` moves a request from state to state, each time by one conditional update. `recurring` keeps the templates that ask again every
week or month. `request_tables` holds the constraints that decide who gets a place, and `request_records` the frozen records.
"""

__all__ = ["recurring", "request_records", "request_tables", "requests"]
