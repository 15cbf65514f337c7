"""Indexes of the id in the data and of the original that a registration names, and one of the streams of an entity.

Who receives the same rows, and what a row of an entity weighs, is found without reading every registration and every delivery. What the
view of months adds up is a view by itself, `delivery_usage`, in which the last months of one tenant are found by the ids of deliveries.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NAMED = {
    "sqlite": "CASE WHEN json_valid(body) THEN coalesce(json_extract(body, '$.sourceTenant'), json_extract(body, '$.copyOf')) END",
    "postgresql": "coalesce(json_extract_path_text(body, 'sourceTenant'), json_extract_path_text(body, 'copyOf'))",
}
_COPY_OF = {
    "sqlite": "CASE WHEN json_valid(body) THEN json_extract(body, '$.copyOf') END",
    "postgresql": "json_extract_path_text(body, 'copyOf')",
}
_MONTH = {"sqlite": "substr(d.committed_at, 1, 7)", "postgresql": "to_char(d.committed_at AT TIME ZONE 'UTC', 'YYYY-MM')"}
_SECONDS = {
    "sqlite": "max(0.0, (julianday(d.committed_at) - julianday(a.snapshot_time)) * 86400.0)",
    "postgresql": "greatest(0.0, extract(epoch FROM d.committed_at - a.snapshot_time)::double precision)",
}
_ADDED_UP = (
    "count(*) AS deliveries, sum(CASE WHEN kind = 'full' THEN 1 ELSE 0 END) AS full_loads, "
    "sum(rows) AS rows, sum(bytes) AS bytes, sum(seconds) AS seconds"
)


def _of_each(dialect: str) -> str:
    return (
        f"SELECT d.id AS id, d.tenant AS tenant, {_MONTH[dialect]} AS month, d.purpose AS purpose, d.kind AS kind, "  # noqa: S608 (constants of this file)
        f"a.rows AS rows, a.bytes AS bytes, {_SECONDS[dialect]} AS seconds "
        "FROM delivery AS d JOIN attempt AS a ON a.id = d.adopted WHERE d.status = 'committed'"
    )


def _view_of_months(each: str) -> None:
    op.execute("DROP VIEW monthly_usage")
    op.execute(f"CREATE VIEW monthly_usage AS SELECT tenant, month, purpose, {_ADDED_UP} FROM {each} GROUP BY tenant, month, purpose")  # noqa: S608


def upgrade() -> None:
    op.execute(f"CREATE INDEX ix_registration_in_data ON registration (({_NAMED[op.get_bind().dialect.name]}))")
    op.execute(f"CREATE INDEX ix_registration_copy_of ON registration (({_COPY_OF[op.get_bind().dialect.name]}))")
    op.create_index("ix_stream_entity", "stream", ["entity", "id"])
    op.execute(f"CREATE VIEW delivery_usage AS {_of_each(op.get_bind().dialect.name)}")
    _view_of_months("delivery_usage")


def downgrade() -> None:
    _view_of_months(f"({_of_each(op.get_bind().dialect.name)}) AS each")
    op.execute("DROP VIEW delivery_usage")
    op.drop_index("ix_stream_entity", table_name="stream")
    op.drop_index("ix_registration_copy_of", table_name="registration")
    op.drop_index("ix_registration_in_data", table_name="registration")
