"""Digests of delivered versions are found, also where one of them begins with the end of another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waybill.ledger.delivered.digests import SIZE, Digests

PART = st.sampled_from([b"\0\0", b"\0a", b"ab", b"a\0"])
"""Few bytes, so that digests are alike and repeat themselves."""
ONE = st.lists(PART, min_size=SIZE // 2, max_size=SIZE // 2).map(b"".join)


@given(known=st.lists(ONE), others=st.lists(ONE), first=st.integers(0, 5))
def test_exactly_the_known_digests_are_found(known: list[bytes], others: list[bytes], first: int) -> None:
    digests = Digests([b"".join(known[:first]), b"".join(known[first:])])
    assert [digest in digests for digest in [*known, *others]] == [digest in set(known) for digest in [*known, *others]]
    assert b"" not in digests
    assert None not in digests


def test_a_digest_across_two_others_is_not_known() -> None:
    first, second = b"ab" + b"c" * 10 + b"abab", b"ab" + b"c" * 10 + b"abcc"
    across = (first + second)[12:28]
    assert across[:2] == b"ab"
    assert across not in Digests([first + second])
    assert second in Digests([first + second])
