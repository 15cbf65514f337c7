"""`columns: all except [..]`: `columns.lock.yaml` lists every column that a source had when `waybill apply` first saw the entity.

A column that the source gets later is not in the list, so it is not delivered by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from waybill.configuration.catalog import Entity

LOCK = "columns.lock.yaml"
_OPEN = re.compile(r"\s*all(?:\s+except\s+(\[.*\]))?\s*", re.DOTALL)
_HEAD = """\
# Written by `waybill apply`: what `columns: all except [..]` of the catalog stands for. Keep it with the catalog, under version control.
# To take up columns that the source got later, add them here, or take the entity out and apply again.
"""


@dataclass(frozen=True)
class Unfrozen:
    """An entity whose columns are `all except` these and are not locked yet. It is no part of the catalog so far."""

    entity: Entity
    without: tuple[str, ...]


def excluded(columns: Any) -> tuple[str, ...] | None:
    """Return the columns that an open list leaves out, or None for anything else."""
    found = _OPEN.fullmatch(columns) if isinstance(columns, str) else None
    if found is None:
        return None
    try:
        names = yaml.load(found[1] or "[]", yaml.BaseLoader)  # noqa: S506 (it makes nothing but texts of scalars)
    except yaml.YAMLError:
        return None
    return tuple(names) if all(isinstance(name, str) for name in names) else None


def listed(body: Mapping[str, Any], frozen: Any) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """Return an entity's words with a list of columns in place of an open one, and what the open one leaves out while there is no lock.

    Without a lock, the key stands for the columns, so that the rest can be checked.
    """
    without = excluded(body.get("columns"))
    if without is None:
        return dict(body), None
    if isinstance(frozen, dict):
        return {**body, "columns": {name: column for name, column in frozen.items() if name not in without}}, None
    key = body.get("key")
    return {**body, "columns": {str(name): {"type": "string"} for name in (key if isinstance(key, list) else [key])}}, without


def text(frozen: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the lock file that holds these columns, by entity."""
    return _HEAD + yaml.safe_dump({name: dict(columns) for name, columns in frozen.items()}, sort_keys=False, allow_unicode=True)


def beside(catalog: Path) -> Path:
    """Return where the lock file of a catalog is."""
    return catalog.with_name(LOCK)
