"""On-demand exports: requests with their files, recurring templates, keys of signed links."""

import sqlalchemy as sa
from alembic import op

from waybill.ledger.tables import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "export_request",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("tenants", sa.JSON(), nullable=False),
        sa.Column("export_type", sa.String(length=200), nullable=True),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("project", sa.String(length=200), nullable=True),
        sa.Column("entities", sa.JSON(), nullable=False),
        sa.Column("range_from", Instant(timezone=True), nullable=True),
        sa.Column("range_to", Instant(timezone=True), nullable=True),
        sa.Column("range_asked", sa.JSON(), nullable=False),
        sa.Column("formats", sa.JSON(), nullable=False),
        sa.Column("submission", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_advice", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.String(length=255), nullable=False),
        sa.Column("requester_name", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("created_at", Instant(timezone=True), nullable=False),
        sa.Column("due_at", Instant(timezone=True), nullable=False),
        sa.Column("started_at", Instant(timezone=True), nullable=True),
        sa.Column("finished_at", Instant(timezone=True), nullable=True),
        sa.Column("expires_at", Instant(timezone=True), nullable=True),
        sa.Column("heartbeat_at", Instant(timezone=True), nullable=True),
        sa.Column("downloaded_at", Instant(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("resubmitted_from", sa.String(length=32), nullable=True),
        sa.Column("template", sa.String(length=32), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("slot", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("archive", sa.String(length=512), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("mail", sa.String(length=16), nullable=True),
        sa.Column("mail_due_at", Instant(timezone=True), nullable=True),
        sa.Column("mail_claimed_at", Instant(timezone=True), nullable=True),
        sa.Column("mail_sent_at", Instant(timezone=True), nullable=True),
        sa.Column("mail_tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_request")),
    )
    op.create_index("ix_export_request_listed", "export_request", ["tenant", "id"], unique=False)
    op.create_index("ix_export_request_status", "export_request", ["status", "due_at"], unique=False)
    op.create_index(op.f("ix_export_request_template"), "export_request", ["template"], unique=False)
    op.create_index(
        "uq_export_request_active",
        "export_request",
        ["tenant", "slot"],
        unique=True,
        sqlite_where=sa.text("slot IS NOT NULL AND status IN ('pending', 'running')"),
        postgresql_where=sa.text("slot IS NOT NULL AND status IN ('pending', 'running')"),
    )
    op.create_index("uq_export_request_key", "export_request", ["tenant", "requested_by", "idempotency_key"], unique=True)
    op.create_index(
        "uq_export_request_standing",
        "export_request",
        ["tenant", "fingerprint"],
        unique=True,
        sqlite_where=sa.text("fingerprint IS NOT NULL AND status IN ('pending', 'running', 'done')"),
        postgresql_where=sa.text("fingerprint IS NOT NULL AND status IN ('pending', 'running', 'done')"),
    )
    op.create_table(
        "export_template",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("frequency", sa.String(length=16), nullable=False),
        sa.Column("submission", sa.JSON(), nullable=False),
        sa.Column("requested_by", sa.String(length=255), nullable=False),
        sa.Column("requester_name", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("created_at", Instant(timezone=True), nullable=False),
        sa.Column("next_at", Instant(timezone=True), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_template")),
    )
    op.create_index(op.f("ix_export_template_tenant"), "export_template", ["tenant"], unique=False)
    op.create_table(
        "link_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link_key")),
    )
    op.create_table(
        "export_file",
        sa.Column("request", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("entity", sa.String(length=63), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["request"], ["export_request.id"], name=op.f("fk_export_file_request"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("request", "tenant", "entity", "format", name=op.f("pk_export_file")),
    )


def downgrade() -> None:
    op.drop_table("export_file")
    op.drop_table("link_key")
    op.drop_index(op.f("ix_export_template_tenant"), table_name="export_template")
    op.drop_table("export_template")
    op.drop_index(
        "uq_export_request_standing",
        table_name="export_request",
        sqlite_where=sa.text("fingerprint IS NOT NULL AND status IN ('pending', 'running', 'done')"),
        postgresql_where=sa.text("fingerprint IS NOT NULL AND status IN ('pending', 'running', 'done')"),
    )
    op.drop_index("uq_export_request_key", table_name="export_request")
    op.drop_index(
        "uq_export_request_active",
        table_name="export_request",
        sqlite_where=sa.text("slot IS NOT NULL AND status IN ('pending', 'running')"),
        postgresql_where=sa.text("slot IS NOT NULL AND status IN ('pending', 'running')"),
    )
    op.drop_index(op.f("ix_export_request_template"), table_name="export_request")
    op.drop_index("ix_export_request_status", table_name="export_request")
    op.drop_index("ix_export_request_listed", table_name="export_request")
    op.drop_table("export_request")
