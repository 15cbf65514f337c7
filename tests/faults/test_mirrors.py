"""A copy kept by `waybill-consumer` holds exactly the source's rows after every delivery, whatever happens to source and registration."""

import pytest

from tests.faults import FULL, SEED
from tests.faults.mirror import Mirror, books


@pytest.mark.parametrize("seed", range(SEED, SEED + (20 if FULL else 1)))
@pytest.mark.parametrize("kind", ["postgres", "duckdb", "lake", "sqlite"])
def test_a_copy_equals_the_source_after_every_delivery(launcher, tmp_path, request, kind, seed):
    mirror = Mirror(tmp_path, launcher, books(kind, tmp_path, lambda: request.getfixturevalue("postgres")), seed)
    for _ in mirror.steps(40 if FULL else 3):
        assert mirror.trouble == [], "\n".join(mirror.done[-40:])
    print(f"mirror {kind} {seed}: {mirror.compared} comparisons")
    assert mirror.compared
