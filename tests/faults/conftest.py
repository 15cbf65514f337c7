"""What the fault campaigns share: one launcher over the product as it stands."""

from collections.abc import Iterator

import pytest

from tests.faults.processes import Launcher, launching


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    with launching() as started:
        yield started
