"""An index of the id in the data that a registration names, and one of the streams of an entity.

Who receives the same rows, and what a row of an entity weighs, is found without reading every registration and every delivery.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NAMED = {
    "sqlite": "coalesce(json_extract(body, '$.sourceTenant'), json_extract(body, '$.copyOf'))",
    "postgresql": "coalesce(json_extract_path_text(body, 'sourceTenant'), json_extract_path_text(body, 'copyOf'))",
}


def upgrade() -> None:
    op.execute(f"CREATE INDEX ix_registration_in_data ON registration (({_NAMED[op.get_bind().dialect.name]}))")
    op.create_index("ix_stream_entity", "stream", ["entity", "id"])


def downgrade() -> None:
    op.drop_index("ix_stream_entity", table_name="stream")
    op.drop_index("ix_registration_in_data", table_name="registration")
