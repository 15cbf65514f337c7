"""Reading many rows of which one may be damaged, by a hand, a disk or another version: it must hurt its own tenant alone."""

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


def sound(connection: Connection, query: Select[Any], by: Column[Any], make: Callable[[Any], _Made]) -> list[_Made]:
    """What each row of a query makes, in its order. Of rows that cannot be read the log tells, by the value of the column `by`.

    All are read at once; only where that fails, value by value.
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
    """A JSON object, None for anything else that may stand in its place."""
    return value if isinstance(value, dict) else None


def require(row: Row[Any], **kinds: type) -> dict[str, Any]:
    """A row's values. Raises TypeError where a named one is of another kind."""
    values = dict(row._mapping)
    if wrong := [name for name, kind in kinds.items() if not isinstance(values[name], kind)]:
        raise TypeError(", ".join(wrong))
    return values


def json_or_text(text: str) -> Any:
    """A stored JSON value; text that is none as it is, so that one damaged value cannot hide the rows read with it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
