"""What DuckDB reads: its own files and Parquet lakes, and the engine that formats and spills rows for sources without a formatter.

In: a DuckDB file, or Parquet files in a folder or bucket. Out: a snapshot of them.

`engine` opens the in-memory DuckDB, spells its SQL and streams its rows. `source` reads a DuckDB file and holds what every relation of the
engine has in common, `lake` chooses and reads Parquet files, `storage` and `buckets` list them, `parquet_schema` and `bounds` read their
footers, `partitions` tells what a folder's name says, and `table_formats` refuses folders whose log decides which files count. `nested`
spells lists and structs as JSON, and `spill` owns the folders on disk.
"""

__all__ = ["engine", "lake", "source"]
