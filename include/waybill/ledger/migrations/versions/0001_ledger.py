"""The ledger as first released."""

import sqlalchemy as sa
from alembic import op

from waybill.ledger.tables import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index("ix_audit_tenant", ["tenant", "at"], unique=False)

    op.create_table(
        "breaker",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_breaker")),
    )
    op.create_table(
        "day",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("export_date", sa.String(length=10), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("published_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "export_date", "number", name=op.f("pk_day")),
    )
    op.create_table(
        "tenant",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("probe", sa.JSON(), nullable=True),
        sa.Column("probed_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant")),
    )
    op.create_table(
        "registration",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("diff", sa.JSON(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_registration_tenant")),
        sa.PrimaryKeyConstraint("tenant", "version", name=op.f("pk_registration")),
    )
    op.create_table(
        "stream",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("entity", sa.String(length=63), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=255), server_default="", nullable=False),
        sa.Column("sequence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("watermark", Instant(), nullable=True),
        sa.Column("position", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("schema_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("columns", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("digests_from", Instant(), nullable=True),
        sa.Column("full_load", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("activated_at", Instant(), nullable=False),
        sa.Column("deactivated_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_stream_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stream")),
        sa.UniqueConstraint("tenant", "entity", "generation", name=op.f("uq_stream_tenant")),
    )
    with op.batch_alter_table("stream", schema=None) as batch_op:
        batch_op.create_index(
            "uq_stream_active", ["tenant", "entity"], unique=True, sqlite_where=sa.text("active = 1"), postgresql_where=sa.text("active")
        )

    op.create_table(
        "delivery",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("entity", sa.String(length=63), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("window_from", Instant(), nullable=True),
        sa.Column("planned_to", Instant(), nullable=False),
        sa.Column("window_to", Instant(), nullable=True),
        sa.Column("export_date", sa.String(length=10), nullable=False),
        sa.Column("folder", sa.String(length=512), nullable=False),
        sa.Column("stem", sa.String(length=255), nullable=False),
        sa.Column("previous_sequence", sa.Integer(), nullable=True),
        sa.Column("previous_sha256", sa.String(length=64), nullable=True),
        sa.Column("registration_version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("adopted", sa.String(length=32), nullable=True),
        sa.Column("redelivers", sa.String(length=32), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("error_code", sa.String(length=64), server_default="", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("committed_at", Instant(), nullable=True),
        sa.Column("day_number", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["stream"], ["stream.id"], name=op.f("fk_delivery_stream")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("folder", "stem", name=op.f("uq_delivery_folder")),
    )
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.create_index("ix_delivery_tenant", ["tenant", "created_at"], unique=False)
        batch_op.create_index(
            "uq_delivery_open",
            ["stream"],
            unique=True,
            sqlite_where=sa.text("status = 'open' AND purpose = 'schedule'"),
            postgresql_where=sa.text("status = 'open' AND purpose = 'schedule'"),
        )
        batch_op.create_index(
            "uq_delivery_sequence",
            ["stream", "sequence"],
            unique=True,
            sqlite_where=sa.text("purpose = 'schedule' AND status <> 'abandoned'"),
            postgresql_where=sa.text("purpose = 'schedule' AND status <> 'abandoned'"),
        )

    op.create_table(
        "attempt",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("delivery", sa.String(length=32), nullable=False),
        sa.Column("window_to", Instant(), nullable=False),
        sa.Column("position_from", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("position_to", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("snapshot_time", Instant(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("possible_duplicate", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("digests_from", Instant(), nullable=True),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("publishing_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["delivery"], ["delivery.id"], name=op.f("fk_attempt_delivery")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_attempt_delivery"), ["delivery"], unique=False)

    op.create_table(
        "digest",
        sa.Column("attempt", sa.String(length=32), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("digests", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["attempt"], ["attempt.id"], name=op.f("fk_digest_attempt")),
        sa.ForeignKeyConstraint(["stream"], ["stream.id"], name=op.f("fk_digest_stream")),
        sa.PrimaryKeyConstraint("attempt", "chunk", name=op.f("pk_digest")),
    )
    with op.batch_alter_table("digest", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_digest_stream"), ["stream"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("digest", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_digest_stream"))

    op.drop_table("digest")
    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_attempt_delivery"))

    op.drop_table("attempt")
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_delivery_sequence",
            sqlite_where=sa.text("purpose = 'schedule' AND status <> 'abandoned'"),
            postgresql_where=sa.text("purpose = 'schedule' AND status <> 'abandoned'"),
        )
        batch_op.drop_index(
            "uq_delivery_open",
            sqlite_where=sa.text("status = 'open' AND purpose = 'schedule'"),
            postgresql_where=sa.text("status = 'open' AND purpose = 'schedule'"),
        )
        batch_op.drop_index("ix_delivery_tenant")

    op.drop_table("delivery")
    with op.batch_alter_table("stream", schema=None) as batch_op:
        batch_op.drop_index("uq_stream_active", sqlite_where=sa.text("active = 1"), postgresql_where=sa.text("active"))

    op.drop_table("stream")
    op.drop_table("registration")
    op.drop_table("tenant")
    op.drop_table("day")
    op.drop_table("breaker")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_tenant")

    op.drop_table("audit")
