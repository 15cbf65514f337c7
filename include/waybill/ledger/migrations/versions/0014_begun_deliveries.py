"""When a delivery first touched its destination. A folder there is not explained by one that was only planned (`stale_ledger`)."""

import sqlalchemy as sa
from alembic import op

from waybill.ledger.tables import Instant

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("delivery", sa.Column("begun_at", Instant()))
    # Nobody knows any more which of them had begun. The few that may go on count as begun, so that none of them starts over.
    op.execute("update delivery set begun_at = created_at where status <> 'committed'")


def downgrade() -> None:
    op.drop_column("delivery", "begun_at")
