"""One hash for what was sent and what came back."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybill.destinations.base import Stored
from waybill.destinations.sftp.read_back import ReadBack

pytestmark = pytest.mark.fast


def stored(data: bytes) -> Stored:
    return Stored(len(data), hashlib.sha256(data).hexdigest())


@given(
    sent=st.lists(st.binary(max_size=40), max_size=12),
    pieces=st.lists(st.integers(0, 30), max_size=20),
    lag=st.integers(0, 100),
    keep=st.integers(0, 60),
    harm=st.sampled_from(["", "changed", "short", "long"]),
    place=st.integers(0, 500),
)
def test_it_says_what_was_sent_and_what_came_back(sent: list[bytes], pieces: list[int], lag: int, keep: int, harm: str, place: int) -> None:
    whole = b"".join(sent)
    there = bytearray(whole)
    if harm == "changed" and there:
        there[place % len(there)] ^= 1
    elif harm == "short":
        del there[place % (len(there) + 1) :]
    elif harm == "long":
        there += b"more"
    both = ReadBack(expected=True, keep=keep)
    done = at = 0

    def give(end: int) -> None:
        nonlocal at
        while at < min(end, len(there)):
            size = max(1, pieces.pop() if pieces else 7)
            data = memoryview(bytes(there[at : min(at + size, end)]))
            both.take(data)
            at += len(data)

    for chunk in sent:
        both.send(chunk)
        done += len(chunk)
        give(done - lag)
    give(len(there))
    assert (both.sent, both.found) == (stored(whole), stored(bytes(there)))


def test_where_nothing_comes_back_nothing_is_kept() -> None:
    both = ReadBack(expected=False, keep=3)
    for _ in range(5):
        both.send(b"rows")
    assert both.sent == stored(b"rows" * 5)
