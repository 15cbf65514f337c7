"""Alembic's entry: runs migrations on the connection handed down by `Ledger.upgrade`.

Whether an old ledger is upgraded or refused is decided before, by `Ledger.ready` in `ledger/database/engine`.
"""

from alembic import context

from waybill.ledger.on_demand.request_tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
context.run_migrations()
