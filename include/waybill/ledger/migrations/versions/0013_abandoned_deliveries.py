"""An index of the abandoned deliveries, which are few: a tenant's list of them is found without walking through its whole history."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ABANDONED = sa.text("status = 'abandoned'")


def upgrade() -> None:
    op.create_index("ix_delivery_abandoned", "delivery", ["status", "tenant", "id"], sqlite_where=_ABANDONED, postgresql_where=_ABANDONED)


def downgrade() -> None:
    op.drop_index("ix_delivery_abandoned", table_name="delivery")
