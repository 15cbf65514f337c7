"""Signatures of published documents."""

import sqlalchemy as sa
from alembic import op

from waybill.ledger.tables import Instant

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "signature",
        sa.Column("document", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("signed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("document", name="pk_signature"),
    )
    op.create_index("ix_signature_tenant", "signature", ["tenant"])


def downgrade() -> None:
    op.drop_table("signature")
