"""The keys a stream has delivered, for entities that compare them with the source (deletes: compare)."""

import sqlalchemy as sa
from alembic import op

from waybill.ledger.tables import Instant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_change",
        sa.Column("attempt", sa.String(32), sa.ForeignKey("attempt.id", name="fk_key_change_attempt"), nullable=False),
        sa.Column("stream", sa.Integer, sa.ForeignKey("stream.id", name="fk_key_change_stream"), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("made_of", sa.JSON, nullable=False),
        sa.Column("whole", sa.Boolean, nullable=False),
        sa.Column("after", sa.Integer, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("blobs", sa.JSON, nullable=False),
        sa.Column("compared_at", Instant()),
        sa.Column("number", sa.Integer),
        sa.PrimaryKeyConstraint("attempt", name="pk_key_change"),
        sa.UniqueConstraint("stream", "number", name="uq_key_change_stream"),
    )
    op.create_index("ix_key_change_stream", "key_change", ["stream"])
    op.create_table(
        "key_blob",
        sa.Column("attempt", sa.String(32), sa.ForeignKey("key_change.attempt", name="fk_key_blob_attempt"), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("attempt", "kind", "part", name="pk_key_blob"),
    )


def downgrade() -> None:
    op.drop_table("key_blob")
    op.drop_table("key_change")
