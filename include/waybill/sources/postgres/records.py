"""What `COPY ... TO STDOUT` yields: records, in lists and blocks that never cross the end of a file."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterator
from itertools import repeat
from typing import Any

import psycopg
from psycopg import generators, waiting
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

Buffer = bytes | bytearray | memoryview
_RECORDS = 200
"""What is joined while the processor's caches still hold it: lists of thousands of records cost more than twice as much each."""

_BLOCK = 1 << 18


def records(connection: psycopg.Connection, statement: str, values: list[Any], most: int | None = None) -> Iterator[list[Buffer]]:
    """Yield what `COPY (...) TO STDOUT` yields, in short lists of records that never cross a multiple of `most`: the server sends a message
    for each.

    COPY takes no bind parameters: psycopg quotes the values itself, as literals. A copy left early is cancelled.
    """
    seen, ended = 0, False
    with connection.cursor().copy(statement, values):
        while not ended:
            found: list[Buffer] = []
            size = 1
            for size, record in map(connection.pgconn.get_copy_data, repeat(1, min(_RECORDS, most - seen % most) if most else _RECORDS)):
                if size <= 0:
                    break
                found.append(record)
            seen += len(found)
            if found:
                yield found
            if size <= 0:
                ended = connection.wait(_more(connection.pgconn) if size == 0 else _end(connection.pgconn))


_MARK = 33
"""A digest in hex at the end of a record, and the delimiter before it."""


def unknown(lists: Iterator[list[Buffer]], known: Container[bytes], most: int | None) -> Iterator[list[Buffer]]:
    """Yield the records whose digest is not known, without the digest, which is their last field. No list crosses a multiple of `most`."""
    seen = 0
    for found in lists:
        kept = [bytes(record[: -_MARK - 1]) + b"\n" for record in found if bytes.fromhex(bytes(record[-_MARK:-1]).decode()) not in known]
        while kept:
            size = min(len(kept), most - seen % most) if most else len(kept)
            yield list[Buffer](kept[:size])
            kept, seen = kept[size:], seen + size


def blocks(lists: Iterator[list[Buffer]], rewrite: Callable[[Buffer], bytes] | None, most: int | None) -> Iterator[tuple[bytes, int]]:
    """Yield the records, each rewritten where that is asked for, in blocks with their number; none crosses a multiple of `most`."""
    parts: list[bytes] = []
    seen = rows = size = 0
    for found in lists:
        parts.append(b"".join(map(rewrite, found) if rewrite else found))
        rows += len(found)
        size += len(parts[-1])
        if size >= _BLOCK or (most and (seen + rows) % most == 0):
            yield b"".join(parts), rows
            parts, seen, rows, size = [], seen + rows, 0, 0
    if parts:
        yield b"".join(parts), rows


def _more(pgconn: PGconn) -> Generator[waiting.Wait, waiting.Ready | int, bool]:
    while not (yield waiting.WAIT_R):
        continue
    pgconn.consume_input()
    return False


def _end(pgconn: PGconn) -> Generator[waiting.Wait, waiting.Ready | int, bool]:
    [result] = yield from generators.fetch_many(pgconn)
    if result.status != ExecStatus.COMMAND_OK:
        raise error_from_result(result)
    return True
