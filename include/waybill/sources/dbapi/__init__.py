"""Any database behind an Airflow connection, through its Python driver.

In: what Airflow's hook opens. Out: a snapshot as exact as the database allows.

`source` picks rows in the database (`query` asks for them, in the words of `flavours`) and streams them. `drivers` holds what drivers and
databases do differently, `frames` reads through hooks that open no connection, `over_postgres`, `over_mysql` and `over_sqlite` hold what
only those do behind a driver, `definition` what gives rows their values, and whether its tables have transactions, `replicas` how far a
replica of MySQL is, `refusals` tells whether trying again helps after an error, and `chunks` turns a driver's values into Arrow, which
DuckDB's engine formats like every other source's rows.
"""

__all__ = ["source"]
