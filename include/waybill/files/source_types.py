"""What a source says of its columns, so that a consumer can make a table that holds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waybill.configuration.catalog import Entity
from waybill.configuration.values.columns import Column

if TYPE_CHECKING:
    from waybill.ledger.facts import NativeFacts
    from waybill.sources import Snapshot

_NUMBER = re.compile(r"(?:numeric|decimal|number|dec)\((\d+)(?:,\s*(-?\d+))?\)(?: unsigned)?", re.IGNORECASE)
_TEXT = re.compile(
    r"(?:character varying|character|varchar2?|nvarchar2?|char|nchar|bpchar|bit|bit varying|varbit|binary|varbinary|raw)\((\d+)\)",
    re.IGNORECASE,
)
_PSEUDONYM = 64
"""The number of hex digits of an HMAC-SHA256."""


@dataclass(frozen=True)
class Native:
    """The type as the source spells it. `nullable` is None if the source does not tell."""

    native_type: str
    nullable: bool | None
    restricts: bool = True
    """False if values need not fit the type (SQLite): a `varchar(9)` may hold any text there."""


def natives_of(snapshot: Snapshot, entity: Entity) -> dict[str, Native]:
    """Return what the source says of the entity's relation, by column. A driver that describes no types of a query tells nothing."""
    never_null = snapshot.never_null(entity)
    if entity.query and never_null is None:
        return {}
    restricting = snapshot.binding(entity)
    return {
        name: Native(native, None if never_null is None else name not in never_null, bool(restricting[name]))
        for name, native in snapshot.columns(entity).items()
    }


def facts(column: Column, native: Native | None) -> NativeFacts:
    """Return `nullable`, `precision`, `scale`, `length` and `native_type` of one delivered column. They are null if they are not known."""
    spelt = native.native_type if native else ""
    hidden = column.export == "anonymize"
    limits = spelt if native and native.restricts and not hidden else ""
    number, text = _NUMBER.fullmatch(limits), _TEXT.fullmatch(limits)
    length = _PSEUDONYM if hidden else int(text[1]) if text else None
    return {
        "nullable": native.nullable if native else None,
        "precision": int(number[1]) if number else None,
        "scale": int(number[2] or 0) if number else None,
        "length": length,
        "native_type": spelt or None,
    }
