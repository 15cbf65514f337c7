"""Tenant data exports that are planned from a ledger, delivered whole, and proven by a manifest.

In: the configuration (what exists, and who receives it), the databases that it names, and the environment. Out: files at each tenant's
destination, archives of exports that people ask for, and a ledger that knows every one of them.

Rooms stand in four bands, and a room imports only what stands below it. What people and schedulers touch: `cli/`, `web/`, `airflow/`. Use
cases: `deliveries/` (the heart), `requests/`, `registrations/`, `discovery/`, `kits/`, `files/`, `housekeeping`, `doctor`, and
`installation`, which all of them work with. Adapters: `sources/`, `destinations/`, `formats/`, `ledger/`, `messaging/`, `pgp`. Ground:
`configuration/`, and modules that know one thing each.

- time and text: `window` (half-open windows and frequencies), `canonical` (the text of every value), `duckdb_text` (the same as SQL of
  DuckDB; how PostgreSQL writes it is in `sources/postgres/`, and every other driver's values go through `sources/dbapi/`)
- names and words: `layout` (paths of delivered files), `states` (words the ledger keeps), `language/` (sentences), `errors` (what recovers)
- access and secrets: `access` (rights), `connection` (a login as a plain value), `aws`, `private` (files that only Waybill reads), `logs`
- programs: `client` (the Python client of the API), `sink` (where bytes of a file go)

`docs/architecture.md` follows a delivery and a request through them.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
