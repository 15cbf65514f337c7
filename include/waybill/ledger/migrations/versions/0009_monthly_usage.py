"""A view for billing: what each tenant got in each month.

SQLite looks into views when a table is remade: a later migration that remakes `delivery` or `attempt` drops this one before and makes it
again.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MONTH = {"sqlite": "substr(d.committed_at, 1, 7)", "postgresql": "to_char(d.committed_at AT TIME ZONE 'UTC', 'YYYY-MM')"}
_SECONDS = {
    "sqlite": "max(0.0, (julianday(d.committed_at) - julianday(a.snapshot_time)) * 86400.0)",
    "postgresql": "greatest(0.0, extract(epoch FROM d.committed_at - a.snapshot_time)::double precision)",
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.execute(
        f"CREATE VIEW monthly_usage AS SELECT d.tenant AS tenant, {_MONTH[dialect]} AS month, d.purpose AS purpose, "  # noqa: S608 (constants of this file)
        "count(*) AS deliveries, sum(CASE WHEN d.kind = 'full' THEN 1 ELSE 0 END) AS full_loads, "
        f"sum(a.rows) AS rows, sum(a.bytes) AS bytes, sum({_SECONDS[dialect]}) AS seconds "
        "FROM delivery AS d JOIN attempt AS a ON a.id = d.adopted WHERE d.status = 'committed' "
        f"GROUP BY d.tenant, {_MONTH[dialect]}, d.purpose"
    )


def downgrade() -> None:
    op.execute("DROP VIEW monthly_usage")
