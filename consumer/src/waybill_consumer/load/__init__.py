"""Applies every delivery of a folder to a database, in the order of its chain, each in one transaction that also remembers it.

In: a folder that `pull` filled, and a database of `targets`. Out: one table for each entity that holds what the source held, and a report
of what was applied and what stopped.

`loading.load` does all of it, and `loading.load_into` opens the database first. `tables` says what columns and key a table must have for a
delivery, and `decrypting` makes encrypted files readable for as long as they are loaded.
"""

from waybill_consumer.load.loading import Loaded, load, load_into

__all__ = ["Loaded", "load", "load_into"]
