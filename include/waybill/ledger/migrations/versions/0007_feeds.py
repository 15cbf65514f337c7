"""The feed of a tenant: its deliveries in one numbered list, with pages that never change (landing: status)."""

import sqlalchemy as sa
from alembic import op

from waybill.ledger.tables import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_UNFED = sa.text("status = 'committed' AND feed_number IS NULL")


def upgrade() -> None:
    op.add_column("delivery", sa.Column("feed_number", sa.Integer))
    op.create_index("ix_delivery_unfed", "delivery", ["tenant", "committed_at", "id"], sqlite_where=_UNFED, postgresql_where=_UNFED)
    op.create_table(
        "feed",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenant.id", name="fk_feed_tenant"), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("problem", sa.Text, nullable=False, server_default=""),
        sa.Column("readme", sa.String(64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("tenant", name="pk_feed"),
    )
    op.create_table(
        "feed_entry",
        sa.Column("feed", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("feed", "number", name="pk_feed_entry"),
    )
    op.create_table(
        "feed_page",
        sa.Column("feed", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("document", sa.LargeBinary),
        sa.Column("published_at", Instant()),
        sa.PrimaryKeyConstraint("feed", "number", name="pk_feed_page"),
    )


def downgrade() -> None:
    op.drop_table("feed_page")
    op.drop_table("feed_entry")
    op.drop_table("feed")
    op.drop_index("ix_delivery_unfed", "delivery")
    op.drop_column("delivery", "feed_number")  # in place: rows of other tables refer to this one, so it cannot be remade
