"""Any database behind an Airflow connection, through its Python driver.

`source` picks rows in the database and streams them. `drivers` holds what drivers and databases do differently, and `chunks` turns a
driver's values into Arrow, which DuckDB's engine formats like every other source's rows.
"""
