"""Makes example rows from the types alone. They are never rows of a tenant."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator

from waybill.canonical import ColumnType, csv_line
from waybill.configuration.selection import FileStyle
from waybill.kits.tables import Field, Subject

ROWS = 3
"""The last row holds NULL wherever it may be."""


def samples(subject: Subject) -> Iterator[tuple[str, bytes]]:
    """Return a data file of each entity, and a deletes file if it has one, in the tenant's dialect but not compressed."""
    for table in subject.tables:
        yield f"samples/{table.id}.csv", sample(table.fields, subject.style)
        if table.deletes:
            yield f"samples/{table.id}.deletes.csv", sample(table.gone, subject.style)


def sample(fields: tuple[Field, ...], style: FileStyle) -> bytes:
    lines: list[list[str | None]] = [[field.name for field in fields]]
    lines += [_row(fields, row) for row in range(ROWS)]
    text = "".join(csv_line(line, style.delimiter, style.line_end) for line in lines)
    return (b"\xef\xbb\xbf" if style.bom else b"") + text.encode()


def _row(fields: tuple[Field, ...], row: int) -> list[str | None]:
    """Return a record. It is never one of NULL alone, which would be an empty line if there is one column."""
    found = [None if row == ROWS - 1 and not field.is_key and field.nullable is not False else _value(field, row) for field in fields]
    return found if any(found) else [_value(field, 0) for field in fields]


def _value(field: Field, row: int) -> str:
    match field.type:
        case ColumnType.INTEGER:
            return str(row + 1)
        case ColumnType.DECIMAL:
            return _decimal(field, row)
        case ColumnType.FLOAT:
            return ("0.1", "1e+15", "-2.5")[row]
        case ColumnType.BOOLEAN:
            return ("true", "false", "true")[row]
        case ColumnType.DATE:
            return f"2026-01-{row + 29}"
        case ColumnType.TIMESTAMP:
            return f"2026-01-{row + 29}T08:30:00.000000Z"
        case ColumnType.UUID:
            return str(uuid.UUID(int=row + 1, version=4))
        case ColumnType.JSON:
            return ('{"example":[1,null]}', "[]", "{}")[row]
        case ColumnType.BINARY:
            return base64.b64encode(f"example {row + 1}".encode()).decode()
    return _text(field, row)


def _text(field: Field, row: int) -> str:
    if field.is_key:
        text = f"example-{row + 1}"
        return text[-field.length :] if field.length else text
    return ("example", 'a "quoted" text,\nof two lines', "")[row][: field.length]


def _decimal(field: Field, row: int) -> str:
    scale = 2 if field.scale is None else max(field.scale, 0)
    whole = "0" if field.precision is not None and field.precision <= scale else str(row + 1)
    return f"{whole}.{'5' * scale}" if scale else whole
