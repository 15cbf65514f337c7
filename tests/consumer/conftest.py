"""Databases a copy is kept in: each test that asks for one runs in all three."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consumer.sender import Sender
from tests.servers.postgres import Database


def url_of(database: Database) -> str:
    return f"postgresql://{database.user}@{database.host}:{database.port}/{database.name}"


@pytest.fixture(params=["sqlite", "duckdb", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "postgresql":
        return url_of(request.getfixturevalue("postgres"))
    return f"{request.param}:{tmp_path}/copy.{request.param}"


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    """A sender that has delivered nothing yet."""
    return Sender(tmp_path / "in")
