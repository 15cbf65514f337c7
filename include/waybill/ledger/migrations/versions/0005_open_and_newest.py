"""Indexes for what every task and page asks: what is open, what is newest, what no day manifest lists yet, which mails wait.

Nothing that runs each night or each second may read a whole history.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PARTIAL = {
    "ix_delivery_open": ("delivery", ["tenant", "id"], "status = 'open'"),
    "ix_delivery_unlisted": (
        "delivery",
        ["tenant", "export_date"],
        "status = 'committed' AND day_number IS NULL AND kind <> 'backfill'",
    ),
    "ix_delivery_redelivers": ("delivery", ["redelivers"], "redelivers IS NOT NULL"),
    "ix_export_request_mail": ("export_request", ["mail_due_at"], "mail IS NOT NULL AND mail_sent_at IS NULL"),
}
_WHOLE = {
    "ix_delivery_newest": ("delivery", ["tenant", "id"]),
    "ix_delivery_date": ("delivery", ["tenant", "export_date"]),
    "ix_export_template_next": ("export_template", ["next_at"]),
}


def upgrade() -> None:
    for name, (table, columns, where) in _PARTIAL.items():
        op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    for name, (table, columns) in _WHOLE.items():
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name in [*_PARTIAL, *_WHOLE]:
        op.drop_index(name)
