"""Every mutant names a text of today's code, so that a change of the code is told at once, not by the campaign that plants them."""

import pytest

from tests.faults.mutants import MUTANTS
from tests.faults.processes import REPOSITORY
from tests.faults.promise_mutants import PROMISE_MUTANTS
from tests.faults.row_mutants import ROW_MUTANTS
from tests.faults.secrecy_mutants import SECRECY_MUTANTS

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("mutant", [*MUTANTS, *PROMISE_MUTANTS, *ROW_MUTANTS, *SECRECY_MUTANTS], ids=lambda mutant: mutant.name)
def test_the_text_of_a_mutant_occurs_once_in_the_code(mutant):
    assert (REPOSITORY / "include" / "waybill" / mutant.file).read_text().count(mutant.before) == 1
