"""The way of a delivery's files to the spool. They are encrypted if the tenant's registration asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from waybill.formats.csv import WrittenFile
from waybill.ledger.facts import FileFacts
from waybill.pgp import Encryption, Recipient
from waybill.sink import Sink


@dataclass(frozen=True)
class Sinks:
    """Begins files, and knows the size and hash that each finished file had before it was encrypted."""

    new_file: Callable[[int], Sink]
    encryption: Encryption | None = None

    def measured(self, files: list[WrittenFile]) -> list[WrittenFile]:
        if self.encryption is None:
            return files
        return [replace(file, plain=self.encryption.plain(file.number)) for file in files]


@contextmanager
def encrypting(to: Recipient | None, new_file: Callable[[int], Sink]) -> Iterator[Sinks]:
    """Yield the object that makes the files of a delivery. A file that is unfinished when the block ends is given up."""
    if to is None:
        yield Sinks(new_file)
        return
    with Encryption(to) as encryption:
        yield Sinks(lambda number: encryption.sink(number, new_file(number)), encryption)


def file_facts(name: str, file: WrittenFile) -> FileFacts:
    """Return what the ledger keeps of a finished file under its final name."""
    facts: FileFacts = {"path": name, "rows": file.rows, "bytes": file.bytes, "sha256": file.sha256}
    if file.plain is not None:
        facts |= {"plain_bytes": file.plain.bytes, "plain_sha256": file.plain.sha256}
    return facts
