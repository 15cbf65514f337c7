"""The engine that makes lines of text: the next file has it, and nobody has it twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.format_rows import COLUMNS, batch, written
from waybill.formats.lines import MOST_SPARE, Lines

pytestmark = pytest.mark.fast

PIECE = pa.RecordBatch.from_arrays([pa.array(["a", "b"])], names=["name"])


def text_of(lines: Lines) -> bytes:
    return b"".join(map(bytes, lines.texts(PIECE, "concat(name, chr(10))")))


def test_the_engine_of_a_file_that_was_written_serves_the_next_which_ending_the_first_again_does_not_disturb() -> None:
    first = Lines()
    assert text_of(first) == b"a\nb\n"
    first.release()
    second = Lines()
    assert second.engine is first.engine
    first.close()
    assert text_of(second) == b"a\nb\n"
    second.close()


def test_files_that_are_written_at_once_have_an_engine_each_and_one_that_is_given_up_ends() -> None:
    open_at_once = [Lines() for _ in range(MOST_SPARE + 2)]
    engines = [lines.engine for lines in open_at_once]
    assert len({*map(id, engines)}) == len(engines)
    next(open_at_once[0].texts(PIECE, "concat(name, chr(10))"))
    open_at_once[0].close()
    for lines in open_at_once[1:]:
        lines.release()
    again = [Lines() for _ in open_at_once]
    assert sum(lines.engine in engines for lines in again) == MOST_SPARE
    assert all(lines.engine is not engines[0] for lines in again)
    for lines in again:
        assert text_of(lines) == b"a\nb\n"
        lines.close()


def test_a_row_of_fifty_megabytes_is_written_whole(tmp_path: Path) -> None:
    text = 'äb"c\n' * 4_000_000
    row = {"string": text, "json": json.dumps({"a": "b" * 25_000_000})}
    path, result = written(tmp_path, "ndjson", [batch([row], ["string", "json"])], {name: COLUMNS[name] for name in row})
    found = path.read_bytes()
    assert (result.rows, result.sha256) == (1, hashlib.sha256(found).hexdigest())
    assert (found.count(b"\xc3\xa4"), found.count(b"b" * 25_000_000)) == (4_000_000, 1)
