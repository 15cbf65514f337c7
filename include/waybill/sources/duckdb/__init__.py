"""What DuckDB reads: its own files and Parquet lakes, and the engine that formats and spills rows for sources without a formatter.

`engine` opens the in-memory DuckDB, spells its SQL and streams its rows. `source` reads a DuckDB file and holds what every relation of
the engine has in common, `lake` reads Parquet files, `partitions` what their folders say, `nested` spells lists and structs as JSON, and
`spill` owns the folders on disk.
"""
