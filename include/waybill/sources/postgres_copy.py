"""Records out of a running COPY, many at a time: psycopg's own loop costs as much per record as the server does."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import psycopg
from psycopg import generators, waiting
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

Buffer = bytes | bytearray | memoryview
_BLOCK_ROWS = 2000


def records(connection: psycopg.Connection, statement: str, values: list[Any], most: int | None = None) -> Iterator[list[Buffer]]:
    """What `COPY (...) TO STDOUT` yields, in lists of records that never cross a multiple of `most`: the server sends a message for each.

    COPY takes no bind parameters: psycopg quotes the values itself, as literals. A copy left early is cancelled.
    """
    seen, ended = 0, False
    with connection.cursor().copy(statement, values):
        while not ended:
            limit = min(_BLOCK_ROWS, most - seen % most) if most else _BLOCK_ROWS
            found, ended = connection.wait(_some(connection.pgconn, limit))
            seen += len(found)
            if found:
                yield found


def _some(pgconn: PGconn, most: int) -> Generator[waiting.Wait, waiting.Ready | int, tuple[list[Buffer], bool]]:
    """At most `most` records, and whether the COPY ended well behind them."""
    found: list[Buffer] = []
    get, keep = pgconn.get_copy_data, found.append
    while len(found) < most:
        size, record = get(1)
        if size > 0:
            keep(record)
        elif size < 0:
            [result] = yield from generators.fetch_many(pgconn)
            if result.status != ExecStatus.COMMAND_OK:
                raise error_from_result(result)
            return found, True
        else:
            while not (yield waiting.WAIT_R):
                continue
            pgconn.consume_input()
    return found, False
