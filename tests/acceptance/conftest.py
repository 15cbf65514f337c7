"""Each test module has a constant PRESET and gets that product as its fixture `shop`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.issuer import TestIssuer
from tests.presets import Shop, opened


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, issuer: TestIssuer) -> Iterator[Shop]:
    with opened(request.module.PRESET, tmp_path, issuer) as shop:
        yield shop
