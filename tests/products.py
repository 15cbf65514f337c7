"""Thins products of dimensions that do not depend on one another."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import combinations, product
from typing import Any


def pairs(*dimensions: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Enough combinations that every two values of two dimensions meet in one of them, the same in every run. All with FAULTS=full.

    Two faults that only show together are found as before. Do not thin what a third value decides.
    """
    every = list(product(*dimensions))
    if os.environ.get("FAULTS") == "full":
        return every
    missing = {pair for combination in every for pair in _pairs_of(combination)}
    kept: list[tuple[Any, ...]] = []
    while missing:
        kept.append(max(every, key=lambda combination: len(missing & _pairs_of(combination))))
        missing -= _pairs_of(kept[-1])
    return sorted(kept, key=every.index)


def _pairs_of(combination: tuple[Any, ...]) -> set[Any]:
    return set(combinations(enumerate(combination), 2))
