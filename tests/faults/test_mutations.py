"""The suite is honest: each known-bad variant of the product is caught, by an attack that finds nothing wrong with the product itself."""

import functools
from collections.abc import Callable

import pytest

from tests.faults.mutants import MUTANTS, Attack
from tests.faults.promise_mutants import PROMISE_MUTANTS
from tests.faults.row_mutants import ROW_MUTANTS
from tests.faults.secrecy_mutants import SECRECY_MUTANTS


@pytest.fixture(scope="module")
def found_in_the_product(launcher, tmp_path_factory) -> Callable[[Attack], list[str]]:
    """What an attack finds wrong with the product, which is the same for all the mutants that it is there for."""
    return functools.cache(lambda attack: attack(launcher, tmp_path_factory.mktemp("product") / "product"))


@pytest.mark.parametrize("mutant", [*MUTANTS, *PROMISE_MUTANTS, *ROW_MUTANTS, *SECRECY_MUTANTS], ids=lambda mutant: mutant.name)
def test_a_known_bad_variant_is_caught_and_the_product_is_not(launcher, tmp_path, mutant, found_in_the_product):
    with launcher.of(mutant.plant(tmp_path)) as of_the_mutant:
        caught = mutant.attack(of_the_mutant, tmp_path / "mutant")
    print(f"{mutant.name}: {len(caught)} violations, as {caught[:1]}")
    assert caught != []
    assert found_in_the_product(mutant.attack) == []
