"""Rewrites the footer of a Parquet file, so that it notes of its columns what other writers note. The rows stay as they are.

A footer is a structure in Thrift's compact protocol. It is read here as lists of fields, `[number, kind, value]`, without its schema.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_ROW_GROUPS, _COLUMNS, _META_DATA, _PATH, _STATISTICS = 4, 1, 3, 3, 12
MAX, MIN, NULL_COUNT, DISTINCT_COUNT, MAX_VALUE, MIN_VALUE = range(1, 7)
"""The fields of a column's statistics. `MAX` and `MIN` are the old ones, whose order nobody defined."""


def renote(path: Path, column: str, change: Callable[[dict[int, Any]], dict[int, Any]]) -> None:
    """Replace what each group of rows notes of a column: bounds are bytes, counts are numbers. Whether bounds are exact is left out."""
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    footer = _Reader(data[-8 - size : -8]).struct()
    for group in field(footer, _ROW_GROUPS)[1]:
        for chunk in field(group, _COLUMNS)[1]:
            meta = field(chunk, _META_DATA)
            if field(meta, _PATH)[1] != [column.encode()]:
                continue
            noted = {n: value for found, _, fields in meta if found == _STATISTICS for n, _, value in fields if n <= MIN_VALUE}
            kinds = {NULL_COUNT: 6, DISTINCT_COUNT: 6}
            changed = [[number, kinds.get(number, _BINARY), value] for number, value in sorted(change(noted).items())]
            meta[:] = sorted([*(entry for entry in meta if entry[0] != _STATISTICS), [_STATISTICS, _STRUCT, changed]])
    written = _struct(footer)
    path.write_bytes(data[: -8 - size] + written + len(written).to_bytes(4, "little") + b"PAR1")


def field(struct: list[Any], number: int) -> Any:
    return next(value for found, _, value in struct if found == number)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self) -> list[Any]:
        fields, last = [], 0
        while head := self._byte():
            last = last + (head >> 4) if head >> 4 else self._integer()
            fields.append([last, head & 15, self._value(head & 15)])
        return fields

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _natural(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    def _integer(self) -> int:
        value = self._natural()
        return value >> 1 ^ -(value & 1)

    def _bytes(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def _value(self, kind: int, listed: bool = False) -> Any:
        match kind:
            case 1 | 2:
                return self._byte() if listed else kind == _TRUE
            case 3:
                return self._byte()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._natural())
            case 9 | 10:
                head = self._byte()
                size = self._natural() if head >> 4 == 15 else head >> 4
                return head & 15, [self._value(head & 15, listed=True) for _ in range(size)]
            case 12:
                return self.struct()
        return self._integer()


def _struct(fields: list[Any]) -> bytes:
    written, last = b"", 0
    for number, kind, value in fields:
        is_flag, gap = kind in (_TRUE, _FALSE), number - last
        told = (_TRUE if value else _FALSE) if is_flag else kind
        head = bytes([gap << 4 | told]) if 0 < gap < 16 else bytes([told]) + _integer(number)
        written, last = written + head + (b"" if is_flag else _value(kind, value)), number
    return written + b"\0"


def _value(kind: int, value: Any) -> bytes:
    match kind:
        case 1 | 2 | 3:
            return bytes([value])
        case 7:
            return bytes(value)
        case 8:
            return _natural(len(value)) + value
        case 9 | 10:
            inner, items = value
            size = bytes([len(items) << 4 | inner]) if len(items) < 15 else bytes([0xF0 | inner]) + _natural(len(items))
            return size + b"".join(_value(inner, item) for item in items)
        case 12:
            return _struct(value)
    return _integer(value)


def _natural(value: int) -> bytes:
    written = b""
    while value > 127:
        written, value = written + bytes([value & 127 | 128]), value >> 7
    return written + bytes([value])


def _integer(value: int) -> bytes:
    return _natural(value * 2 if value >= 0 else -value * 2 - 1)
