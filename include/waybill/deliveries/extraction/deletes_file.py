"""The deletes file of a delivery: the keys that are gone, with the time at which that was noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from waybill.canonical import csv_line, timestamp_text
from waybill.configuration.selection import FileStyle
from waybill.deliveries.extraction.encrypting import encrypting, file_facts
from waybill.deliveries.key_changes import keysets
from waybill.deliveries.key_changes.changes import FoundKeys, Repeated
from waybill.errors import TransientError
from waybill.files.records import fields_of
from waybill.formats.csv import write_csv
from waybill.ledger.facts import FileFacts
from waybill.pgp import Recipient
from waybill.sink import Sink
from waybill_consumer.manifest import NOTICED

_LINES = 2_000


def write(
    keys: FoundKeys | Repeated, path: Path, new_file: Callable[[Path], Sink], style: FileStyle, to: Recipient | None
) -> FileFacts | None:
    """Write the file at `path` and return its facts, or None if nothing was compared. A redelivery repeats the bytes of the first one."""
    if isinstance(keys, Repeated):
        return _repeat(keys, path, new_file(path))
    if keys.gone is None:
        return None
    sink = new_file(path)
    lines = _lines(keysets.in_order(keys.gone.records(), keys.folder), timestamp_text(keys.noticed_at), style)
    whole = replace(style, max_rows_per_file=None)
    with encrypting(to, lambda number: sink) as sinks:
        [written] = sinks.measured(write_csv(lines, [*keys.key, NOTICED], whole, sinks.new_file))
    return file_facts(path.name, written)


def _repeat(keys: Repeated, path: Path, sink: Sink) -> FileFacts:
    for block in keys.blocks():
        sink.write(block)
    sink.finish()
    if sink.sha256 != keys.file["sha256"]:
        raise TransientError("the kept bytes changed while they were read", next_step="Try again", code="verify")
    return {**keys.file, "path": path.name}


def _lines(records: Iterator[bytes], when: str, style: FileStyle) -> Iterator[tuple[bytes, int]]:
    plain = style.delimiter == "," and style.line_end == "\n"
    end = f",{when}\n".encode()
    while some := list(islice(records, _LINES)):
        if plain:
            yield b"".join(record + end for record in some), len(some)
        else:
            lines = [csv_line([*fields_of(record.decode()), when], style.delimiter, style.line_end) for record in some]
            yield "".join(lines).encode(), len(some)
