"""Partial indexes that begin with what their condition fixes, one of days not published yet, and one in the order days are read in.

SQLite, which keeps no statistics, takes the index of which most columns are given. The partial ones had as many as the index of all of a
tenant's deliveries, which it took instead: each night then read the tenant's whole history.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_OPEN = "status = 'open'"
_UNLISTED = "status = 'committed' AND day_number IS NULL AND kind <> 'backfill'"
_UNFED = "status = 'committed' AND feed_number IS NULL"
_BEFORE = {
    "ix_delivery_open": (["tenant", "id"], _OPEN),
    "ix_delivery_unlisted": (["tenant", "export_date"], _UNLISTED),
    "ix_delivery_unfed": (["tenant", "committed_at", "id"], _UNFED),
    "ix_delivery_date": (["tenant", "export_date"], ""),
}
_AFTER = {
    "ix_delivery_open": (["status", "tenant", "id"], _OPEN),
    "ix_delivery_unlisted": (["tenant", "status", "day_number", "id"], _UNLISTED),
    "ix_delivery_unfed": (["tenant", "status", "feed_number", "committed_at", "id"], _UNFED),
    "ix_delivery_date": (["tenant", "export_date", "id"], ""),
}


def _make(indexes: dict[str, tuple[list[str], str]]) -> None:
    for name, (columns, condition) in indexes.items():
        op.drop_index(name, table_name="delivery")
        where = sa.text(condition) if condition else None
        op.create_index(name, "delivery", columns, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    _make(_AFTER)
    unseen = sa.text("published_at IS NULL")
    columns = ["tenant", "published_at", "export_date", "number"]
    op.create_index("ix_day_unpublished", "day", columns, sqlite_where=unseen, postgresql_where=unseen)


def downgrade() -> None:
    op.drop_index("ix_day_unpublished", table_name="day")
    _make(_BEFORE)
