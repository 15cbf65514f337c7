"""The columns of a delivery: how the ledger keeps them, and how they follow those of the file before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waybill.configuration.values.columns import Column
from waybill.files.source_types import Native
from waybill.ledger.facts import ColumnFacts
from waybill.registrations.filling import followed, source_of


def as_json(columns: Mapping[str, Column], filled_from: Mapping[str, int], natives: Mapping[str, Native]) -> list[ColumnFacts]:
    """Return the columns in file order, as the ledger keeps them."""
    found: list[ColumnFacts] = []
    for name, column in columns.items():
        found.append({"name": name, "type": column.type.value, "description": column.description, "export": column.export})
        if column.source(name) != name:
            found[-1]["source_name"] = column.source(name)
        if name in filled_from:
            found[-1]["filled_from_sequence"] = filled_from[name]
        if native := natives.get(column.source(name)):
            found[-1] |= {"native_type": native.native_type, "nullable": native.nullable}
    return found


def from_json(columns: Sequence[ColumnFacts]) -> dict[str, Column]:
    return {
        column["name"]: Column.model_validate(
            {
                "type": column["type"],
                "description": column["description"],
                "export": column["export"],
                "from": column.get("source_name", ""),
            }
        )
        for column in columns
    }


def arranged(delivered: Sequence[ColumnFacts] | None, version: int, catalogued: Mapping[str, Column]) -> tuple[dict[str, Column], int]:
    """Return the columns of the next file and its schema version.

    The columns of the last file come first, in its order and under the names they have now. Columns that the catalog has gained since then
    follow in catalog order. The version rises by one when the name, the type, the anonymization or the source of a column has changed. A
    changed description does not raise it.
    """
    if delivered is None:
        return dict(catalogued), version
    now = {delivered_column["name"]: name for name, delivered_column in followed(delivered, catalogued).items()}
    kept = [now[delivered_column["name"]] for delivered_column in delivered if delivered_column["name"] in now]
    columns = {name: catalogued[name] for name in [*kept, *(name for name in catalogued if name not in kept)]}
    before = [
        (delivered_column["name"], delivered_column["type"], delivered_column["export"], source_of(delivered_column))
        for delivered_column in delivered
    ]
    after = [(name, column.type.value, column.export, column.source(name)) for name, column in columns.items()]
    return columns, version + (before != after)


def altered(delivered: Sequence[ColumnFacts] | None, natives: Mapping[str, Native]) -> bool:
    """Return whether the source holds a delivered column in another native type now, or lets it be NULL otherwise than before.

    A consumer who made a table by the manifest may have to alter it. What is not known on both sides is not compared.
    """
    for column in delivered or ():
        native = natives.get(source_of(column))
        now = (native.native_type, native.nullable) if native else (None, None)
        was = column.get("native_type"), column.get("nullable")
        if any(one != other for one, other in zip(was, now, strict=True) if one is not None and other is not None):
            return True
    return False


def same_texts(some: Mapping[str, Column], other: Mapping[str, Column]) -> bool:
    """Return whether two sets of columns give every row the same texts."""
    spelt = [{(column.source(name), column.type, column.export) for name, column in columns.items()} for columns in (some, other)]
    return spelt[0] == spelt[1]
