"""What is wrong with a tenant's deliveries, and who is owed to be told of it."""

import sqlalchemy as sa
from alembic import op

from waybill.ledger.tables import Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarm",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("raised_at", Instant(), nullable=False),
        sa.Column("cleared_at", Instant()),
        sa.PrimaryKeyConstraint("id", name="pk_alarm"),
    )
    raised = sa.text("cleared_at IS NULL")
    op.create_index("uq_alarm_raised", "alarm", ["tenant", "event"], unique=True, sqlite_where=raised, postgresql_where=raised)
    op.create_table(
        "notice",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("alarm", sa.Integer, sa.ForeignKey("alarm.id", name="fk_notice_alarm")),
        sa.Column("delivery", sa.String(32)),
        sa.Column("channel", sa.JSON, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("claimed_at", Instant()),
        sa.Column("sent_at", Instant()),
        sa.PrimaryKeyConstraint("id", name="pk_notice"),
    )
    op.create_index("ix_notice_alarm", "notice", ["alarm"])
    owed = sa.text("state = 'owed'")
    op.create_index("ix_notice_owed", "notice", ["tenant", "due_at"], sqlite_where=owed, postgresql_where=owed)


def downgrade() -> None:
    op.drop_table("notice")
    op.drop_table("alarm")
