"""Which version of the registration a feed tells, so that a changed one is told although no run comes (`publishing.feed.refresh`)."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("feed", sa.Column("version", sa.Integer(), nullable=False, server_default="0"))
    op.execute("update feed set version = coalesce((select tenant.version from tenant where tenant.id = feed.tenant), 0)")


def downgrade() -> None:
    op.drop_column("feed", "version")
