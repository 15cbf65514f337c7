"""The suite is honest: each known-bad variant of the product is caught, by an attack that finds nothing wrong with the product itself."""

import pytest

from tests.faults.mutants import MUTANTS
from tests.faults.row_mutants import ROW_MUTANTS
from tests.faults.secrecy_mutants import SECRECY_MUTANTS


@pytest.mark.parametrize("mutant", [*MUTANTS, *ROW_MUTANTS, *SECRECY_MUTANTS], ids=lambda mutant: mutant.name)
def test_a_known_bad_variant_is_caught_and_the_product_is_not(launcher, tmp_path, mutant):
    caught = mutant.attack(launcher.of(mutant.plant(tmp_path)), tmp_path / "mutant")
    print(f"{mutant.name}: {len(caught)} violations, as {caught[:1]}")
    assert caught != []
    assert mutant.attack(launcher, tmp_path / "product") == []
