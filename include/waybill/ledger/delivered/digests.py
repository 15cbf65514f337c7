"""The digests of delivered row versions, in little more memory than they have bytes. A set of many would take four times as much."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable

SIZE = 16
_PREFIX = 2
"""The first bytes of a digest say among which others it is looked for: 150 of ten million."""


class Digests(Container[bytes]):
    """Digests of 16 bytes, made from blobs in which they stand one after another."""

    def __init__(self, blobs: Iterable[bytes] = ()) -> None:
        self._alike: defaultdict[bytes, bytearray] = defaultdict(bytearray)
        for blob in blobs:
            for at in range(0, len(blob), SIZE):
                self._alike[blob[at : at + _PREFIX]] += blob[at : at + SIZE]

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, bytes) or (alike := self._alike.get(digest[:_PREFIX])) is None:
            return False
        at = alike.find(digest)
        while at > 0 and at % SIZE:  # it may also begin within one digest and end within the next
            at = alike.find(digest, at + 1)
        return at >= 0
