"""What the product makes of a source: hashed, counted CSV on disk. Apart from the rest, so that a process of its own imports little."""

from __future__ import annotations

from pathlib import Path

from waybill.configuration.catalog import Entity
from waybill.configuration.selection import FileStyle, Selection
from waybill.deliveries.publishing.upload import SpoolFile
from waybill.formats.csv import write_csv
from waybill.sources import Source


class Unforced(SpoolFile):
    """A spool file that may lie in the page cache when it is finished: the others' files may, too."""

    def finish(self) -> None:
        self.abort()


def spool(source: Source, entity: Entity, file: Path) -> None:
    """All rows of the tenant acme, as a delivery writes them."""
    file.unlink(missing_ok=True)
    with source.snapshot() as snapshot:
        write_csv(
            snapshot.csv(Selection(entity, "acme", entity.columns), FileStyle()), entity.columns, FileStyle(), lambda _: Unforced(file)
        )
