"""Makes the files of one delivery from one snapshot of its source.

In: a delivery with its window, an open source. Out: files in the spool, with their hashes, counts and columns.

`extracting` reads the snapshot and writes the files: CSV itself, `other_formats` Parquet and NDJSON of the same records. `encrypting` hands
them to gpg on the way. `row_versions` remembers what must not be sent twice, `landmarks` notices ids that are given out again, and
`columns` says how one file's columns follow the last one's. `deletes_file` writes the keys that are gone.
"""

__all__ = ["columns", "deletes_file", "encrypting", "extracting", "row_versions"]
