"""Kits: what a consumer needs to load a tenant's files with their own tools, without our loader.

In: a tenant and the dialect of the consumer's database. Out: files by their path in the kit. `tables` collects what is known of each
entity, `dialects` holds what differs between databases, `statements` writes the SQL, `describing` writes the data dictionary and the
metadata files, `samples` makes example rows from the types, `making` calls all of them, and `packing` puts the files into a folder or an
archive.

No file holds a row of a tenant. A kit is made from the catalog, the registration and the manifests of the ledger.
"""

from waybill.kits.dialects import DIALECTS, Dialect
from waybill.kits.making import kit_of
from waybill.kits.packing import write, zipped

__all__ = ["DIALECTS", "Dialect", "kit_of", "write", "zipped"]
