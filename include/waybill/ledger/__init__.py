"""The ledger: registrations, streams, deliveries, attempts and export requests, in SQLite or PostgreSQL.

In: an open transaction of the caller, and plain values. Out: frozen records, or whether a conditional update changed a row.

Each subject has one module of plain functions: `registrations`, `streams`, `deliveries` (whose commit moves a stream's watermark), `days`,
`feeds`, `signatures` of documents, `destinations` that fail, `denials` in the audit log. `on_demand/` holds export requests, `delivered/`
the delivered keys and what a destination proves, `reports/` what people hear about deliveries, and `upkeep` finds what housekeeping may
remove. Constraints and the `where` of updates (`tables`) guarantee uniqueness, never a read before a write. `facts` are the shapes of what
is kept as JSON. `database/` opens the database and keeps `migrations/` up to date.
"""

from waybill.ledger.database.engine import Ledger

__all__ = ["Ledger"]
