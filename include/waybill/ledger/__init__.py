"""The ledger: registrations, streams, deliveries, attempts and export requests, in SQLite or PostgreSQL.

In: an open transaction of the caller, and plain values. Out: frozen records, or whether a conditional update changed a row. Each subject
has one module of plain functions: `registrations`, `streams`, `deliveries`, `days`, `requests`, `recurring`. `overviews` reads all tenants
at a glance, `upkeep` finds what housekeeping may remove. Uniqueness and compare-and-set live in constraints and in the `where` of updates
(`tables`, `request_tables`), never in read-then-write. `engine` opens the database and keeps `migrations/` up to date.
"""

from waybill.ledger.engine import Ledger

__all__ = ["Ledger"]
