"""What every format of an on-demand export promises, and the file it writes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

from waybill import private
from waybill.errors import PermanentError


@dataclass(frozen=True)
class WriterOptions:
    """What a request and its policy say about the files.

    `exported_at` is aware UTC and becomes the file's only time stamp, so the same rows, options and columns give the same bytes.
    `date_range` is half-open, and None is an open end. `scope` goes unchanged into the envelope of JSON objects. `heartbeat` is called
    after every piece of work, and in `close`; what it raises ends the writing.
    """

    exported_at: datetime
    json_layout: Literal["objects", "arrays"] = "objects"
    spreadsheet_guard: bool = True
    csv_bom: bool = False
    date_range: tuple[datetime | None, datetime | None] = (None, None)
    scope: Mapping[str, Any] = field(default_factory=dict)
    heartbeat: Callable[[], None] = lambda: None
    clean: bool = True
    """Whether credentials are taken out of values. They are in what people export, but not in scheduled deliveries, which hold what the
    source holds.
    """


@dataclass(frozen=True)
class Written:
    """One finished file.

    `columns` is its header. CSV has more columns than the catalogue if nested values were flattened. `withheld` says for each catalogued
    column how many of its values had a credential taken out.
    """

    rows: int
    bytes: int
    sha256: str
    columns: tuple[str, ...]
    withheld: Mapping[str, int] = field(default_factory=dict)


class Writer(Protocol):
    """Writes one entity into one file with memory that does not grow with the rows. It is not thread-safe. `close` or `discard` ends it."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows. The batch has the columns the writer was opened with, as `Snapshot.batches` yields them. Its size is free.

        Raises PermanentError `row_limit_format` if the format cannot hold a value, and what `disk_errors` raises.
        """
        ...

    def close(self) -> Written:
        """Finish the file and say what it holds. Raises as `write` does."""
        ...

    def discard(self) -> None:
        """Give up: release everything and remove the file. It does nothing after `close`, and may be called twice."""
        ...


class Target(Protocol):
    """What a writer writes to. It is enough of a file for pyarrow."""

    @property
    def closed(self) -> bool: ...
    def write(self, block: bytes | memoryview) -> int: ...
    def tell(self) -> int: ...
    def flush(self) -> None: ...
    def finish(self, rows: int, columns: tuple[str, ...], withheld: Mapping[str, int]) -> Written: ...
    def discard(self) -> None: ...


class Output:
    """The file. It is created exclusively, and hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._discarded = self._finished = False
        with disk_errors(path):
            self._file = private.create(path)

    def write(self, block: bytes | memoryview) -> int:
        """Append. After `discard`, what a library still writes while it is released goes nowhere."""
        if self._discarded:
            return len(block)
        with disk_errors(self.path):
            self._file.write(block)
        self._hash.update(block)
        self.bytes += len(block)
        return len(block)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        """Do nothing: `finish` writes whatever is held back."""

    @property
    def closed(self) -> bool:
        return self._file.closed and not self._discarded

    def finish(self, rows: int, columns: tuple[str, ...], withheld: Mapping[str, int]) -> Written:
        with disk_errors(self.path):
            self._file.close()
        self._finished = True
        return Written(rows, self.bytes, self._hash.hexdigest(), columns, dict(withheld))

    def discard(self) -> None:
        if self._finished or self._discarded:
            return
        self._discarded = True
        give_up(self.path)
        with suppress(OSError):  # what is still buffered may not fit on the disk either
            self._file.close()


@contextmanager
def disk_errors(path: Path, setting: str = "WAYBILL_SPOOL_DIR") -> Iterator[None]:
    """Raises what `private.not_written` returns for a file of this machine. `setting` names what decides where it is."""
    try:
        yield
    except OSError as error:
        code = "storage_full" if error.errno in private.FULL else "storage_unavailable"
        raise private.not_written(error, f"cannot write {path.name}", str(path.parent), setting, code) from error


def give_up(path: Path) -> None:
    """Remove a file that nobody will finish. What a disk does not give back goes with its folder, or housekeeping removes it."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def does_not_fit(what: str, entity_id: str, limit: str) -> PermanentError:
    """The format cannot hold a value or this many rows. The request fails rather than lose anything."""
    return PermanentError(
        what, where=entity_id, allowed=limit, code="row_limit_format", next_step="Choose NDJSON or CSV, or ask for fewer rows"
    )
