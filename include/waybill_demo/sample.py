"""The sample of a preset: its catalogue, policy and people from `examples/<preset>`, and the data that they are about."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from waybill.errors import PermanentError
from waybill_demo.stage import checkout

PRESETS = ("studies", "realms", "metrics", "types")
TENANT = "acme"
"""The tenant of people whose entry names none."""

PLANTED = "planted-credential-"
"""What the data holds in the place of a real credential. No export may show it."""


@dataclass(frozen=True)
class Sample:
    """One preset's installation below `folder`. `people` are the claims of everybody's token, by name. The first one may ask for `ask`."""

    preset: str
    folder: Path
    people: dict[str, dict[str, Any]]

    @property
    def ask(self) -> Path:
        return self.folder / "ask.json"

    @property
    def config_dir(self) -> Path:
        return self.folder / "config"


def prepare(preset: str, folder: Path, until: datetime, planted: str = PLANTED) -> Sample:
    """Make configuration and warehouse in a folder, with data up to `until`. The same arguments give the same rows.

    Raises PermanentError if there is no such sample, or no checkout to take it from.
    """
    if preset not in PRESETS:
        raise PermanentError(f"there is no sample of a preset {preset!r}", allowed=", ".join(PRESETS), code="unknown_preset")
    project = checkout()
    example, config = project / "examples" / preset, folder / "config"
    config.mkdir(parents=True)
    for name in ("catalog.yaml", "policy.yaml"):
        shutil.copy(example / name, config)
    shutil.copy(example / "ask.json", folder)
    shutil.copytree(project / "config" / "presets", config / "presets")
    _build(example / "data.sql", folder / "warehouse.duckdb", until, planted)
    return Sample(preset, folder, _people(example / "people.yaml"))


def _build(script: Path, warehouse: Path, until: datetime, planted: str) -> None:
    import duckdb

    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute("set variable today = ?::timestamptz", [until.isoformat()])
        connection.execute("set variable planted = ?", [planted])
        connection.execute(script.read_text())


def _people(path: Path) -> dict[str, dict[str, Any]]:
    import yaml

    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())
    return {name: {"sub": name, "name": name.title(), "tenant": TENANT, "scope": "read write", **claims} for name, claims in found.items()}
