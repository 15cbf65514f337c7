"""A thinned product keeps every pair, and FAULTS=full all of it."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tests.products import pairs

pytestmark = pytest.mark.fast

DIMENSIONS = [["postgres", "dbapi"], ["view", "query", "table"], list(range(12))]


def test_every_two_values_meet_in_fewer_combinations_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAULTS", raising=False)
    kept = pairs(*DIMENSIONS)
    for first, second in combinations(range(3), 2):
        met = {(combination[first], combination[second]) for combination in kept}
        assert met == set(product(DIMENSIONS[first], DIMENSIONS[second]))
    assert len(kept) == len(set(kept)) == 36
    assert pairs(*DIMENSIONS) == kept


def test_all_combinations_are_tried_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS", "full")
    assert pairs(*DIMENSIONS) == list(product(*DIMENSIONS))
