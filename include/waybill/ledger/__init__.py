"""The ledger: registrations, streams, deliveries, attempts and export requests, in SQLite or PostgreSQL.

In: an open transaction of the caller, and plain values. Out: frozen records, or whether a conditional update changed a row. Each subject
has one module of plain functions: `registrations`, `streams`, `deliveries`, `days`, `feeds`. `on_demand/` holds export requests,
`comparison/` the delivered keys, `reports/` what people are told, and `upkeep` finds what housekeeping may remove. Uniqueness and
compare-and-set live in constraints and in the `where` of updates (`tables`), never in read-then-write. `engine` opens the database and
keeps `migrations/` up to date.
"""

from waybill.ledger.engine import Ledger

__all__ = ["Ledger"]
