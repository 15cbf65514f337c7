"""Reads many rows of which one may be damaged, by a hand, a disk or another version of Waybill.

A damaged row must only hurt its own tenant.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Row, Select

DAMAGED = (ValueError, TypeError, LookupError, AttributeError)
"""What a value raises that is not what its column holds."""

UNREADABLE: dict[str, Any] = {"unreadable": True}
"""In place of a registration's body that is no JSON object: nothing that could be taken for one."""

_Made = TypeVar("_Made")
log = logging.getLogger(__name__)


def readable_rows(connection: Connection, query: Select[Any], by: Column[Any], make: Callable[[Any], _Made]) -> list[_Made]:
    """Return what `make` returns for each row of a query, in its order. A row that cannot be read is left out, and the log names it by the
    value of the column `by`.

    All rows are read at once. Only if that fails are they read value by value.
    """
    try:
        return [make(row) for row in connection.execute(query)]
    except DAMAGED:
        found: list[_Made] = []
    for value in dict.fromkeys(connection.execute(query.with_only_columns(by)).scalars()):
        try:
            found += [make(row) for row in connection.execute(query.where(by == value))]
        except DAMAGED as error:
            log.error("what the ledger holds in %s of %s %s cannot be read: %s", by.table.name, by.name, value, type(error).__name__)
    return found


def mapping(value: Any) -> dict[str, Any] | None:
    """Return the value if it is a JSON object, and None for anything else that may stand in its place."""
    return value if isinstance(value, dict) else None


def require(row: Row[Any], **kinds: type) -> dict[str, Any]:
    """Return a row's values. Raises TypeError if a named one is of another kind."""
    values = dict(row._mapping)
    if wrong := [name for name, kind in kinds.items() if not isinstance(values[name], kind)]:
        raise TypeError(", ".join(wrong))
    return values


def json_or_text(text: str) -> Any:
    """Return a stored JSON value.

    Text that is no JSON is returned as it is, so that one damaged value cannot hide the rows read with it.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
